"""Generator functions as objectives: what they yield, how they end, and how they are gone on with."""

from __future__ import annotations

import functools
import logging
import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from search.objectives.corpus import encode
from search.objectives.errors import CheckpointError, ObjectiveError
from search.objectives.generator_run import GeneratorRun
from search.objectives.protocol import Evaluation
from search.objectives.registry import FunctionObjective, as_objective
from search.objectives.settings import TrainingSettings

SETTINGS = TrainingSettings(max_iters=30)
CORPUS = encode("text", "to be or not to be")


def descend(params: dict[str, Any], seed: int) -> Iterator[tuple[int, float, float]]:
    draw = random.Random(seed)
    x = params["start"]
    for step in (10, 20, 30):
        x = x / 2 + draw.random()
        yield step, x, x + 1


def run_of(function: Callable[..., Any], cell: dict[str, Any] | None = None, seed: int = 7) -> GeneratorRun:
    run = as_objective(function, "mine:loss").start(cell or {"start": 8.0}, seed, SETTINGS, None, "cpu")
    assert isinstance(run, GeneratorRun)
    return run


def to_the_end(run: GeneratorRun) -> list[Evaluation]:
    while not run.finished:
        run.advance(lambda: False)
    return run.curve


def yielding(*values: Any) -> Callable[..., Iterator[Any]]:
    def loss() -> Iterator[Any]:
        yield from values

    return loss


class TestWhatItTakes:
    def test_by_name_what_it_asks_for(self) -> None:
        taken: dict[str, Any] = {}

        def loss(device: str, corpus: Any, settings: Any, seed: int, params: Any, more: int = 3) -> Iterator[Any]:
            taken.update(device=device, corpus=corpus, settings=settings, seed=seed, params=params, more=more)
            yield 1, 2.0, 3.0

        cell = {"a": 1}
        objective = as_objective(loss, "mine:loss")
        assert objective.takes_corpus
        run = objective.start(cell, 5, SETTINGS, CORPUS, "cuda:1")
        assert isinstance(run, GeneratorRun)
        to_the_end(run)
        assert taken == {
            "device": "cuda:1", "corpus": CORPUS, "settings": SETTINGS, "seed": 5, "params": {"a": 1}, "more": 3,
        }  # fmt: skip
        assert taken["params"] is not cell

    def test_no_text_unless_it_asks(self) -> None:
        assert not as_objective(descend, "mine:loss").takes_corpus

    def test_decorated_and_partial_functions_are_generator_functions_too(self) -> None:
        @functools.wraps(descend)
        def wrapper(*arguments: Any, **named: Any) -> Any:
            return descend(*arguments, **named)

        expected = to_the_end(run_of(descend))
        assert to_the_end(run_of(wrapper)) == expected
        assert to_the_end(run_of(functools.partial(descend, params={"start": 8.0}), {"start": 8.0})) == expected

    def test_a_function_that_makes_a_run_is_left_alone(self) -> None:
        def start(cell: Any, seed: int, settings: Any, corpus: Any, device: str) -> Any: ...

        objective = as_objective(start, "mine:start")
        assert isinstance(objective, FunctionObjective)
        assert objective.function is start

    @pytest.mark.parametrize(
        ("found", "said"),
        [
            (3.5, r"objective = 'mine:loss' names 3\.5, which is not a function"),
            (lambda rate, seed: 1.0, r"takes rate, but a function can take only params, seed, settings, corpus"),
            (lambda cell, rate: 1.0, r"takes cell, rate, but a function can take only params, seed"),
        ],
    )
    def test_no_objective(self, found: Any, said: str) -> None:
        with pytest.raises(ObjectiveError, match=said):
            as_objective(found, "mine:loss")

    def test_unknown_argument(self) -> None:
        def loss(cell: Any, seed: int, rate: float) -> Iterator[Any]:
            yield 1, 2.0, 3.0

        expected = r"takes cell, rate, but .* can take only params, seed, settings, corpus, device, trial;"
        with pytest.raises(ObjectiveError, match=expected):
            as_objective(loss, "mine:loss")


