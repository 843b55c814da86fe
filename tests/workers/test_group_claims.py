"""Which trials a worker on an accelerator trains at the same time, and that it trains them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sample_study import CELLS, STUDY, change, sample_plan
from study_files import all_rows, opened, program, sqlite, write_corpus, write_study

from search.storage.database import Database
from search.storage.planning import plan
from search.storage.queue import TrialQueue
from search.study.user_modules import extend_sys_path
from search.workers.devices import GPU_WORKERS
from search.workers.group_claims import GroupClaims
from search.workers.group_size import GroupSizes
from search.workers.leased_trial import WorkerContext, WorkerStudy
from search.workers.setup import open_worker
from search.workers.user_code import UserCode

Share = Callable[[Mapping[str, Any]], float | None]


@pytest.fixture(params=["sqlite"])
def storage_url(tmp_path: Path) -> str:
    """The statements are tested on every database in tests/storage; here is what they are used for."""
    return f"sqlite:///{tmp_path / 'search.db'}"


@pytest.fixture
def queue(database: Database) -> TrialQueue:
    plan(database, [sample_plan(), sample_plan(study="other")])
    return TrialQueue(database)


def claims_of(queue: TrialQueue, shares: Mapping[str, Share | None], owner: str = "ann") -> GroupClaims:
    """What claims for a worker of some studies."""
    context = cast(WorkerContext, SimpleNamespace(queue=queue, user_code=UserCode()))
    studies = {
        name: cast(WorkerStudy, SimpleNamespace(stack_runs=list, memory_share=share, group_size=lambda *given: 3))
        for name, share in shares.items()
    }
    return GroupClaims(context, studies, owner)


def claimed(queue: TrialQueue, shares: Mapping[str, Share | None], owner: str = "ann") -> list[tuple[str, int]]:
    [first] = queue.claim(list(shares), owner)
    return [(lease.study, lease.number) for lease in (first, *claims_of(queue, shares, owner).more(first))]


def test_as_many_as_the_memory_holds_of_any_shape_and_study(queue: TrialQueue) -> None:
    by_width: Share = lambda cell: cell["n_embd"] / 512  # noqa: E731
    # By priority three of 1/8, and two of 1/4; the third of 1/4 does not fit, but the next of 1/8 does.
    assert claimed(queue, {STUDY: by_width}) == [(STUDY, i) for i in (0, 1, 2, 3, 4, 6)]


def test_studies_share_a_group(queue: TrialQueue) -> None:
    found = claimed(queue, {STUDY: lambda cell: 0.001, "other": lambda cell: 0.001})
    assert sorted(found) == sorted((study, number) for study in (STUDY, "other") for number in range(CELLS))


def test_what_must_train_alone_joins_no_group(queue: TrialQueue) -> None:
    share: Share = lambda cell: 1.0 if cell["pe_type"] == "rope" else 0.01  # noqa: E731
    assert len(claimed(queue, {STUDY: share})) == 8
    assert claimed(queue, {STUDY: share}, "bob") == [(STUDY, 2)]


def test_an_objective_without_shares_gets_groups_of_one_shape(queue: TrialQueue) -> None:
    for share in (None, lambda cell: None):
        assert len(claimed(queue, {STUDY: share}, str(share))) == 3


def test_an_error_of_a_share_leaves_the_trial_to_itself(queue: TrialQueue, caplog: pytest.LogCaptureFixture) -> None:
    def share(cell: Mapping[str, Any]) -> float:
        if cell["pe_type"] == "sinpe":
            raise ZeroDivisionError("made up")
        return 0.01

    with caplog.at_level(logging.DEBUG, logger="search"):
        assert len(claimed(queue, {STUDY: share})) == 8
    assert "ZeroDivisionError" in caplog.text or "made up" in caplog.text


def test_workers_share_what_waits(queue: TrialQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    small: Share = lambda cell: 0.001  # noqa: E731
    monkeypatch.setenv(GPU_WORKERS, "2")  # as a launcher says, before the other has claimed anything
    assert len(claimed(queue, {STUDY: small}, "ann")) == CELLS / 2
    monkeypatch.delenv(GPU_WORKERS)
    assert len(claimed(queue, {STUDY: small}, "bob")) == CELLS / 4  # two live workers
    assert len(claimed(queue, {STUDY: small}, "cid")) == 1


def test_groups_are_halved_after_an_error_and_grow_again(queue: TrialQueue) -> None:
    small: Share = lambda cell: 0.001  # noqa: E731
    claims = claims_of(queue, {STUDY: small})
    held = queue.claim([STUDY], "ann")
    held += claims.more(held[0])
    sizes = [len(held)]
    assert claims.failed(held) == 6
    for succeeded in (False, False, True, True):
        for lease in held:
            queue.release(lease)
        held = queue.claim([STUDY], "ann")
        held += claims.more(held[0])
        sizes.append(len(held))
        if succeeded:
            claims.succeeded()
        else:
            claims.failed(held)
    assert sizes == [12, 6, 3, 1, 2]


def test_sizes_of_one_shape() -> None:
    measured: list[str] = []

    def measure() -> int:
        measured.append("asked")
        return 5

    for fuse, device, size in (("off", "cuda:0", 1), ("7", "cuda:0", 7), ("auto", "cpu", 1), ("auto", "cuda:0", 5)):
        sizes = GroupSizes(fuse, device)
        assert [sizes.of("a", measure), sizes.of("a", measure)] == [size, size]
    assert measured == ["asked"]


OBJECTIVE = """
from search.objectives.language_model.accelerated_group import AcceleratedGroup
from search.objectives.language_model.objective import LanguageModelObjective

made = []


class Objective(LanguageModelObjective):
    def memory_share(self, cell, settings, corpus, device):
        return 0.01

    def stack_runs(self, runs):
        made.append(AcceleratedGroup(runs))
        return made[-1]
"""
ACCELERATED = """
objective = "on_accelerator:Objective"
[grid]
model = ["bigram_v2"]
block_size = [4, 8]
n_embd = [8]
pe_type = ["randn", "rope"]
[[baselines]]
model = "bigram"
block_size = 4
[training]
batch_size = 8
max_iters = 20
eval_interval = 10
sample_chars = 5
"""


def test_a_worker_trains_all_shapes_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU stands in for an accelerator."""
    monkeypatch.setattr(GroupSizes, "packs", True)
    (tmp_path / "on_accelerator.py").write_text(OBJECTIVE)
    extend_sys_path(tmp_path)
    corpus, study = write_corpus(tmp_path), write_study(tmp_path, ACCELERATED, "s")
    options = ("--study", study, "--storage", sqlite(tmp_path), "--corpus", corpus)
    planned = program("run", *options, "--plan-only", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    with opened(sqlite(tmp_path)).closing() as database:
        change(database, 2, "s", attempts=1)  # it used an attempt before, so it trains alone
    worker = open_worker(study, sqlite(tmp_path), "cpu", out=tmp_path / "out", corpus=Path(corpus))
    with worker.queue.database.closing():
        assert worker.run()
    import on_accelerator  # type: ignore[import-not-found]

    assert [len(group._needs) for group in on_accelerator.made] == [4]
    rows = all_rows(sqlite(tmp_path))
    assert {row["outcome"] for row in rows} == {"complete"}
    assert len(rows) == 5
    assert len({json.dumps(row["val_loss"]) for row in rows}) == 5
