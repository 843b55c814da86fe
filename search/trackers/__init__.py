"""Trackers receive a study's evaluations as they happen: files, and services that draw curves."""
