"""A function of a notebook or a script as a module: worker processes cannot import what `__main__` defines.

The module has the function's source, and what that uses: other functions and classes of `__main__` as source, imports,
and other values as they are at this moment, written as literals or pickled.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import io
import linecache
import pickle
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from search.errors import UsageError

# A longer literal is pickled.
MAX_LITERAL = 1_000
_PER_MODULE = frozenset({"__name__", "__builtins__", "__doc__", "__package__", "__loader__", "__spec__"})
_HEADER = '"""What `{name}` of a notebook or a script needs, written by run_study: change it there."""'


@dataclass
class MainSource:
    """The parts of a module, collected by name.

    Attributes:
        imports, literals: A line of source for each name.
        submodules: The modules that are used as attributes of a package; importing that alone need not load them.
        definitions: The source of functions and classes, in the order in which they can be executed.
        pickled: The values that are neither.
    """

    namespace: Mapping[str, Any]
    imports: dict[str, str] = field(default_factory=dict)
    submodules: set[str] = field(default_factory=set)
    literals: dict[str, str] = field(default_factory=dict)
    definitions: dict[str, str] = field(default_factory=dict)
    pickled: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str) -> None:
        """Add what a name stands for, and what that uses."""
        value = self.namespace[name]
        if isinstance(value, ModuleType):
            self.imports[name] = f"import {value.__name__}" + ("" if value.__name__ == name else f" as {name}")
        elif is_of_main(value):
            self._add_definition(name, value)
        elif (line := _import_line(name, value)) is not None:
            self.imports[name] = line
        elif (literal := _literal(value)) is not None:
            self.literals[name] = f"{name} = {literal}"
        else:
            self.pickled[name] = value

    def _add_definition(self, name: str, value: Any) -> None:
        if not value.__qualname__.isidentifier():
            raise UsageError(
                f"{value.__qualname__} is defined inside another function, whose variables worker processes do not "
                "have; define it at the top level"
            )
        text = source_of(value)
        self.definitions[name] = ""  # a function may use itself
        self.submodules.update(_submodules(text, self.namespace))
        for used in _names(text):
            is_known = used in self.definitions or used in self.imports or used in self.literals or used in self.pickled
            if used in self.namespace and not is_known and used not in _PER_MODULE:
                self.add(used)
        del self.definitions[name]  # after what it uses
        self.definitions[name] = text if value.__name__ == name else f"{text}\n\n{name} = {value.__name__}"

    def as_python(self, name: str, pickle_file: str) -> str:
        """The module's source.

        Args:
            name: The function that it is for.
            pickle_file: The name of the file with `pickled_bytes`, beside the module.
        """
        lines = [_HEADER.format(name=name), "", "from __future__ import annotations", ""]
        # First: each also binds the name of its package, which may stand for something else here.
        lines += [*(f"import {module}" for module in sorted(self.submodules)), *self.imports.values()]
        if self.pickled:
            opened = f'(pathlib.Path(__file__).parent / "{pickle_file}").open("rb")'
            lines += ["import pathlib", "import pickle", "", f"with {opened} as values:"]
            lines += ["    globals().update(pickle.load(values))"]
        lines += ["", *self.literals.values()]
        return "\n".join([*lines, *(f"\n\n{text.rstrip()}" for text in self.definitions.values()), ""])

    def pickled_bytes(self) -> bytes:
        """The pickled values.

        Raises:
            UsageError: A value cannot be pickled.
        """
        for name, value in self.pickled.items():
            try:
                _Pickler(io.BytesIO()).dump(value)
            except Exception as error:
                raise UsageError(
                    f"the objective uses {name!r}, which worker processes cannot get ({error}); make it inside the "
                    "function, or put the function into a file, such as train.py, and pass train.objective"
                ) from error
        return pickle.dumps(self.pickled)


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if is_of_main(obj):
            raise UsageError(f"its class or function {obj.__qualname__} is defined in the notebook or script")
        return NotImplemented


def is_of_main(value: Any) -> bool:
    """Whether a function or class is defined in the notebook or script."""
    # An instance has its class's module too, but no such name.
    return getattr(value, "__module__", None) == "__main__" and isinstance(getattr(value, "__qualname__", None), str)


def collect(function: Callable[..., Any]) -> MainSource:
    """What a function of `__main__` needs.

    Raises:
        UsageError: It is no top-level function, or its source is not known.
    """
    name = getattr(function, "__name__", "")
    namespace = vars(sys.modules["__main__"])
    if namespace.get(name) is not function:
        raise UsageError(
            f"the objective {function!r} has no name at the top level of the notebook or script; define it there with "
            "def, or put it into a file, such as train.py, and pass train.objective"
        )
    found = MainSource(namespace)
    found.add(name)
    return found


def source_of(value: Any) -> str:
    """The source of a function or class, without the indentation of its first line.

    Raises:
        UsageError: It is not known.
    """
    try:
        text = textwrap.dedent(inspect.getsource(value))
        ast.parse(text)
    except (OSError, TypeError, SyntaxError, IndentationError) as error:
        if isinstance(value, type) and (found := _class_in_cells(value)) is not None:
            return found
        raise UsageError(
            f"the source of {value.__qualname__} is not known; put it into a file, such as train.py, and pass "
            "train.objective"
        ) from error
    return text


def _class_in_cells(kind: type) -> str | None:
    """The source of a class of a notebook, which `inspect` finds only from Python 3.13 on: the newest cell has it."""
    for _, _, lines, _ in [each for each in reversed(linecache.cache.values()) if len(each) == 4]:
        text = "".join(lines)
        if f"class {kind.__name__}" not in text:
            continue
        try:
            nodes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
        except SyntaxError:
            continue
        for node in nodes:
            if node.name == kind.__name__:
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    return None


def _names(text: str) -> list[str]:
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    return sorted(used)


def _submodules(text: str, namespace: Mapping[str, Any]) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Attribute) or (package := _module_at(node.value, namespace)) is None:
            continue
        if _submodule(package, node.attr) is not None:
            yield f"{package.__name__}.{node.attr}"


def _module_at(node: ast.expr, namespace: Mapping[str, Any]) -> ModuleType | None:
    """The module that an expression such as `a` or `a.b` stands for."""
    if isinstance(node, ast.Attribute):
        package = _module_at(node.value, namespace)
        return None if package is None else _submodule(package, node.attr)
    found = namespace.get(node.id) if isinstance(node, ast.Name) else None
    return found if isinstance(found, ModuleType) else None


def _submodule(package: ModuleType, name: str) -> ModuleType | None:
    found = sys.modules.get(f"{package.__name__}.{name}")
    return found if getattr(package, name, None) is found else None


def _import_line(name: str, value: Any) -> str | None:
    module, qualified = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualified, str) or not qualified.isidentifier():
        return None
    if getattr(builtins, name, None) is value or getattr(sys.modules.get(module), qualified, None) is not value:
        return None
    return f"from {module} import {qualified}" + ("" if qualified == name else f" as {name}")


def _literal(value: Any) -> str | None:
    try:
        text = repr(value)
        is_same = len(text) <= MAX_LITERAL and repr(ast.literal_eval(text)) == text
    except Exception:  # a value of any class
        return None
    return text if is_same else None


def module_files(module: str, function: Callable[..., Any]) -> dict[str, bytes]:
    """The files of the module of a function of `__main__`, by name: its source, and pickled values if it needs them.

    Args:
        module: The name to give it.

    Raises:
        UsageError: As for `collect`; or a value that it uses cannot be pickled.
    """
    found = collect(function)
    pickled = found.pickled_bytes()
    values = {f"{module}.pickle": pickled} if found.pickled else {}
    sys.modules.pop(module, None)  # an earlier version of it
    return {f"{module}.py": found.as_python(function.__name__, f"{module}.pickle").encode(), **values}
