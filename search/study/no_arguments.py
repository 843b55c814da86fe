"""A study's own code gets no command line: the arguments of its process are those of lm-search."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


class ArgumentsMissing(SystemExit):
    """argparse refuses an empty command line; by default it prints its usage and exits.

    Attributes:
        message: What argparse says.
    """

    def __init__(self, message: str) -> None:
        super().__init__(2)
        self.message = message

    def __str__(self) -> str:
        return f"argparse: {self.message}; an objective gets no command line: give each argument a default"


@contextmanager
def without_arguments() -> Iterator[list[str]]:
    """Run code of a study with an empty command line.

    Yields:
        A list that gets the name of each program whose command line the code reads with argparse.
    """
    arguments, error, parse = sys.argv, ArgumentParser.error, ArgumentParser.parse_known_args
    read: list[str] = []

    def refuse(parser: ArgumentParser, message: str) -> NoReturn:
        raise ArgumentsMissing(message)

    def note(parser: ArgumentParser, args: Any = None, namespace: Any = None, **others: Any) -> Any:
        if args is None:
            read.append(parser.prog)
        return parse(parser, args, namespace, **others)

    sys.argv = arguments[:1]
    ArgumentParser.error = refuse  # type: ignore[assignment, method-assign]
    ArgumentParser.parse_known_args = note  # type: ignore[assignment, method-assign]
    try:
        yield read
    finally:
        sys.argv = arguments
        ArgumentParser.error = error  # type: ignore[method-assign]
        ArgumentParser.parse_known_args = parse  # type: ignore[method-assign]
