"""Posts what happens in a study to a URL: its start, a new best, a failed trial, its end; Slack shows the text."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from search.errors import UsageError
from search.storage.texts import printable
from search.trackers.protocol import EndEvent, Event

TIMEOUT_S = 10.0


class WebhookTracker:
    """Posts JSON, {"text": …} with further fields. Trials that ended before this run are known, and not posted again.

    Args:
        target: The URL. It may be a secret, so no message shows more of it than its host.

    Raises:
        UsageError: It is no http or https URL.
    """

    def __init__(self, target: str) -> None:
        try:
            parts = urlsplit(target)
            host = parts.hostname if parts.scheme in ("http", "https") else None
        except ValueError:  # such as an unclosed bracket
            host = None
        if host is None:
            raise UsageError("name a URL, such as --track webhook:https://hooks.example.org/…")
        self._url, self._host = target, host
        self._best: dict[str, EndEvent] = {}
        self._outcomes: Counter[str] = Counter()
        self._has_begun = False

    def track(self, event: Event) -> None:
        """Post the first event of a run, and each end that is a new best or a failure.

        Raises:
            ConnectionError: The URL does not take it now.
        """
        if not event.is_earlier and not self._has_begun:
            self._post(f"{event.trial.study}: training has begun", {"study": event.trial.study})
            self._has_begun = True
        if not isinstance(event, EndEvent):
            return
        best = self._best.get(event.trial.study)
        is_best = event.loss is not None and (best is None or best.loss is None or event.loss < best.loss)
        if not event.is_earlier:
            if is_best:
                self._post(f"{event.trial.study}: new best {_described(event)}", _facts(event))
            elif event.outcome in ("failed", "diverged"):
                why = f": {event.reason}" if event.reason else ""
                self._post(f"{event.trial.study}: {event.outcome} {_described(event)}{why}", _facts(event))
            self._outcomes[event.outcome] += 1
        if is_best:
            self._best[event.trial.study] = event

    def _post(self, text: str, facts: Mapping[str, Any]) -> None:
        body = json.dumps({"text": text, **facts}, default=str).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                pass
        except (OSError, ValueError) as error:  # URLError is an OSError
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise ConnectionError(f"{self._host} did not take it: {printable(str(reason))}") from None

    def close(self) -> None:
        """Post how the run ended.

        Raises:
            ConnectionError: The URL does not take it now.
        """
        if not self._has_begun:
            return
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self._outcomes.items())) or "no trial"
        best = [f"; best {_described(event)}" for event in self._best.values()]
        self._post(f"the run has ended: {counts}{''.join(best)}", {"counts": dict(self._outcomes)})


def _described(event: EndEvent) -> str:
    values = " ".join(f"{name}={value}" for name, value in event.trial.cell.items())
    metrics = ", ".join(f"{name} {value:.6g}" for name, value in event.metrics.items())
    return f"trial {event.trial.number} of {event.trial.study} ({values}){': ' if metrics else ''}{metrics}"


def _facts(event: EndEvent) -> dict[str, Any]:
    trial = event.trial
    named = {"study": trial.study, "trial": trial.number, "outcome": event.outcome}
    return {**named, "cell": dict(trial.cell), "seed": trial.seed, "reason": event.reason}
