"""Turns an options class into a program: a Typer application with examples and with options that only warn."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING
from inspect import Parameter, Signature
from typing import Annotated, Any, TypeVar, get_origin

import typer
from typer.core import TyperCommand

from search.hints import command_of
from search.imports import without_plugins
from search.option_fields import OptionField, Options, option_fields
from search.storage.texts import printable
from search.streams import make_streams_tolerant, write_line

MAX_MESSAGE = 3_800

AnyOptions = TypeVar("AnyOptions", bound=Options)

# A description and the arguments.
Example = tuple[str, str]


def new_program(
    function: Callable[[AnyOptions], None],
    options: type[AnyOptions],
    examples: Sequence[Example],
    *,
    ignored: type[Options] | None = None,
    short: bool = False,
    **defaults: Any,
) -> typer.Typer:
    """Make a program that parses its command line and calls `function`.

    Args:
        function: Takes an instance of `options`; its docstring is the help.
        options: The options class.
        examples: Examples for the end of the help.
        ignored: Options of other programs, which this one accepts with a warning.
        short: Whether the program ends within seconds; it then runs without garbage collection, which would take a
            third of the time to start, and without plugins of pydantic.
        defaults: Defaults that apply to this program only.

    Returns:
        The program's Typer application.
    """
    ignored_fields = option_fields(ignored) if ignored is not None else ()

    def program(**values: Any) -> None:
        try:
            os.getcwd()
        except FileNotFoundError as error:
            write_line("error: the working directory does not exist any more; change to another folder", sys.stderr)
            raise SystemExit(2) from error
        given = {each.flag: values.pop(each.name) for each in ignored_fields}
        if flags := [flag for flag, value in given.items() if value]:
            print(
                f"warning: {', '.join(flags)}: no effect in {command_of(function.__name__)}, which never changes a "
                f"study; use it with: {command_of('run')} --plan-only",
                file=sys.stderr,
            )
        # For a repeatable option without a value Typer passes None; the options class has an empty tuple.
        with _short() if short else nullcontext():
            function(options(**{name: value for name, value in values.items() if value is not None}))

    parameters = [
        *(_parameter(each, defaults.get(each.name, each.default)) for each in option_fields(options)),
        *(_parameter(each, None, is_ignored=True) for each in ignored_fields),
    ]
    program.__name__, program.__doc__ = function.__name__, function.__doc__
    program.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what Typer reads
    program.__annotations__ = {each.name: each.annotation for each in parameters}
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(cls=type("ProgramCommand", (_Command,), {"examples": tuple(examples)}))(program)
    return app


@contextmanager
def _short() -> Iterator[None]:
    # Libraries create a hundred thousand lasting objects as they load, and the collector would scan them repeatedly.
    gc.disable()
    try:
        with without_plugins():
            yield
    finally:
        gc.enable()


@contextmanager
def one_line_errors(path: str, choices: Sequence[str] = ()) -> Iterator[None]:
    """Print an error in a command line as one line, which ends with the next step, and exit with code 2.

    Args:
        path: The command, such as "lm-search run".
        choices: What the user can write instead.
    """
    try:
        yield
    except Exception as error:
        # Typer has click's classes of its own, or uses those of an installed click.
        say = getattr(error, "format_message", None)
        if say is None or type(error).__name__ == "NoArgsIsHelpError":
            raise
        named = f"; choices: {', '.join(choices)}" if choices else ""
        message = printable(" ".join(say().split()), MAX_MESSAGE).rstrip(".")
        write_line(f"error: {message}{named}; see: {path} --help", sys.stderr)
        raise SystemExit(2) from error


class _Command(TyperCommand):
    """A command whose help ends with examples, which use the name that started the program."""

    examples: Sequence[Example] = ()

    def main(self, *args: Any, **extra: Any) -> Any:
        make_streams_tolerant()  # before the help is printed
        return super().main(*args, **extra)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        above = "" if parent is None else f"{parent.command_path} "
        with one_line_errors(f"{above}{info_name}"):
            return super().make_context(info_name, args, parent, **extra)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Examples"):
            for what, arguments in self.examples:
                formatter.write(f"  # {what}\n  {ctx.command_path} {arguments}\n")


def _parameter(each: OptionField, default: Any, *, is_ignored: bool = False) -> Parameter:
    """Return a function parameter with the annotation that Typer reads."""
    option, kind = each.option, each.type
    if get_origin(kind) is tuple:
        kind = list[str]
        if default is not MISSING:
            kind, default = list[str] | None, None
    if is_ignored:
        kind = kind | None
    if option.is_argument:
        argument = typer.Argument(help=option.help, metavar=option.metavar)
        return Parameter(each.name, Parameter.KEYWORD_ONLY, annotation=Annotated[kind, argument])
    info = typer.Option(
        "/".join(filter(None, (each.flag, each.opposite))),
        help=option.help + (f"  [default: {option.unset}]" if option.unset else ""),
        metavar=option.metavar,
        # Compose files and clusters set variables for all programs at once, so an ignored one needs no warning.
        envvar=None if is_ignored else option.env,
        min=option.minimum,
        max=option.maximum,
        hidden=option.hidden or is_ignored,
    )
    return Parameter(
        each.name,
        Parameter.KEYWORD_ONLY,
        default=Parameter.empty if default is MISSING else default,
        annotation=Annotated[kind, info],
    )
