"""The early-warning study: runs that are made to diverge and runs that are not, and what warns of the former."""
