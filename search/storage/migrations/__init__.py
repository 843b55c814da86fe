"""Migrations of our tables, with alembic; Optuna migrates its own tables.

A revision is a file in versions/, named 0003_what_it_does.py, with `revision`, `down_revision` and `upgrade()`. To add
one, write the file and raise `search.storage.schema.SCHEMA_VERSION`. There are no downgrades: restore a copy of the
database instead.
"""
