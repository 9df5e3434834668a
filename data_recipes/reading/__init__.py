"""Sources to documents: files in many formats and Hub datasets, read in units that can be read again."""
