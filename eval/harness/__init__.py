"""The bridge to lm-evaluation-harness: published benchmarks with their settings, models to ask, results as rows."""
