"""`python -m benchmarks.compare`: this service compared with common alternatives."""
