"""Documents to documents: text put into one form, and copies dropped."""
