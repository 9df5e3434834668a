"""Cards: their numbers with the place each is from, their tables, their text."""
