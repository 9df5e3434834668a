"""Ids to rows: what each subset gives, where its documents go in a row, and the order of the rows."""
