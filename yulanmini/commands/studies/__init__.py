"""The verbs of the studies of training dynamics, a file a study or a group of them."""
