"""Checks the error rates of the verdicts."""
