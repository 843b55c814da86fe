"""Our tables from version to version, with alembic; Optuna's tables are Optuna's business.

A revision is a file in versions/, named 0003_what_it_does.py, with `revision`, `down_revision` and `upgrade()`. To add
one, write the file and raise `search.storage.schema.SCHEMA_VERSION`. There is no way down but a copy of the database.
"""
