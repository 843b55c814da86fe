"""`python -m benchmarks.pruning`: pruners replayed on measured curves."""
