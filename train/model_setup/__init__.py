"""The model of a run: its parametrization, parameter groups, sharding and recomputation."""
