"""A study before it runs: its file, definition, cells and planned trials, and the typed form that the database has."""
