"""Measurements, each a separate program: `python -m benchmarks.NAME`. They are not part of the package `search`."""
