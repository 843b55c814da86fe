"""`python -m search.replay`: run a trial again from its record, and say whether its loss is met."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING

from search.command_line import new_program
from search.errors import user_errors
from search.options import ReplayOptions

if TYPE_CHECKING:
    from search.workers.replay import Verdict

EXIT_NOT_MET = 1


def replay(options: ReplayOptions) -> None:
    """Run a trial again from its record and compare the losses.

    It runs up to the last step that the trial reached.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    with user_errors():
        from search.study.corpus import corpus_of_file, read_corpus
        from search.study.lookup import open_studies
        from search.study.user_modules import extend_sys_path, module_folder
        from search.workers.replay import read_recorded_trial, rerun

        database, [name] = open_studies(
            options.study, options.storage, options.storage_wait_s, baselines=False, outdated="refuse"
        )
        with database.closing():
            past = read_recorded_trial(database, name, options.trial)
        extend_sys_path(module_folder(options.study))
        text = read_corpus(past.study.definition.objective, options.corpus, corpus_of_file(options.study))
        verdict = rerun(past, text, options.device, _say_nothing if options.quiet else _say)
    if options.json:
        print(json.dumps(verdict.as_dict(), indent=2))
    else:
        _print(verdict)
    raise SystemExit(0 if verdict.met else EXIT_NOT_MET)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _say_nothing(text: str) -> None:
    pass


def _print(verdict: Verdict) -> None:
    from search.workers.replay import CHAOS

    recorded, again = (_loss(loss) for loss in (verdict.recorded, verdict.again))
    wanted = "exactly" if verdict.tolerance is None else f"within {verdict.tolerance:g}, elsewhere than it was trained"
    print(
        f"trial {verdict.trial} of {verdict.study}, step {verdict.step}: recorded {recorded}, again {again}: "
        f"{'met' if verdict.met else 'not met'} ({wanted})"
    )
    if not verdict.met and verdict.tolerance is not None:
        print(CHAOS, file=sys.stderr)


def _loss(loss: float | None) -> str:
    return "not finite" if loss is None else repr(loss)


EXAMPLES = (
    ("trial 7 of the built-in study", "--trial 7"),
    ("a trial of another study, on a GPU", "--study my_study --trial 0 --device cuda"),
)
app = new_program(replay, ReplayOptions, EXAMPLES, study="bigram")


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
