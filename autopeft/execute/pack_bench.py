"""The trials of one worker that train side by side on one copy of the base model (`autopeft.packing`).

A trial that cannot share a forward pass (prompts in front of the model, layer strategies, other updates than
AdamW, a quantised base) runs by itself, while the pack waits. Where memory runs out the newest of the pack rests until another ends.
Seconds of a trial are its share of each step, and what building and measuring it took.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from autopeft.device import free_bytes
from autopeft.execute.workbench import Outcome, Workbench, ending
from autopeft.meters import storage_bytes
from autopeft.packing.pack import Pack
from autopeft.packing.views import NotPackable, view_of
from autopeft.tasks import Batch
from autopeft.training import Progress, Recipe
from autopeft.trial import Observation, TrialSpec, TrialState
from autopeft_searchspace.build import changed_paths
from autopeft_searchspace.configuration import QUANTISATIONS, Configuration

MOST_MEMBERS = 16
SHARE_OF_MEMORY = 0.8
"""Of what is free once the model is loaded, at most."""
LEAST_GAIN = 1.1
"""Twice the members must bring this much more work per second to be worth their memory."""
PROBE_STEPS = 2


@dataclass
class Running:
    """bench: the workbench with this trial's own model. answered: whether it may take steps; not while it waits at a rung."""

    trial: TrialSpec
    bench: Workbench
    recipe: Recipe
    batches: Sequence[Sequence[int]]
    seconds: float
    progress: Progress = field(default_factory=Progress)
    answered: bool = True


class PackBench:
    """bench: with the bare model. at_rung, at_step, at_end: told what happens to which trial."""

    def __init__(
        self,
        bench: Workbench,
        at_rung: Callable[[int, Observation], None],
        at_step: Callable[[int, int, int, float], None],
        at_end: Callable[[int, Outcome], None],
    ) -> None:
        self._bench, self._at_rung, self._at_step, self._at_end = bench, at_rung, at_step, at_end
        self._pack = Pack(bench.model, bench.shape, bench.task, bench.device)
        self._running: dict[int, Running] = {}
        self._most = MOST_MEMBERS
        self.apart: list[TrialSpec] = []

    @property
    def can_step(self) -> bool:
        """Whether there are members and none waits to hear whether it may go on: those at the same step stay together."""
        return bool(self._running) and all(running.answered for running in self._running.values())

    def add(self, trial: TrialSpec) -> None:
        """Build a trial and take it into the pack, or put it among those `apart`."""
        start = time.perf_counter()
        if trial.configuration.quantisation != QUANTISATIONS[0]:
            self.apart.append(trial)
            return
        self._bench.use(QUANTISATIONS[0])
        own = copy.copy(self._bench)
        own.model = view_of(self._bench.model, changed_paths(trial.configuration, self._bench.shape))
        recipe = own.recipe(trial.rungs[-1])
        try:
            own.build(trial.configuration, trial.seed)
            self._pack.join(trial.number, own.model, recipe, trial.configuration)
        except NotPackable:
            self.apart.append(trial)
        except Exception as error:
            self._at_end(trial.number, Outcome(*ending(error), time.perf_counter() - start))
        else:
            batches = own.batches(recipe, trial.seed)
            self._running[trial.number] = Running(trial, own, recipe, batches, time.perf_counter() - start)

    def step(self) -> None:
        """One step of all members that may take one; then measures those that are at a rung."""
        members = [running for running in self._running.values() if running.answered][: self._most]
        start = time.perf_counter()
        same: dict[tuple[int, ...], Batch] = {}
        batches: dict[int, Batch] = {}
        for running in members:
            indices = tuple(running.batches[running.progress.step])
            if indices not in same:
                same[indices] = running.bench.batch(indices)
            batches[running.trial.number] = same[indices]
        try:
            outcomes = self._pack.step(batches)
        except (torch.OutOfMemoryError, MemoryError) as error:
            if len(members) == 1:
                self._end(members[0], *ending(error))
            self._most = max(1, len(members) - 1)
            return
        share = (time.perf_counter() - start) / len(members)
        for running in members:
            running.seconds += share
            self._took(running, outcomes[running.trial.number])

    def _took(self, running: Running, outcome: float | Exception) -> None:
        if isinstance(outcome, Exception):
            self._end(running, *ending(outcome))
            return
        progress, trial = running.progress, running.trial
        progress.step += 1
        progress.losses.append((progress.step, outcome))
        progress.ends.append(running.seconds)
        self._at_step(trial.number, progress.step, trial.rungs[-1], outcome)
        if progress.step in trial.rungs:
            self._measure(running)

    def _measure(self, running: Running) -> None:
        start, bench = time.perf_counter(), running.bench
        try:
            with bench.frozen.below(bench.model, bench.blocks, bench.untouched_layers()):
                observation = bench.observe(running.trial, running.recipe, running.progress, running.seconds)
        except Exception as error:
            self._end(running, *ending(error))
            return
        running.seconds += time.perf_counter() - start
        bench.model.train()
        running.answered = False
        self._at_rung(running.trial.number, observation)

    def answer(self, number: int, go_on: bool) -> None:
        """What a trial that waits at a rung is told; the last rung is its end."""
        running = self._running[number]
        running.answered = True
        if running.progress.step == running.trial.rungs[-1]:
            self._end(running, TrialState.COMPLETE, "")
        elif not go_on:
            self._end(running, TrialState.EARLY_STOPPED, f"stopped at step {running.progress.step} of {running.recipe.total_steps}")

    def stop(self, number: int) -> None:
        """Forget a trial, without a word."""
        self.apart = [trial for trial in self.apart if trial.number != number]
        if self._running.pop(number, None):
            self._pack.leave(number)

    def _end(self, running: Running, state: TrialState, reason: str) -> None:
        number = running.trial.number
        del self._running[number]
        self._pack.leave(number)
        self._at_end(number, Outcome(state, reason, running.seconds))


