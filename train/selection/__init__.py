"""Which dialogues to train on for a purpose: by the similarity of their gradients, and by the variety of their tags."""