class TestCurve:
    def test_same_seed_same_curve(self) -> None:
        curve = to_the_end(run_of(descend))
        assert [point.step for point in curve] == [10, 20, 30]
        assert curve == to_the_end(run_of(descend))
        assert curve != to_the_end(run_of(descend, seed=8))
        assert curve != to_the_end(run_of(descend, {"start": 9.0}))

    def test_last_evaluation_is_known_to_be_it_when_it_is_at_max_iters(self) -> None:
        run = run_of(descend)
        seen = [(run.advance(lambda: False), run.finished) for _ in range(3)]
        assert [(point and point.step, finished) for point, finished in seen] == [(10, False), (20, False), (30, True)]

    def test_function_that_ends_before_max_iters_repeats_its_last_evaluation(self) -> None:
        run = run_of(yielding((1, 2.0, 3.0), (2, 1.0, 2.0)))
        seen = [(run.advance(lambda: False), run.finished) for _ in range(3)]
        first, last = Evaluation.of_losses(1, 2.0, 3.0), Evaluation.of_losses(2, 1.0, 2.0)
        assert seen == [(first, False), (last, False), (last, True)]
        assert run.curve == [first, last]

    def test_nothing_is_lost_beyond_max_iters(self) -> None:
        run = run_of(yielding(*((step, 1.0, 1.0) for step in (20, 30, 40, 50))))
        assert [point.step for point in to_the_end(run)] == [20, 30, 40, 50]

    def test_numbers_of_other_libraries(self) -> None:
        numpy, torch = pytest.importorskip("numpy"), pytest.importorskip("torch")
        run = run_of(yielding((numpy.int64(1), numpy.float32(0.5), torch.tensor(0.25)), [torch.tensor(2), 1, 2]))
        curve = to_the_end(run)
        assert curve == [Evaluation.of_losses(1, 0.5, 0.25), Evaluation.of_losses(2, 1.0, 2.0)]
        assert {type(number) for number in (curve[0].step, curve[0].train_loss, curve[0].value)} == {int, float}

    def test_not_finite_is_diverged(self) -> None:
        for loss in (math.nan, math.inf):
            evaluation = run_of(yielding((1, 2.0, loss))).advance(lambda: False)
            assert evaluation is not None
            assert evaluation.diverged

    def test_time_is_measured(self) -> None:
        run = run_of(descend)
        to_the_end(run)
        assert 0 < run.describe()["train_seconds"] < 10


class TestFaults:
    @pytest.mark.parametrize(
        ("yielded", "said"),
        [
            (
                0.5,
                r'mine:loss yields 0\.5; it must yield step, value, or step, {"val_loss": value, …}, or step, train',
            ),
            ((1,), r"yields \(1,\); it must yield step, value"),
            ((1, {"val_loss": "low"}), r"yields \(1, \{'val_loss': 'low'\}\); it must yield step, value"),
            ((1, 0.5, 0.5, 0.5), r"it must yield step, value"),
            ((1.5, 0.5, 0.5), r"yields \(1\.5, 0\.5, 0\.5\); it must"),
            ((1, "low", 0.5), r"yields \(1, 'low', 0\.5\); it must"),
            ((1, None, 0.5), r"yields \(1, None, 0\.5\); it must"),
            ({"step": 1}, r"yields \{'step': 1\}; it must"),
            (["x" * 500], r"yields \['x{75}…; it must"),
            ((-1, 0.5, 0.5), r"yields step -1 first; steps must start at 0 or above and increase"),
            ((2**31, 0.5, 0.5), r"yields step 2147483648; the largest is 2147483647: count in thousands"),
        ],
    )
    def test_something_else(self, yielded: Any, said: str) -> None:
        with pytest.raises(ObjectiveError, match=said):
            run_of(yielding(yielded)).advance(lambda: False)

    @pytest.mark.parametrize("step", [3, 5])
    def test_steps_that_do_not_grow(self, step: int) -> None:
        run = run_of(yielding((5, 1.0, 1.0), (step, 1.0, 1.0)))
        run.advance(lambda: False)
        with pytest.raises(
            ObjectiveError, match=rf"yields step {step} after step 5; steps must start at 0 .* increase"
        ):
            run.advance(lambda: False)

    def test_nothing(self) -> None:
        with pytest.raises(ObjectiveError, match=r"mine:loss ended without yielding step, value"):
            run_of(yielding()).advance(lambda: False)

    def test_error_of_the_function_is_its_own(self) -> None:
        def loss(params: Any) -> Iterator[Any]:
            yield 1, params["absent"], 1.0

        with pytest.raises(KeyError, match=r"absent"):
            run_of(loss).advance(lambda: False)


