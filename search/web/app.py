"""The dashboard as a WSGI application: optuna-dashboard behind access checks."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING
from wsgiref.types import WSGIApplication

from search.storage.artifact_store import ArtifactStore
from search.storage.errors import StorageError
from search.web.access import Access
from search.web.auth_middleware import AuthMiddleware
from search.web.json_times import ZonedTimes
from search.web.lazy_app import LazyApp
from search.web.response_policy import ResponsePolicy
from search.web.shared_answers import SharedAnswers

if TYPE_CHECKING:
    from search.storage.optuna_storage import SearchStorage

log = logging.getLogger("search")


def protected_dashboard(url: str, artifacts: ArtifactStore | None, access: Access) -> WSGIApplication:
    """The dashboard behind access checks; until the database is ready it answers with the reason.

    Args:
        url: Of the database.
        artifacts: The artifact store whose files it serves; None for none.
        access: Which requests it answers.
    """

    def open_app() -> WSGIApplication:
        import optuna_dashboard

        from search.storage.connect import open_database
        from search.storage.dashboard_storage import DashboardStorage
        from search.storage.migrations.runner import OptunaAlone

        # Studies that Optuna alone made can be shown too, and are left as they are.
        alone: OptunaAlone = "write" if access.is_writable else "read"
        storage = DashboardStorage(open_database(url, create=False, wait_s=0, outage_s=30, optuna_alone=alone))
        served = ZonedTimes(optuna_dashboard.wsgi(storage, artifact_store=artifacts))
        app = SharedAnswers(_with_fast_pages(served, storage))
        # What was imported stays, and looking through it for garbage would stop all threads for 60 ms, again and again.
        gc.freeze()
        return app

    return ResponsePolicy(AuthMiddleware(LazyApp(open_app, (StorageError,)), access))


def _with_fast_pages(served: WSGIApplication, storage: SearchStorage) -> WSGIApplication:
    try:
        from search.web.study_pages import StudyPages
    except ImportError as error:
        # They use functions of optuna-dashboard that are not its public interface.
        log.warning("this version of optuna-dashboard shows large studies slowly: %s", error)
        return served
    return StudyPages(served, storage)
