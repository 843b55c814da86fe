"""The objective of a study that names no other: a next-character model trained on a text."""
