"""`python -m search.replay`: run a trial again from its record, and say whether its loss is met."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from search import options
from search.errors import user_errors

if TYPE_CHECKING:
    from search.workers.replay import Verdict

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
EXIT_NOT_MET = 1


@app.command()
def replay(
    trial: Annotated[int, typer.Option(help="Number of the trial.", metavar="N")],
    study: options.StudyOption = "bigram",
    storage: options.StorageOption = options.DEFAULT_STORAGE,
    corpus: options.CorpusOption = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N.  [default: cpu, or cuda if the trial ran there]")
    ] = None,
    storage_wait: options.StorageWaitOption = options.DEFAULT_STORAGE_WAIT_S,
    quiet: options.QuietOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Run a trial again from its record, up to the last step that it reached, and compare the losses."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    with user_errors():
        from search.study.corpus import corpus_of_file, read_corpus
        from search.study.lookup import open_studies
        from search.study.user_modules import extend_sys_path, module_folder
        from search.workers.replay import read_recorded_trial, rerun

        database, [name] = open_studies(study, storage, storage_wait, baselines=False, outdated="refuse")
        with database.closing():
            past = read_recorded_trial(database, name, trial)
        extend_sys_path(module_folder(study))
        text = read_corpus(past.study.definition.objective, corpus, corpus_of_file(study))
        verdict = rerun(past, text, device, _say_nothing if quiet else _say)
    if as_json:
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


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
