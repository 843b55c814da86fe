"""Estimates, comparisons and verdicts."""
