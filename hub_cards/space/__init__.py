"""A Space: a page on the Hub where anyone can talk to the instruct model and look at the report of its run."""
