"""Worker processes that are really killed, stopped and led astray."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from small import small_spec

from autopeft.errors import DataError
from autopeft.execute import local
from autopeft.execute.executor import Ended, Rung, Step
from autopeft.execute.local import LocalExecutor
from autopeft.spec_file import read_spec
from autopeft.trial import TrialSpec, TrialState
from autopeft_searchspace.configuration import Component, Configuration

STEPS = 6
LORA = Component("lora", 4, (0, 5), ("q", "v"), {"alpha": 8})


def trial(number: int, learning_rate: float = 1e-3, steps: int = STEPS) -> TrialSpec:
    return TrialSpec(number, Configuration((LORA,), learning_rate), 0, (steps // 2, steps))


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalExecutor]:
    folder = tmp_path_factory.mktemp("local")
    spec, home = read_spec(small_spec(folder), environ={})
    with_workers = LocalExecutor(spec, home, ["cpu"], folder / "worker.log")
    with_workers.start(1, calibrate=False)
    yield with_workers
    with_workers.close()


def follow(executor: LocalExecutor, *, at_step: int | None = None, go_on: bool = True) -> tuple[list[Rung], Ended | None]:
    """Rungs and end of the running trial; returns early at the first step event where `at_step` is given."""
    rungs = []
    for _ in range(600):
        for event in executor.events(0.2):
            if isinstance(event, Rung):
                rungs.append(event)
                executor.answer(event.number, go_on)
            elif isinstance(event, Ended):
                return rungs, event
            elif at_step is not None and isinstance(event, Step):
                return rungs, None
    raise AssertionError("the trial did not end")


def test_a_trial_ends_with_its_observations(executor: LocalExecutor) -> None:
    executor.submit(trial(0))
    assert executor.free == 0
    rungs, end = follow(executor)
    assert end is not None
    assert (end.state, end.reason) == (TrialState.COMPLETE, "")
    assert [r.observation.step for r in rungs] == [3, 6]
    assert "search.accuracy" in rungs[0].observation.measurements
    assert "confirm.accuracy" not in rungs[0].observation.measurements
    last = rungs[1].observation.measurements
    assert 0 <= last["confirm.accuracy"].value <= 1
    assert last["measured_peak_memory_bytes"].value > 80e6
    assert executor.free == 1


def test_the_same_trial_gives_the_same_numbers_whatever_ran_before(executor: LocalExecutor) -> None:
    curves = []
    for learning_rate in (1e-3, 5e-2, 1e-3):
        executor.submit(trial(1, learning_rate))
        rungs, _ = follow(executor)
        curves.append((rungs[-1].observation.curve, rungs[-1].observation.measurements["search.accuracy"]))
    assert curves[0] == curves[2] != curves[1]


def test_a_rung_can_stop_a_trial(executor: LocalExecutor) -> None:
    executor.submit(trial(2))
    rungs, end = follow(executor, go_on=False)
    assert end is not None
    assert end.state is TrialState.EARLY_STOPPED
    assert [r.observation.step for r in rungs] == [3]


def test_a_diverging_trial_is_infeasible(executor: LocalExecutor) -> None:
    executor.submit(trial(3, learning_rate=1e30))
    _, end = follow(executor)
    assert end is not None
    assert end.state is TrialState.INFEASIBLE
    assert "diverged" in end.reason


def test_a_configuration_that_cannot_be_built_fails_alone(executor: LocalExecutor) -> None:
    wrong = Configuration((Component("lora", 4, (99,), ("q",), {"alpha": 8}),), 1e-3)
    executor.submit(TrialSpec(4, wrong, 0, (STEPS,)))
    _, end = follow(executor)
    assert end is not None
    assert end.state is TrialState.FAILED
    assert "0..5" in end.reason


@pytest.mark.parametrize(
    ("how", "state", "reason"),
    [
        (signal.SIGKILL, TrialState.FAILED, "signal 9, not for lack of memory"),
        (signal.SIGSEGV, TrialState.FAILED, "SIGSEGV"),
        (signal.SIGSTOP, TrialState.FAILED, "no sign of life"),
    ],
)
def test_a_dead_or_hanging_worker_is_replaced(executor: LocalExecutor, how: signal.Signals, state: TrialState, reason: str) -> None:
    executor.submit(trial(5, steps=4000))
    follow(executor, at_step=1)
    executor.silence_seconds = 3.0 if how is signal.SIGSTOP else float("inf")
    os.kill(executor._workers[0].process.pid, how)
    _, end = follow(executor)
    executor.silence_seconds = float("inf")
    assert end is not None
    assert end.state is state
    assert reason in end.reason
    executor.submit(trial(6))
    _, end = follow(executor)
    assert end is not None
    assert end.state is TrialState.COMPLETE


@pytest.mark.slow
def test_a_worker_that_grows_is_replaced_between_trials(executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    executor.submit(trial(7))
    follow(executor)
    before = executor._workers[0].process.pid
    monkeypatch.setattr(local, "MOST_GROWTH_BYTES", -executor._workers[0].first_bytes)  # a worker may also shrink
    executor.submit(trial(8))
    _, end = follow(executor)
    assert end is not None
    assert list(executor.events(0)) == []
    assert executor._workers[0].process.pid != before
    assert executor.free == 1


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_starts_is_started_again(executor: LocalExecutor) -> None:
    def kill_the_first(device: str, *, calibrate: bool) -> object:
        worker = plain(device, calibrate=calibrate)
        if not killed:
            killed.append(worker.process.pid)
            os.kill(worker.process.pid, signal.SIGKILL)
        return worker

    killed: list[int] = []
    plain, executor._launch = executor._launch, kill_the_first
    try:
        executor._replace(executor._workers[0])
    finally:
        executor._launch = plain
    assert killed
    assert executor.free == 1
    executor.submit(trial(9))
    assert follow(executor)[1].state is TrialState.COMPLETE


def test_what_a_worker_cannot_load_is_said_as_it_was_there(tmp_path: Path) -> None:
    path = small_spec(tmp_path)
    (tmp_path / "data" / "train.jsonl").write_text('{"txt": "a", "label": 1}\n', "utf-8")
    spec, home = read_spec(path, environ={})
    refused = LocalExecutor(spec, home, ["cpu"], tmp_path / "worker.log")
    with pytest.raises(DataError, match="text"):
        refused.start(1, calibrate=False)
    refused.close()


@pytest.mark.slow
def test_workers_side_by_side_give_the_same_numbers(tmp_path: Path) -> None:
    spec, home = read_spec(small_spec(tmp_path), environ={})
    two = LocalExecutor(spec, home, ["cpu", "cpu"], tmp_path / "worker.log", 1)
    try:
        found = two.start(None, calibrate=True)
        assert (len(two), two.free, found["threads"]) == (2, 2, 1)
        assert found["seconds_per_step"] > 0 < found["evaluation_seconds"]
        two.submit(trial(0))
        two.submit(trial(1))
        assert two.free == 0
        curves = {}
        ended = 0
        while ended < 2:
            for event in two.events(0.2):
                if isinstance(event, Rung):
                    curves[event.number] = event.observation.curve
                    two.answer(event.number, True)
                ended += isinstance(event, Ended)
    finally:
        two.close()
    assert curves[0] == curves[1]
