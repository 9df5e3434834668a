"""A repo before it is published: its names, its folder, and the files of the run that it is made from."""
