"""Loss spikes: finding them, and the rows that cause them."""
