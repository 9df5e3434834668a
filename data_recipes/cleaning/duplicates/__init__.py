"""Documents that are copies of others: an external sort, MinHash, true similarity, and which one is kept."""
