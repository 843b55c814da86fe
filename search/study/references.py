"""References to extensions: a registered name, or a user's "module:name"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.study.user_modules import import_user_module
from search.study.validation_messages import did_you_mean

_PACKAGE = Path(__file__).parent.parent
# These folders of the package are also linked at the top level of the repository.
_LINKED = ("models", "objectives")


def load_registered(named: str, name: str, registry: Mapping[str, str], first: Iterable[str] = ()) -> Any:
    """Load the class or function that a name stands for.

    Args:
        named: Where the name is written, for messages: "--launcher slurm".
        name: A key of `registry`, or "module:name".
        registry: Name → "module:name".
        first: Further choices that the message lists first.

    Raises:
        UsageError: The name is unknown, its module cannot be imported, or the module lacks the named object.
    """
    module_name, colon, attribute = registry.get(name, name).partition(":")
    if not colon or not module_name or not attribute:
        choices = [*first, *registry]
        raise UsageError(
            f"{named}: choices are {', '.join(choices)}, or your own as module:Class{did_you_mean(name, choices)}"
        )
    module = import_user_module(module_name, named)
    found = getattr(module, attribute, None)
    if found is None:
        raise UsageError(f"{named}: the module {module_name!r} has no {attribute!r}")
    return found


def full_reference(reference: Any, folders: Iterable[Path | None]) -> Any:
    """The full name of a reference to one of our modules; under another name the module would be loaded twice.

    "models.mine:Mine", typed in the repository, becomes "search.models.mine:Mine", unless one of the folders has
    another file models/mine.py.

    Args:
        reference: "module:name"; anything else is returned unchanged.
        folders: The folders with a study's own modules.
    """
    module, colon, _ = reference.partition(":") if isinstance(reference, str) else ("", "", "")
    parts = module.split(".")
    if not colon or parts[0] not in _LINKED or len(parts) < 2:
        return reference
    ours = _source(_PACKAGE, parts)
    if ours is None:
        return reference
    own = [found for folder in folders if folder is not None and (found := _source(folder, parts)) is not None]
    return reference if any(not found.samefile(ours) for found in own) else f"search.{reference}"


def full_cell(cell: Mapping[str, Any], folders: Iterable[Path | None]) -> dict[str, Any]:
    """A cell with the full name of its model; the values of an axis may be a list, too."""
    folders = list(folders)

    def full(value: Any) -> Any:
        return (
            [full_reference(each, folders) for each in value]
            if isinstance(value, list)
            else (full_reference(value, folders))
        )

    return {axis: full(value) if axis == "model" else value for axis, value in cell.items()}


def _source(folder: Path, parts: list[str]) -> Path | None:
    place = folder.joinpath(*parts)
    candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)
