"""Task definitions of our own, in lm-eval's YAML, where the harness has none or another one."""
