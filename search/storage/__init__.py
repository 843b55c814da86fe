"""Everything that touches SQL or artifact files: storage URLs, the queue, Optuna's tables, migrations, artifacts."""
