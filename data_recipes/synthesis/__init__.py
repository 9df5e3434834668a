"""Generated documents: problems whose answers are computed, and Chinese prose whose content is."""
