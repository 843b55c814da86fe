"""A private PostgreSQL server in a folder of its user, for hosts that share the folder."""
