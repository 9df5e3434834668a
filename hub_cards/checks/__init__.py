"""Everything that is checked of a repo before it is sent, without a network."""
