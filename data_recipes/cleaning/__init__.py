"""Documents to documents: text normalised, copies dropped."""
