"""Launchers start workers: on this machine, or elsewhere through the same protocol."""
