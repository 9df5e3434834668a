"""Cards and publishing: what goes to the Hub, written from the run's own files."""
