"""A pretraining run: its folder, its inputs and outputs, resuming it, rolling it back."""
