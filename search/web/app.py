"""The dashboard as a WSGI application: optuna-dashboard behind access checks."""

from __future__ import annotations

from wsgiref.types import WSGIApplication

from search.storage.artifact_store import ArtifactStore
from search.storage.errors import StorageError
from search.web.access import Access
from search.web.auth_middleware import AuthMiddleware
from search.web.lazy_app import LazyApp
from search.web.response_policy import ResponsePolicy


def protected_dashboard(storage: str, artifacts: ArtifactStore | None, access: Access) -> WSGIApplication:
    """The dashboard behind access checks; until the database is ready it answers with the reason.

    Args:
        storage: The URL of the database.
        artifacts: The artifact store whose files it serves; None for none.
        access: Which requests it answers.
    """

    def open_app() -> WSGIApplication:
        import optuna_dashboard

        from search.storage.connect import open_database
        from search.storage.migrations.runner import OptunaAlone
        from search.storage.optuna_storage import SearchStorage

        # Studies that Optuna alone made can be shown too, and are left as they are.
        alone: OptunaAlone = "write" if access.is_writable else "read"
        database = open_database(storage, create=False, wait_s=0, outage_s=30, optuna_alone=alone)
        served: WSGIApplication = optuna_dashboard.wsgi(SearchStorage(database), artifact_store=artifacts)
        return served

    return ResponsePolicy(AuthMiddleware(LazyApp(open_app, (StorageError,)), access))
