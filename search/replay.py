"""`python -m search.replay`: run a trial again from its record and compare the losses."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING

from search.command_line import new_program
from search.errors import user_errors
from search.reading_options import ReplayOptions

if TYPE_CHECKING:
    from search.workers.replay import Comparison

EXIT_NO_MATCH = 1


def replay(options: ReplayOptions) -> None:
    """Run a trial again from its record and compare the losses.

    The replay ends at the last step that the trial reached. It exits with 0 if the losses match, and with 1 if not; the
    result names what differs from the recorded run, such as the code.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    with user_errors():
        from search.study.corpus import corpus_of_file, read_corpus
        from search.study.lookup import open_studies
        from search.study.user_modules import extend_sys_path, module_folder
        from search.workers.replay import read_recorded_trial, replay_trial

        database, [name] = open_studies(
            options.study, options.storage, options.storage_wait_s, baselines=False, outdated="refuse"
        )
        with database.closing():
            recorded = read_recorded_trial(database, name, options.trial)
        extend_sys_path(module_folder(options.study))
        text = read_corpus(recorded.study.definition.objective, options.corpus, corpus_of_file(options.study))
        comparison = replay_trial(recorded, text, options.device, _show_nothing if options.quiet else _show)
    if options.json:
        print(json.dumps(comparison.as_dict(), indent=2))
    else:
        _print(comparison)
    raise SystemExit(0 if comparison.met else EXIT_NO_MATCH)


def _show(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _show_nothing(text: str) -> None:
    pass


def _print(comparison: Comparison) -> None:
    then, now = (_loss(loss) for loss in (comparison.recorded, comparison.again))
    step = "" if comparison.step is None else f", step {comparison.step}"
    print(
        f"trial {comparison.trial} of {comparison.study}{step}: recorded {then}, replayed {now}: {comparison.verdict}"
    )
    if comparison.advice:
        print(comparison.advice, file=sys.stderr)


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
