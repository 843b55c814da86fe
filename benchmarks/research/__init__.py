"""Checks the intervals of the analyses "transfer" and "scaling": `python -m benchmarks.research`."""
