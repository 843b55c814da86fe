"""What a trial costs whose cell a sampler chooses; see `benchmarks.sampler_throughput.__main__`."""
