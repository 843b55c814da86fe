"""Samplers and races, which choose the cells to train, and pruners, which stop trials."""
