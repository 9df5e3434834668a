"""Dialogues for instruction tuning: their forms, mixtures of open sets, the report's filters, preference pairs."""
