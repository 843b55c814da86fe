"""Which cells are trained, and which trials are stopped: samplers, races and pruners."""
