"""The default objective: a next-character model trained on a text."""
