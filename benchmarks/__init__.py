"""Measurements, each a program of its own: `python -m benchmarks.NAME`. Nothing here is part of the product."""
