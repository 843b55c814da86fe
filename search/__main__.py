"""`lm-search`, also `python -m search`: every program of `search` as a subcommand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

from search.command_line import one_line_errors
from search.hints import PACKAGE, called_as
from search.streams import make_streams_tolerant

# Each subcommand is a module search.<name> with an `app`.
PROGRAMS = ("run", "worker", "report", "status", "dashboard", "replay", "delete", "export", "import", "database")
DEFAULT_PROGRAM = "run"


class _Commands(Mapping[str, Any]):
    """The subcommands by name, each imported on first use."""

    def __getitem__(self, name: str) -> Any:
        if name not in PROGRAMS:
            raise KeyError(name)
        return get_command(import_module(f"search.{name}").app)

    def __iter__(self) -> Iterator[str]:
        return iter(PROGRAMS)

    def __len__(self) -> int:
        return len(PROGRAMS)


class _Programs(TyperGroup):
    """A group that reads `lm-search --study NAME` as `lm-search run --study NAME`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = cast(Any, _Commands())  # Typer assigns to it only while it builds the group

    def main(self, *args: Any, **extra: Any) -> Any:
        make_streams_tolerant()  # before the help is printed
        return super().main(*args, **extra)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        flags = {flag for each in self.get_params(ctx) for flag in each.opts}
        if args and args[0].startswith("-") and args[0].partition("=")[0] not in flags:
            args = [DEFAULT_PROGRAM, *args]
        return super().parse_args(ctx, args)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        with one_line_errors(str(info_name)):
            return super().make_context(info_name, args, parent, **extra)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        with one_line_errors(ctx.command_path, PROGRAMS):
            return super().resolve_command(ctx, args)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Examples"):
            for what, arguments in EXAMPLES:
                formatter.write(f"  # {what}\n  {ctx.command_path} {arguments}\n")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        try:
            print(f"lm-search {version('lm-search')}")
        except PackageNotFoundError:  # a checkout that is not installed
            print("lm-search (not installed)")
        raise typer.Exit


def top_level(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Search hyperparameters: train every cell of a study in parallel workers that share one database.

    Without a subcommand, `run` is assumed: lm-search --study bigram.
    """


EXAMPLES = (
    ("train the built-in study", "run --study bigram"),
    ("print its ranked table", "report --study bigram"),
)
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.callback(cls=_Programs, no_args_is_help=True)(top_level)


def main(form: str = PACKAGE) -> None:
    """Entry point.

    Args:
        form: How the user has called it.
    """
    called_as(form)
    app(prog_name="lm-search")  # completion scripts need a program name; `python -m search` has none


if __name__ == "__main__":
    main()