def find_room(bench: Workbench, wanted: int | Literal["auto"]) -> int:
    """How many trials to train side by side, where it is not given: as memory allows by the measured peak of a common
    configuration, and as long as doubling their number still brings more steps per second."""
    if wanted != "auto":
        return wanted
    if bench.usual != QUANTISATIONS[0]:
        return 1
    configuration, recipe = bench.typical(), bench.recipe(PROBE_STEPS + 1)
    held = storage_bytes([*bench.model.parameters(), *bench.model.buffers()])
    member = bytes_of_member(_peak_alone(bench, configuration, recipe), held)
    fitting = min(MOST_MEMBERS, max(1, int(SHARE_OF_MEMORY * free_bytes(bench.device) / member)))
    count, rate = 1, _steps_per_second(bench, configuration, recipe, 1)
    while 2 * count <= fitting:
        faster = _steps_per_second(bench, configuration, recipe, 2 * count)
        if faster < LEAST_GAIN * rate:
            break
        count, rate = 2 * count, faster
    return count


def bytes_of_member(peak: int, held: int) -> int:
    """What one more trial takes in a pack. peak: of training it alone. held: of the base model's weights, which all share."""
    return max(1, peak - held)


def _peak_alone(bench: Workbench, configuration: Configuration, recipe: Recipe) -> int:
    bench.build(configuration, 0)
    try:
        return bench.peak(recipe)
    finally:
        bench.restore()


def _steps_per_second(bench: Workbench, configuration: Configuration, recipe: Recipe, count: int) -> float:
    """Steps of all members together, on the same batches, after one that warms up."""
    ended: list[Any] = []
    pack = PackBench(bench, lambda *_: None, lambda *_: ended.append(time.perf_counter()), lambda *_: None)
    for number in range(count):
        pack.add(TrialSpec(number, configuration, 0, (10 * recipe.total_steps,)))
    for _ in range(recipe.total_steps):
        pack.step()
    if len(ended) < count * recipe.total_steps:  # memory ran out
        return 0.0
    return count * PROBE_STEPS / (ended[-1] - ended[count - 1])
