"""QuAC, one question at a time."""
