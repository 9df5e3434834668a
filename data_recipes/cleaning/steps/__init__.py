"""The steps of the cleaning pipeline, one subject a module; each is found by its name."""
