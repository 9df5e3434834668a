"""From what a stage has made to the folder of a repo."""
