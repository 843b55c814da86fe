"""What a study has cost, and how a report says it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from finished_studies import GRID, completed, ended_study, mixed, nothing
from sqlalchemy import text
from study_files import write_study

from search.errors import UsageError
from search.reporting.cost_text import cost_as_markdown, cost_sentences
from search.reporting.render import render
from search.reporting.report_data import read_report_data
from search.reporting.status_text import status_as_json, status_as_text
from search.statistics.cost import StudyCost
from search.storage.database import Database
from search.storage.process_costs import NO_DEVICE, ProcessCost, store_process
from search.storage.queries import study_uids
from search.study.definition import load_definition
from search.study.device_peaks import float32_peak

NAMES = ["small", "small-baselines"]
PRICED = f"{GRID}\n[cost]\nper_device_hour = 2.5\ncurrency = 'USD'\npeak_flops = 1e12\n"


def count_operations(database: Database, flops: float = 3e12) -> None:
    with database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO trial_user_attributes (trial_id, key, value_json)"
                " SELECT trial_id, 'flops', :flops FROM trial_user_attributes WHERE key = 'train_seconds'"
            ),
            {"flops": json.dumps(flops)},
        )


def cost_of(database: Database) -> StudyCost:
    cost = read_report_data(database, NAMES, with_trials=False).cost
    assert cost is not None
    return cost


def test_costs_of_trials(tmp_path: Path) -> None:
    # Of 27 trials 12 are complete, 12 were pruned half-way, and the baselines failed.
    with ended_study(tmp_path, mixed, study=PRICED) as database:
        count_operations(database)
        cost = cost_of(database)
    assert (cost.spent.trials, cost.spent.seconds, cost.spent.flops) == (27, 27 * 1.5, 27 * 3e12)
    assert {state: (each.trials, each.seconds) for state, each in cost.by_state.items()} == {
        "complete": (12, 18.0),
        "pruned": (12, 18.0),
        "failed": (3, 4.5),
    }
    assert cost.saved is not None
    assert (cost.saved.trials, cost.saved.seconds, cost.saved.flops) == (12, 18.0, 36e12)
    assert cost.saved.share == pytest.approx(18 / (18 + 27 * 1.5))
    assert cost.peak_share == pytest.approx(2.0)
    assert cost.price(3600) == 2.5
    assert [(value, each.trials) for value, each in cost.by_axis["block_size"]] == [(8, 15), (16, 12)]
    assert [(value, each.seconds) for value, each in cost.by_axis["n_embd"]] == [(64, 18.0), (128, 18.0)]
    assert [value for value, _ in cost.by_axis["pe_type"]] == ["randn", "rope"]


def test_nothing_is_said_of_a_study_that_cost_nothing(tmp_path: Path) -> None:
    with ended_study(tmp_path, nothing) as database:
        assert cost_sentences(cost_of(database)) == []
        assert "## Cost" not in render(database, NAMES, "markdown")
        assert "What it cost" not in render(database, NAMES, "html")


def test_costs_without_a_count_and_without_pruned_trials(tmp_path: Path) -> None:
    with ended_study(tmp_path, completed) as database:
        cost = cost_of(database)
        assert (cost.spent.flops, cost.saved, cost.run, cost.price(9), cost.peak_share) == (None,) * 5
        assert cost_sentences(cost) == ["Device time: 40.5 s for 27 trials."]
        # One trial without a count makes the sum wrong.
        count_operations(database)
        with database.engine.begin() as connection:
            connection.execute(text("DELETE FROM trial_user_attributes WHERE key = 'flops' AND trial_id = 5"))
        assert cost_of(database).spent.flops is None


def processes(database: Database) -> None:
    uid = study_uids(database, ["small"])["small"]
    store_process(database, uid, ProcessCost("a", "here/cpu-0/1-a", "cpu", 50.0, 60.0))
    store_process(database, uid, ProcessCost("b", "here/cpu-1/2-b", "cpu", 55.0, 60.0))
    store_process(database, uid, ProcessCost("c", "here/run/3-c", NO_DEVICE, 5.0, 65.0))


def test_every_format_says_it(tmp_path: Path) -> None:
    with ended_study(tmp_path, mixed, study=PRICED) as database:
        count_operations(database)
        processes(database)
        markdown, page = render(database, NAMES, "markdown"), render(database, NAMES, "html")
        found = json.loads(render(database, NAMES, "json"))["cost"]
        status, as_json = status_as_text(database, NAMES, None), status_as_json(database, NAMES, None)
        sentences = cost_sentences(cost_of(database))
    assert sentences == [
        "Device time: 120.0 s of 2 workers, start-up included; 40.5 s for 27 trials (complete 18.0 s, pruned 18.0 s, "
        "failed 4.5 s).".replace("120.0 s", "2.0 min"),
        "CPU time: 110.0 s of the workers and the run, start-up included.",
        "Energy: not measured.",
        "Floating-point operations of the trials: 8.1e+13, 2e+12 per second of device time, 200.0% of the 1e+12 that a "
        "device can do (peak_flops of the study file).",
        "Saved by pruning: about 18.0 s and 3.6e+13 floating-point operations, 31% of what all trials would have taken "
        "to their ends.",
        "Price of the device time: 0.083 USD, at 2.5 USD per hour of a device.",
    ]
    for sentence in sentences:
        assert f"- {sentence}" in markdown.replace("\\_", "_")
        assert f"<li>{sentence}</li>" in page
    assert "| n\\_embd | trials | device time | share | FLOPs | FLOP/s | USD |" in markdown.replace(
        "n_embd", "n\\_embd"
    )
    assert re.search(r"\| 128 \| 12 \| 18.0 s \| 44% \| 3.6e\+13 \| 2e\+12 \| 0.013 \|", markdown)
    assert found["run"] == {
        **{"workers": 2, "device_seconds": 120.0, "cpu_seconds": 110.0},
        **{"energy_joules": None, "all_energy_measured": False},
    }
    assert found["trials"]["flops"] == 81e12
    assert found["by_axis"]["n_embd"][0]["value"] == 64
    assert found["saved_by_pruning"]["seconds"] == 18.0
    assert found["price"] == pytest.approx(2.5 / 30)
    assert "CPU time: 110.0 s of the workers and the run, start-up included." in status
    assert json.loads(as_json)["cost"]["cpu_seconds"] == 110.0


def test_a_section_of_a_study_file(tmp_path: Path) -> None:
    file = write_study(tmp_path, PRICED)
    assert load_definition(file).cost.per_device_hour == 2.5
    assert load_definition(file, ["per_device_hour=3"]).cost.per_device_hour == 3.0
    wrong: Mapping[str, Any] = {
        "per_device_hour = -1": "per_device_hour",
        "per_device_hour = inf": "per_device_hour",
        "peak_flops = 0": "peak_flops",
        "price = 3": "price",
    }
    for line, key in wrong.items():
        file = write_study(tmp_path, f"{GRID}\n[cost]\n{line}\n")
        with pytest.raises(UsageError, match=key):
            load_definition(file)
    # It may change between two starts, and it is part of the study file that a report shows.
    with ended_study(tmp_path, completed, study=PRICED) as database:
        assert "[cost]\nper_device_hour = 2.5" in read_report_data(database, NAMES, with_trials=True).study_file()
    with ended_study(tmp_path, completed, study=GRID) as database:
        assert "[cost]" not in read_report_data(database, NAMES, with_trials=True).study_file()


def test_peaks_of_known_cards() -> None:
    assert float32_peak("NVIDIA H100 80GB HBM3") == 66.9e12
    assert float32_peak("NVIDIA H100 PCIe") == 51.2e12
    assert float32_peak("NVIDIA A100-SXM4-40GB") == 19.5e12
    assert float32_peak("NVIDIA L4") == 30.3e12
    assert float32_peak("NVIDIA L40S") == 91.6e12
    assert float32_peak("NVIDIA L40") is None
    assert float32_peak("") is None


def test_a_peak_needs_one_kind_of_device(tmp_path: Path) -> None:
    with ended_study(tmp_path, completed) as database:
        count_operations(database)
        records = ['{"gpu": "NVIDIA A100-SXM4-40GB"}', '{"device": "cpu"}']
        with database.engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO trial_user_attributes (trial_id, key, value_json)"
                    " SELECT trial_id, 'record', :record FROM trials"
                ),
                {"record": records[0]},
            )
        cost = cost_of(database)
        assert cost.peak_share == pytest.approx(2e12 / 19.5e12)
        assert "of an NVIDIA A100-SXM4-40GB" in cost_as_markdown(cost)
        with database.engine.begin() as connection:
            connection.execute(
                text("UPDATE trial_user_attributes SET value_json = :record WHERE key = 'record' AND trial_id = 3"),
                {"record": records[1]},
            )
        assert cost_of(database).peak_share is None
