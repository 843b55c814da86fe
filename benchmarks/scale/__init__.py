"""How the costs of a study grow with its trials; see `benchmarks.scale.__main__`."""
