"""The dashboard, what stands in front of it, and what is published to it."""
