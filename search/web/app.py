"""The dashboard as a WSGI application: optuna-dashboard behind access checks."""

from __future__ import annotations

from wsgiref.types import WSGIApplication

from search.storage.artifact_store import ArtifactStore
from search.storage.errors import StorageError
from search.web.auth_middleware import AuthMiddleware
from search.web.lazy_app import LazyApp


def gated_dashboard(
    storage: str, artifacts: ArtifactStore | None, *, writable: bool, token: str | None
) -> WSGIApplication:
    """The dashboard behind access checks; until the database is ready it answers with the reason.

    Args:
        storage: The URL of the database.
        artifacts: The artifact store whose files it serves; None for none.
        writable: Whether it allows requests that change something.
        token: The token that a visitor must present; None if it is open to all.
    """

    def open_app() -> WSGIApplication:
        import optuna_dashboard

        from search.storage.connect import open_database
        from search.storage.optuna_storage import SearchStorage

        database = open_database(storage, create=False, wait_s=0, outage_s=10)
        served: WSGIApplication = optuna_dashboard.wsgi(SearchStorage(database), artifact_store=artifacts)
        return served

    return AuthMiddleware(LazyApp(open_app, (StorageError,)), writable=writable, token=token)
