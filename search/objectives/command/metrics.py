"""The metrics of one attempt of a program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search.objectives.command.metric_lines import (
    COMMON_NAMES,
    GrowingFile,
    Parse,
    Row,
    json_row,
    pattern_row,
    plain_row,
)
from search.objectives.command.output import LOG, last_lines, shown
from search.objectives.command.settings import CommandSettings
from search.objectives.command.step_name import StepName
from search.objectives.errors import ObjectiveError
from search.objectives.generator_run import split_metrics
from search.objectives.protocol import Evaluation


@dataclass(frozen=True, eq=False)
class _Source:
    """A file with metrics, and what reads its lines."""

    file: GrowingFile
    parse: Parse


def check_pattern(settings: CommandSettings, metrics: Sequence[str]) -> None:
    """Check that the pattern finds what the study ranks by.

    Args:
        metrics: The names of the study's metrics.

    Raises:
        ObjectiveError: It has no group of a metric.
    """
    groups = [name for pattern in settings.patterns for name in pattern.groupindex]
    if groups and (missing := [metric for metric in metrics if metric not in groups]):
        steps = (*COMMON_NAMES, settings.step)
        names = [group for group in groups if group.lower() not in steps]
        other = f', or name another in the study file: metric = "{names[0]}"' if names and len(metrics) == 1 else ""
        raise ObjectiveError(
            f"the pattern has the groups {', '.join(groups)}, but not {missing[0]!r}, by which the study ranks; add "
            f"(?P<{missing[0]}>…){other}"
        )


class Metrics:
    """The metrics of one attempt: from its file or from its output, whichever first has the study's metric.

    Args:
        metric: The study's metric.
        folder: The trial's folder.
        others: The study's other metrics; an evaluation waits for those that follow on other lines of its step.

    Attributes:
        has_grown: Whether the last `read` found anything, also lines without a metric.

    Raises:
        ObjectiveError: The pattern lacks the metric.
    """

    def __init__(self, settings: CommandSettings, metric: str, folder: Path, others: Sequence[str] = ()) -> None:
        check_pattern(settings, [metric])
        self._settings, self._metric, self._others = settings, metric, others
        patterns = settings.patterns
        self._sources = [_Source(GrowingFile(folder / LOG), pattern_row(patterns) if patterns else plain_row)]
        if not patterns:
            self._sources.insert(0, _Source(GrowingFile(folder / settings.metrics), json_row))
        self._steps = {source: StepName(settings.step, metric) for source in self._sources}
        self._chosen: _Source | None = None
        self._names: dict[str, None] = {}
        self._at_step: float | None = None
        self._same_step: Row = {}
        self._is_held = False
        self._counters: Row = {}
        self._late: dict[int, Row] = {}
        self._final: Row = {}
        self._last_step: int | None = None
        self._has_begun = False
        self._earlier = {source: self._by_step(map(source.parse, source.file.earlier)) for source in self._sources}
        self.has_grown = False

    def _by_step(self, rows: Iterable[Row]) -> dict[int, Row]:
        """The rows of earlier attempts that have a step and the study's metric; a later one replaces an earlier one."""
        step_name = StepName(self._settings.step, self._metric)
        found: dict[int, Row] = {}
        for row in rows:
            name = step_name.of(row)
            if name is not None and row[name].is_integer():
                found.setdefault(int(row.pop(name)), {}).update(row)
        return {step: row for step, row in sorted(found.items()) if self._metric in row}

    def read(self, *, to_the_end: bool) -> list[tuple[int, Row]]:
        """The evaluations that are new.

        A program that goes on does not repeat those before its checkpoint. The first ones are therefore those that it
        wrote in earlier attempts: a worker that was killed may not have reported them.

        Args:
            to_the_end: Whether the program has ended.
        """
        found = self._read(to_the_end)
        if self._has_begun or not (found or (to_the_end and self._metric not in self._final)):
            return found
        self._has_begun = True
        rows = self._earlier_rows()
        before = [(step, row) for step, row in rows.items() if not found or step < found[0][0]]
        if before and not found:
            self._last_step = before[-1][0]
        return [*before, *found]

    def _earlier_rows(self) -> dict[int, Row]:
        sources = [source for source in self._sources if self._chosen in (None, source)]
        return next((rows for source in sources if (rows := self._earlier[source])), {})

    def _read(self, to_the_end: bool) -> list[tuple[int, Row]]:
        found = []
        self.has_grown = False
        for source in self._sources:
            lines = source.file.lines(to_the_end=to_the_end)
            self.has_grown |= source.file.has_grown
            if self._chosen not in (None, source):
                continue
            for row in map(source.parse, lines):
                if self._metric in row:
                    self._chosen = source
                found += self._evaluations(row, self._steps[source])
        return [*found, *self._released()] if to_the_end else found

    def take_late(self) -> Mapping[int, Row]:
        """The metrics of earlier evaluations that came after them, on other lines of their step, once."""
        late, self._late = self._late, {}
        return late

    def _evaluations(self, row: Row, step_name: StepName) -> list[tuple[int, Row]]:
        """The evaluations that a row completes: that of its step, or of the one before."""
        self._names.update(dict.fromkeys(row))
        name = step_name.of(row)
        if name is None:
            self._final.update(row)
            return []
        step = row.pop(name)
        if not step.is_integer():
            if self._metric not in row:  # a program can count its training otherwise than its evaluations
                return []
            raise ObjectiveError(f"the step {name} = {step} is no whole number; name another in [settings]: step = …")
        found: list[tuple[int, Row]] = []
        if step != self._at_step:
            found = self._released()
            self._at_step, self._same_step = step, {}
        if self._metric in row and step == self._last_step:
            self._check_counters(name, row)
            del row[self._metric]  # the first one counts
        if self._metric in row:
            self._hold(name, step, row)
        if step == self._last_step and not self._is_held:
            if late := {key: value for key, value in row.items() if key not in self._same_step}:
                self._late.setdefault(int(step), {}).update(late)
                self._same_step.update(late)
            return found
        self._same_step.update(row)
        if all(each in self._same_step for each in self._others):
            found += self._released()
        return found

    def _hold(self, name: str, step: float, row: Row) -> None:
        """Hold an evaluation until it has all metrics of the study."""
        if self._last_step is not None and step < self._last_step:
            raise _not_increasing(name, step, self._last_step)
        self._last_step, self._is_held, self._counters = int(step), True, _counters(row)

    def _check_counters(self, name: str, row: Row) -> None:
        """Refuse a second evaluation at one step if another counter, such as an epoch, has grown."""
        if any(value > self._counters.get(key, value) for key, value in _counters(row).items()):
            assert self._last_step is not None
            raise _not_increasing(name, self._last_step, self._last_step)

    def _released(self) -> list[tuple[int, Row]]:
        """The evaluation that is held, if there is one."""
        is_held, self._is_held = self._is_held, False
        return [(self._last_step, dict(self._same_step))] if is_held and self._last_step is not None else []

    def at_the_end(self, name: str, path: Path) -> Evaluation | None:
        """The result of a program without steps; None for one with steps.

        Raises:
            ObjectiveError: The program gave nothing that the study ranks by.
        """
        if self._last_step is not None:
            return None
        if self._metric in self._final:
            return Evaluation(1, *split_metrics(name, self._final, self._metric))
        if self._names:
            split_metrics(name, dict.fromkeys(self._names, 0.0), self._metric)
        if not self._settings.patterns:
            raise ObjectiveError(
                f"{name} gave no metric: it neither wrote {self._settings.metrics} in its folder, nor lines such as "
                f"step=1 {self._metric}=0.5 or JSON; give a pattern in [settings], and read {path}"
            )
        lines = last_lines(path)
        last = f"the last is {shown(lines[-1])}" if lines else "there is none"
        raise ObjectiveError(
            f"no line of the output matches the pattern {shown(str(self._settings.pattern))} ({last}); correct the "
            f"pattern in [settings], and read {path}"
        )


def _counters(row: Row) -> Row:
    return {name.lower(): value for name, value in row.items() if name.lower() in COMMON_NAMES}


def _not_increasing(name: str, step: float, before: float) -> ObjectiveError:
    return ObjectiveError(
        f"the program prints {name} = {int(step)} after {name} = {int(before)}; steps must increase: name another in "
        '[settings], such as step = "global_step", or step = "" for a program without steps'
    )
