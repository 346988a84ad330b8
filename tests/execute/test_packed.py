"""The executor that trains several trials in one model, against the one that trains them one after another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
import yaml
from bench import lora, workbench
from safetensors.torch import load_file
from small import Quiet

from autopeft.coordinator import search
from autopeft.execute.executor import Ended, Rung
from autopeft.execute.local import LocalExecutor
from autopeft.execute.pack_bench import PackBench
from autopeft.execute.pack_room import Room, Seconds, timed_batch
from autopeft.execute.workbench import Outcome, Workbench
from autopeft.spec import StudySpec
from autopeft.trial import Observation, TrialSpec, TrialState
from autopeft_searchspace.configuration import Component, Configuration

STEPS = 6
TRIALS = [
    lora(),
    lora(layers=(1, 2), roles=("q", "o"), size=4),
    Configuration((Component("serial", 4, (2,), (), {"place": "feed_forward", "bias": True}),), 1e-2),
    Configuration((Component("prefix", 2, (1,)),), 1e-2),
    Configuration((), 1e-2),
]


def spec_of(bench: Workbench, workers: int | str = 3) -> StudySpec:
    content = bench.spec.model_dump(mode="json")
    return StudySpec.model_validate({**content, "executor": {"name": "packed"}, "workers": workers})


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return workbench(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def executor(bench: Workbench) -> Iterator[LocalExecutor]:
    packed = LocalExecutor(spec_of(bench), bench.folder, ["cpu"], bench.folder / "worker.log")
    packed.start(1, calibrate=False)
    yield packed
    packed.close()


def run_all(
    executor: LocalExecutor, trials: Sequence[TrialSpec], stops: Sequence[int] = ()
) -> tuple[dict[int, Observation], dict[int, Ended]]:
    """Last observation and end of each trial; those in `stops` are stopped at their first rung."""
    waiting, seen, ended = list(trials), {}, {}
    for _ in range(600):
        while executor.free and waiting:
            executor.submit(waiting.pop(0))
        for event in executor.events(0.2):
            if isinstance(event, Rung):
                seen[event.number] = event.observation
                executor.answer(event.number, event.number not in stops)
            elif isinstance(event, Ended):
                ended[event.number] = event
        if len(ended) == len(trials):
            return seen, ended
    raise AssertionError(f"only {sorted(ended)} ended")


def trial(number: int, configuration: Configuration, save_to: Path | None = None) -> TrialSpec:
    return TrialSpec(number, configuration, 0, (STEPS // 2, STEPS), str(save_to) if save_to else None)


def test_measurements_and_adapters_are_those_of_separate_runs(bench: Workbench, executor: LocalExecutor, tmp_path: Path) -> None:
    assert (len(executor), executor.free) == (3, 3)
    seen, ended = run_all(executor, [trial(n, c, tmp_path / f"packed{n}") for n, c in enumerate(TRIALS)])
    assert {(end.state, end.reason) for end in ended.values()} == {(TrialState.COMPLETE, "")}
    for number, configuration in enumerate(TRIALS):
        alone: list[Observation] = []
        bench.run(trial(number, configuration, tmp_path / f"alone{number}"), lambda o, alone=alone: alone.append(o) is None)
        packed, right = seen[number], alone[-1]
        assert (packed.key, packed.seed, packed.step, packed.recipe) == (right.key, right.seed, right.step, right.recipe)
        assert packed.measurements.keys() == right.measurements.keys()
        assert packed.measurements["search.accuracy"] == right.measurements["search.accuracy"]
        assert packed.measurements["confirm.accuracy"] == right.measurements["confirm.accuracy"]
        assert [loss for _, loss in packed.curve] == pytest.approx([loss for _, loss in right.curve], abs=1e-5)
        files = sorted(path.name for path in (tmp_path / f"alone{number}").iterdir())
        assert files == sorted(path.name for path in (tmp_path / f"packed{number}").iterdir())
        for name in (name for name in files if name.endswith(".safetensors")):
            ours, theirs = load_file(tmp_path / f"packed{number}" / name), load_file(tmp_path / f"alone{number}" / name)
            assert ours.keys() == theirs.keys()
            for key in ours:
                torch.testing.assert_close(ours[key], theirs[key], atol=1e-4, rtol=0)


def test_each_trial_ends_in_its_own_way(executor: LocalExecutor) -> None:
    chosen = [
        lora(),
        Configuration(lora().components, 1e30),
        Configuration((Component("lora", 2, (99,), ("q",), {"alpha": 2}),), 1e-2),
        lora(size=4),
        Configuration(lora().components, 1e-2, optimizer="lora_plus"),
    ]
    _, ended = run_all(executor, [trial(n, c) for n, c in enumerate(chosen)], stops=[3])
    assert [ended[n].state for n in range(5)] == [
        TrialState.COMPLETE,
        TrialState.INFEASIBLE,
        TrialState.FAILED,
        TrialState.EARLY_STOPPED,
        TrialState.COMPLETE,
    ]
    assert "diverged" in ended[1].reason
    assert ended[3].reason == f"stopped at step {STEPS // 2} of {STEPS}"


def test_a_trial_can_be_stopped_without_the_others(executor: LocalExecutor) -> None:
    executor.submit(TrialSpec(0, lora(), 0, (5000,)))
    executor.submit(trial(1, lora(size=4)))
    assert executor.stop(0) >= 0
    assert executor.running == (1,)
    ended: list[int] = []
    for _ in range(100):
        for event in executor.events(0.2):
            if isinstance(event, Rung):
                executor.answer(event.number, True)
            elif isinstance(event, Ended):
                ended.append(event.number)
        if ended:
            break
    assert ended == [1]
    assert executor.free == 3


@pytest.mark.slow
def test_a_worker_that_dies_ends_all_that_shared_it(bench: Workbench, executor: LocalExecutor) -> None:
    for number in (0, 1):
        executor.submit(TrialSpec(number, lora(), 0, (5000,)))
    executor._workers[0].process.kill()
    ended = []
    while len(ended) < 2:
        ended += [event for event in executor.events(0.5) if isinstance(event, Ended)]
    assert {end.state for end in ended} == {TrialState.FAILED}
    assert "2 trials shared it" in ended[0].reason
    _, again = run_all(executor, [trial(2, lora())])
    assert again[2].state is TrialState.COMPLETE


def test_where_memory_runs_out_a_member_rests_until_another_ends(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: dict[int, Outcome] = {}
    counts: list[int] = []
    pack = PackBench(bench, lambda number, seen: pack.answer(number, True), lambda *_: None, ends.__setitem__)
    inner = pack._pack.step

    def step(batches: dict[int, object]) -> object:
        if len(batches) > 2:
            raise torch.OutOfMemoryError("too many")
        counts.append(len(batches))
        return inner(batches)

    monkeypatch.setattr(pack._pack, "step", step)
    for number in range(3):
        pack.add(TrialSpec(number, lora(), 0, (2,)))
    while pack.can_step:
        pack.step()
    assert counts == [2, 2, 1, 1]
    assert {n: end.state for n, end in ends.items()} == dict.fromkeys(range(3), TrialState.COMPLETE)


def test_a_trial_without_room_waits_until_another_ends(bench: Workbench) -> None:
    ends: dict[int, Outcome] = {}
    pack = PackBench(
        bench,
        lambda number, seen: pack.answer(number, True),
        lambda *_: None,
        ends.__setitem__,
        lambda configurations: len(configurations) < 3,
    )
    for number, steps in enumerate((4, 2, 3, 3)):
        pack.add(TrialSpec(number, lora(), 0, (steps,)))
    pack.stop(3)
    while pack.can_step:
        pack.step()
    assert {n: end.state for n, end in ends.items()} == dict.fromkeys((1, 0, 2), TrialState.COMPLETE)
    assert list(ends) == [1, 0, 2]


def losses_of_unlike_batches(bench: Workbench, pass_cost: float) -> tuple[dict[int, Observation], list[int]]:
    """Last observations of two trials, the second a step behind the first, and how many trials each pass held."""
    seen: dict[int, Observation] = {}
    counts: list[int] = []

    def at_rung(number: int, observation: Observation) -> None:
        seen[number] = observation
        pack.answer(number, True)

    pack = PackBench(bench, at_rung, lambda *_: None, lambda *_: None, pass_cost=pass_cost)
    inner = pack._pack.step
    pack._pack.step = lambda batches: counts.append(len(batches)) or inner(batches)  # type: ignore[method-assign,func-returns-value]
    pack.add(TrialSpec(0, lora(), 0, (STEPS,)))
    pack.step()
    pack.add(TrialSpec(1, lora(size=4), 0, (STEPS,)))
    while pack.can_step:
        pack.step()
    return seen, counts


def test_a_trial_that_joins_between_passes_trains_as_it_would_alone(bench: Workbench) -> None:
    """Its first step comes after steps of others, who must not settle for it which of its weights decay."""
    pack = PackBench(bench, lambda *_: None, lambda *_: None, lambda *_: None)
    pack.add(TrialSpec(0, lora(), 0, (STEPS,)))
    pack.add(TrialSpec(1, lora(size=4), 0, (STEPS,)))
    batches = {n: bench.batch(running.batches[0]) for n, running in pack._running.items()}
    pack._pack.step({0: batches[0]})
    assert not pack._pack._arena.settled
    pack._pack.step({1: batches[1]})
    assert pack._pack._arena.settled
    assert pack._pack._arena._tenants[0].unused == pack._pack._arena._tenants[1].unused
    assert pack._pack._arena._flat is not None
    assert pack._pack._arena._flat.decays.sum() > 0


def test_passes_of_alike_lengths_change_no_number(bench: Workbench) -> None:
    (together, in_one), (apart, parted) = (losses_of_unlike_batches(bench, cost) for cost in (float("inf"), 0.0))
    assert in_one == [1] + [2] * (STEPS - 1) + [1]
    assert len(parted) > len(in_one)
    assert sum(parted) == sum(in_one) == 2 * STEPS
    for number in (0, 1):
        assert [loss for _, loss in apart[number].curve] == pytest.approx([loss for _, loss in together[number].curve], abs=1e-5)


def test_room_is_as_given_or_as_memory_and_throughput_allow(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(bench)
    assert room.find_count(5) == 5
    assert Room(bench).find_count(1) == 1
    taken = {1: Seconds(0.2, 0.1), 2: Seconds(0.21, 0.105), 4: Seconds(0.3, 0.13), 8: Seconds(0.6, 0.25)}
    monkeypatch.setattr("autopeft.execute.pack_room.time_steps", lambda bench, configuration, count: taken[count])
    assert room.find_count("auto") == 4
    tokens = bench.batch(timed_batch(bench))["input_ids"].numel()
    assert room.pass_cost == pytest.approx((0.2 - 0.01) / 0.01 * tokens)  # twice the tokens take .01 s more as they come
    monkeypatch.setattr(room, "_most_bytes", room.predicted_bytes([bench.typical()] * 2))
    assert room.find_count("auto") == 2
    monkeypatch.setattr(room, "_most_bytes", 0)
    assert room.find_count("auto") == 1


@pytest.mark.slow
def test_a_search_through_packs_is_a_search(bench: Workbench, tmp_path: Path) -> None:
    content = spec_of(bench, 3).model_dump(mode="json", exclude_defaults=True)
    content |= {"budget": "9trials", "fidelity": {"steps": STEPS}, "seeds": {"replicates": 1}, "baselines": True}
    progress = Quiet()
    record = search(StudySpec.model_validate(content), bench.folder, tmp_path / "study", progress)
    assert len(record.trials) == 9
    assert all(t.state in (TrialState.COMPLETE, TrialState.EARLY_STOPPED) for t in record.trials)
    assert json.loads((tmp_path / "study" / "environment.json").read_text())["room"] == 3
    assert yaml.safe_load((tmp_path / "study" / "study.yaml").read_text())["executor"]["name"] == "packed"


def test_dropout_of_the_base_model_is_refused(bench: Workbench) -> None:
    content = bench.spec.model_dump(mode="json")
    with pytest.raises(ValueError, match="base_dropout"):
        StudySpec.model_validate({**content, "executor": {"name": "packed"}, "training": {"base_dropout": True}})
