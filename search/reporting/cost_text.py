"""What a study has cost, as sentences, tables and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.reporting.escapes import markdown_text
from search.statistics.cost import Spent, StudyCost
from search.storage.process_costs import RunCost
from search.storage.texts import printable
from search.study.formatting import count_text, enough_digits, value_text

if TYPE_CHECKING:
    from search.statistics.estimate import Estimate

JOULES_PER_KWH = 3.6e6
MOST_VALUES = 30  # of an axis that has a table


@dataclass(frozen=True)
class CostTable:
    """What the trials of each value of an axis have taken.

    Attributes:
        axis: Its name.
        titles: Of the columns.
        rows: The texts of each value.
    """

    axis: str
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]


def cost_sentences(cost: StudyCost) -> list[str]:
    """What a study has cost; none if no trial has recorded anything."""
    spent, run = cost.spent, cost.run
    if not spent.trials and run is None:
        return []
    found = [f"Device time: {_device_time(cost)}."]
    if run is not None:
        found += [run_sentence(run), _energy(run)]
    if spent.flops is not None:
        found.append(f"Floating-point operations of the trials: {_operations(cost)}.")
    if cost.saved is not None:
        flops = "" if not cost.saved.flops else f" and {cost.saved.flops:.3g} floating-point operations"
        found.append(
            f"Saved by pruning: about {time_text(cost.saved.seconds)}{flops}, {cost.saved.share:.0%} of what all "
            "trials would have taken to their ends."
        )
    if (price := cost.price(cost.device_s)) is not None:
        found.append(
            f"Price of the device time: {_money(price)}{_currency(cost)}, at {cost.settings.per_device_hour:g}"
            f"{_currency(cost)} per hour of a device."
        )
    return found


def run_sentence(run: RunCost) -> str:
    """What whole processes have taken of CPUs."""
    return f"CPU time: {time_text(run.cpu_s)} of the workers and the run, start-up included."


def _device_time(cost: StudyCost) -> str:
    spent, run = cost.spent, cost.run
    states = ", ".join(f"{state} {time_text(each.seconds)}" for state, each in cost.by_state.items())
    of_states = f" ({states})" if len(cost.by_state) > 1 else ""
    of_trials = f"{time_text(spent.seconds)} for {count_text(spent.trials, 'trial')}{of_states}"
    if run is None:
        return of_trials
    return f"{time_text(run.device_s)} of {count_text(run.workers, 'worker')}, start-up included; {of_trials}"


def _operations(cost: StudyCost) -> str:
    flops, rate = cost.spent.flops, cost.spent.flops_s
    if rate is None or not flops:
        return f"{flops:.3g}"
    text = f"{flops:.3g}, {rate:.3g} per second of device time"
    if cost.peak_share is None:
        return text
    return f"{text}, {cost.peak_share:.1%} of the {cost.peak_flops:.3g} that a device can do ({cost.peak_source})"


def _energy(run: RunCost) -> str:
    if run.energy_j is None:
        return "Energy: not measured."
    some = "" if run.is_all_energy else ", of the devices that are measured"
    return f"Energy of the devices: {run.energy_j / JOULES_PER_KWH:.3g} kWh{some}."


def _money(price: float) -> str:
    return f"{price:.2f}" if price >= 0.1 or price == 0 else f"{price:.2g}"


def _currency(cost: StudyCost) -> str:
    return f" {printable(cost.settings.currency)}" if cost.settings.currency else ""


def estimate_line(estimate: Estimate | None) -> str:
    """What the trials that are left will take; "" if none is left."""
    if estimate is None or not estimate.trials:
        return ""
    flops = "" if estimate.flops is None else f", {estimate.flops:.3g} floating-point operations"
    text = f"{count_text(estimate.trials, 'trial')}{flops} if none is pruned"
    if estimate.seconds is None:
        return f"{text}; how long they take is known once a trial is complete"
    price = "" if estimate.price is None else f", {_money(estimate.price)} {printable(estimate.currency)}".rstrip()
    as_measured = f"as {count_text(estimate.timed, 'complete trial')} took"
    return f"{text}; about {time_text(estimate.seconds)} of devices{price}, {as_measured}"


def time_text(seconds: float) -> str:
    """A time in the unit that suits it."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds / 3600:.1f} h"


def cost_tables(cost: StudyCost) -> list[CostTable]:
    """A table for each axis that has few values."""
    found = []
    for axis, by_value in cost.by_axis.items():
        if len(by_value) <= MOST_VALUES:
            digits = enough_digits(value for value, _ in by_value)
            rows = [[value_text(value, digits), *_texts(cost, each)] for value, each in by_value]
            found.append(CostTable(printable(axis), _titles(cost), rows))
    return found


def _titles(cost: StudyCost) -> list[str]:
    flops = [] if cost.spent.flops is None else ["FLOPs", "FLOP/s"]
    price = [] if cost.settings.per_device_hour is None else [printable(cost.settings.currency) or "price"]
    return ["trials", "device time", "share", *flops, *price]


def _texts(cost: StudyCost, spent: Spent) -> list[str]:
    whole = cost.spent.seconds
    texts = [str(spent.trials), time_text(spent.seconds), f"{spent.seconds / whole:.0%}" if whole else ""]
    if cost.spent.flops is not None:
        texts += ["" if each is None else f"{each:.3g}" for each in (spent.flops, spent.flops_s)]
    price = cost.price(spent.seconds)
    return [*texts, *([] if price is None else [_money(price)])]


def cost_as_markdown(cost: StudyCost) -> str:
    """A section of the report; "" if no trial has recorded anything."""
    sentences = cost_sentences(cost)
    if not sentences:
        return ""
    lines = ["## Cost", "", *(f"- {markdown_text(each)}" for each in sentences)]
    for table in cost_tables(cost):
        titles = [table.axis, *table.titles]
        lines += ["", _line(titles), _line(["---", *["---:"] * len(table.titles)])]
        lines += [_line(row) for row in table.rows]
    return "\n".join([*lines, ""])


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(each if each.startswith('---') else markdown_text(each) for each in texts)} |"


def cost_as_dict(cost: StudyCost) -> Mapping[str, Any]:
    """The same as JSON: times in seconds, energy in joules; null for what is not known."""
    run, saved = cost.run, cost.saved
    return {
        "trials": _as_dict(cost, cost.spent),
        "by_state": {state: _as_dict(cost, each) for state, each in cost.by_state.items()},
        "by_axis": {
            axis: [{"value": value, **_as_dict(cost, each)} for value, each in found]
            for axis, found in cost.by_axis.items()
        },
        "run": None if run is None else run_as_dict(run),
        "saved_by_pruning": None
        if saved is None
        else {"trials": saved.trials, "seconds": saved.seconds, "flops": saved.flops, "share": saved.share},
        "peak_flops": cost.peak_flops,
        "share_of_peak": cost.peak_share,
        "price": cost.price(cost.device_s),
        "per_device_hour": cost.settings.per_device_hour,
        "currency": cost.settings.currency or None,
    }


def run_as_dict(run: RunCost) -> dict[str, Any]:
    """What whole processes have taken, as JSON."""
    times = {"workers": run.workers, "device_seconds": run.device_s, "cpu_seconds": run.cpu_s}
    return {**times, "energy_joules": run.energy_j, "all_energy_measured": run.is_all_energy}


def _as_dict(cost: StudyCost, spent: Spent) -> dict[str, Any]:
    found = {"trials": spent.trials, "seconds": spent.seconds, "flops": spent.flops, "flops_per_second": spent.flops_s}
    return {**found, "price": cost.price(spent.seconds)}
