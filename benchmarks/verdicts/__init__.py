"""Checks the error rates of the verdicts: `python -m benchmarks.verdicts`."""
