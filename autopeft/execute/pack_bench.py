"""The trials of one worker that train side by side on one copy of the base model (`autopeft.packing`).

A trial that cannot share a forward pass (a layer strategy, another update than
AdamW, a quantised base) runs by itself, while the pack waits. Where memory runs out the newest of the pack rests until another ends.
Seconds of a trial are its share of each step, and what building and measuring it took.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from autopeft.casts import Casts
from autopeft.execute.workbench import Outcome, Workbench, ending
from autopeft.packing.pack import Pack
from autopeft.packing.passes import in_passes
from autopeft.packing.views import NotPackable, view_of
from autopeft.tasks import Batch
from autopeft.training import Progress, Recipe
from autopeft.trial import Observation, TrialSpec, TrialState
from autopeft_searchspace.build import changed_paths
from autopeft_searchspace.configuration import QUANTISATIONS, Configuration


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
    """bench: with the bare model. at_rung, at_step, at_end: told what happens to which trial. fits: whether trials with
    these configurations have room side by side. pass_cost: of a pass by itself, in tokens (`packing.passes`)."""

    def __init__(
        self,
        bench: Workbench,
        at_rung: Callable[[int, Observation], None],
        at_step: Callable[[int, int, int, float], None],
        at_end: Callable[[int, Outcome], None],
        fits: Callable[[Sequence[Configuration]], bool] = lambda configurations: True,
        pass_cost: float = float("inf"),
    ) -> None:
        self._bench, self._at_rung, self._at_step, self._at_end = bench, at_rung, at_step, at_end
        self._casts = Casts(bench.device.type)
        self._pack = Pack(
            bench.model,
            bench.shape,
            bench.task,
            bench.device,
            graphs=bench.spec.executor.graphs,
            casts=self._casts if bench.spec.keep_casts else None,
        )
        self._running: dict[int, Running] = {}
        self._fits, self._pass_cost = fits, pass_cost
        self._most: int | None = None
        self._waiting: list[TrialSpec] = []
        self.apart: list[TrialSpec] = []

    @property
    def can_step(self) -> bool:
        """Whether there are members and none waits to hear whether it may go on: those at the same step stay together."""
        return bool(self._running) and all(running.answered for running in self._running.values())

    def add(self, trial: TrialSpec) -> None:
        """Build a trial and take it into the pack, or put it among those `apart`; where memory has no room for it, it waits until
        another ends."""
        start = time.perf_counter()
        if trial.configuration.quantisation != QUANTISATIONS[0]:
            self.apart.append(trial)
            return
        self._bench.use(QUANTISATIONS[0])
        own = copy.copy(self._bench)
        own.casts = self._casts
        own.model = view_of(self._bench.model, changed_paths(trial.configuration, self._bench.shape))
        recipe = own.recipe(trial.rungs[-1])
        try:
            together = [*(running.trial.configuration for running in self._running.values()), trial.configuration]
            if self._running and not self._fits(together):
                self._waiting.append(trial)
                return
            own.build(trial.configuration, trial.seed)
            self._pack.join(trial.number, own.model, recipe, trial.configuration)
        except NotPackable:
            self.apart.append(trial)
        except Exception as error:
            self._at_end(trial.number, Outcome(*ending(error), time.perf_counter() - start))
        else:
            batches = own.batches(recipe, trial.seed)
            self._running[trial.number] = Running(trial, own, recipe, batches, time.perf_counter() - start)

    def repeat(self, batch: Sequence[int]) -> None:
        """Let all trials see these examples in each step, where steps are to be timed."""
        for running in self._running.values():
            running.batches = [batch] * running.recipe.total_steps

    def step(self) -> None:
        """One step of all members that may take one, those with batches of alike length together; then measures those at a rung."""
        members = [running for running in self._running.values() if running.answered][: self._most]
        same: dict[tuple[int, ...], Batch] = {}
        batches: dict[int, Batch] = {}
        for running in members:
            indices = tuple(running.batches[running.progress.step])
            if indices not in same:
                same[indices] = running.bench.batch(indices)
            batches[running.trial.number] = same[indices]
        for together in in_passes(batches, self._pass_cost):
            if not self._pass({number: batches[number] for number in together}):
                self._most = max(1, len(members) - 1)
                return

    def _pass(self, batches: dict[int, Batch]) -> bool:
        """Whether there was memory for it. A trial that has none by itself ends."""
        members, start = [self._running[number] for number in batches], time.perf_counter()
        try:
            outcomes = self._pack.step(batches)
        except (torch.OutOfMemoryError, MemoryError) as error:
            if len(members) == 1:
                self._end(members[0], *ending(error))
            return len(members) == 1
        share = (time.perf_counter() - start) / len(members)
        for running in members:
            running.seconds += share
            self._took(running, outcomes[running.trial.number])
        return True

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
        start, bench, trial = time.perf_counter(), running.bench, running.trial
        if running.progress.step == trial.rungs[-1]:  # its last step is made: its parameters are its own again
            self._pack.leave(trial.number)
        try:
            with bench.frozen.below(bench.model, bench.blocks, bench.untouched_layers()):
                observation = bench.observe(trial, running.recipe, running.progress, running.seconds)
        except Exception as error:
            self._end(running, *ending(error))
            return
        running.seconds += time.perf_counter() - start
        bench.model.train()
        running.answered = False
        self._at_rung(trial.number, observation)

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
        self.apart, self._waiting = ([trial for trial in trials if trial.number != number] for trials in (self.apart, self._waiting))
        if self._running.pop(number, None):
            self._left(number)

    def _end(self, running: Running, state: TrialState, reason: str) -> None:
        number = running.trial.number
        del self._running[number]
        self._at_end(number, Outcome(state, reason, running.seconds))
        self._left(number)

    def _left(self, number: int) -> None:
        if number in self._pack:
            self._pack.leave(number)
        self._most = None
        waiting, self._waiting = self._waiting, []
        for trial in waiting:
            self.add(trial)
