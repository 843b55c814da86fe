"""The process that trains: the worker loop, leased trials, group sizes, devices, provenance and replay."""