class TestStopAndGo:
    def test_stops_at_a_yield_and_goes_on(self) -> None:
        run = run_of(yielding(None, None, (1, 2.0, 3.0), None, (2, 1.0, 2.0)))
        answers = iter([False, True])
        assert run.advance(lambda: next(answers)) is None
        assert not run.curve
        assert [point.step for point in to_the_end(run)] == [1, 2]

    @pytest.mark.parametrize("steps", [1, 2, 3])
    def test_restored_run_goes_on_after_what_is_known(self, steps: int) -> None:
        first = run_of(descend)
        for _ in range(steps):
            first.advance(lambda: False)
        again = run_of(descend)
        again.restore(first.save())
        assert again.curve == first.curve
        news = [again.advance(lambda: False) for _ in range(max(1, 3 - steps))]
        assert again.finished
        assert news == to_the_end(run_of(descend))[min(steps, 2) :]
        assert again.curve == to_the_end(run_of(descend))

    def test_restored_run_can_be_stopped_on_its_way(self) -> None:
        first, again = run_of(descend), run_of(descend)
        first.advance(lambda: False)
        first.advance(lambda: False)
        again.restore(first.save())
        answers = iter([False, True])
        assert again.advance(lambda: next(answers)) is None
        third = run_of(descend)
        third.restore(again.save())  # of a run that has come to the first of two known evaluations
        assert to_the_end(third) == to_the_end(run_of(descend))

    def test_function_that_does_not_repeat_itself_is_found_out(self, caplog: pytest.LogCaptureFixture) -> None:
        calls = iter([(1.0, 1.0, 1.0), (1.0, 1.5, 1.5)])

        def loss() -> Iterator[Any]:
            for step, value in enumerate(next(calls), 1):
                yield step, value, value

        first, again = run_of(loss), run_of(loss)
        for _ in range(3):
            first.advance(lambda: False)
        again.restore(first.save())
        with caplog.at_level(logging.WARNING):
            evaluation = again.advance(lambda: False)
        assert evaluation == Evaluation.of_losses(2, 1.5, 1.5)
        assert "mine:loss is not reproducible after step 1: " in caplog.text
        assert [point.value for point in to_the_end(again)] == [1.0, 1.5, 1.5]

    def test_function_that_ends_earlier_than_before(self, caplog: pytest.LogCaptureFixture) -> None:
        first, again = run_of(yielding((1, 1.0, 1.0), (2, 1.0, 1.0))), run_of(yielding((1, 1.0, 1.0)))
        to_the_end(first)
        again.restore(first.save())
        with caplog.at_level(logging.WARNING):
            assert to_the_end(again) == [Evaluation.of_losses(1, 1.0, 1.0)]
        assert "is not reproducible after step 1" in caplog.text

    def test_checkpoint_of_another_run(self) -> None:
        first = run_of(descend)
        first.advance(lambda: False)
        with pytest.raises(CheckpointError, match=r"it belongs to another run"):
            run_of(descend, seed=8).restore(first.save())

    @pytest.mark.parametrize("payload", [b"", b"{", b"\xff\xfe", b"[]", b'{"curve": [[1]]}', b'{"curve": [[1, 2, 3]]}'])
    def test_damaged_checkpoint(self, payload: bytes) -> None:
        with pytest.raises(CheckpointError, match=r"it is damaged|it belongs to another run"):
            run_of(descend).restore(payload)


def test_no_torch() -> None:
    code = "import sys, search.objectives.python_function; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
