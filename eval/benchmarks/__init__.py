"""The published benchmarks, one YAML a family: how each is set, and where every setting is from."""
