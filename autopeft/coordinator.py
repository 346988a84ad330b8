"""The coordinator of a search: proposes, submits, decides at rungs, and writes the ledger.

    while the budget lasts:  propose -> ledger.add -> executor.submit     (the next proposal is made while trials run)
                             rung    -> ledger.observe -> go on or stop
                             ended   -> ledger.end -> view, progress
    then: replicates of the picks, report, clean-up

Everything is decided from the ledger, so that a killed search goes on where it stood.
"""

from __future__ import annotations

import importlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from autopeft import front, promotion, recorded, report, storage, study_folder
from autopeft.ahead import Ahead, Proposal
from autopeft.baselines import REFERENCE
from autopeft.budget import Budget
from autopeft.checks import require_study
from autopeft.dashboard import annotate
from autopeft.errors import DataError, NoFeasibleTrial, NothingFits, SpecError
from autopeft.execute import make_executor
from autopeft.execute.executor import Ended, Executor, Rung, Step
from autopeft.layer_importance import space_of
from autopeft.ledger import Ledger, observation_of
from autopeft.memory import MemoryPredictor
from autopeft.objectives import predicted
from autopeft.plan import Limits, find_limits, find_rungs, find_total_steps
from autopeft.proposals import Proposals, initial_trials
from autopeft.record import SPEC, StudyRecord, from_ledger
from autopeft.samplers.suggest import SpaceExhausted
from autopeft.spec import StudySpec
from autopeft.spec_file import dump_spec, relocate
from autopeft.spending import Spending
from autopeft.training import Recipe
from autopeft.trial import Observation, Trial, TrialSpec, TrialState
from autopeft.view import View
from autopeft.warm_start import Earlier, earlier_importance, gather
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.settings import build_space
from autopeft_searchspace.shape import ModelShape
from autopeft_searchspace.space import Space

FEWEST_SILENT_SECONDS = 180.0
CUT = "the time budget ended"


class Progress(Protocol):
    """What a search tells while it runs."""

    def plan(self, lines: list[str]) -> None: ...
    def say(self, text: str) -> None: ...
    def step(self, number: int, step: int, of: int, loss: float) -> None: ...
    def started(self, trial: Trial, record: StudyRecord) -> None: ...
    def ended(self, trial: Trial, record: StudyRecord) -> None: ...


def search(spec: StudySpec, folder: Path, study: Path, progress: Progress, *, fresh: bool = False) -> StudyRecord:
    """Run or resume the search that `spec` describes in the folder `study`.

    folder: what relative paths in the spec start from.
    Raises AutopeftError (of spec, data and model before anything is written; `NothingFits`,
    `StudyLocked`, `NoFeasibleTrial`) and KeyboardInterrupt, after which the study can be resumed.
    """
    start = time.monotonic()
    shape = require_study(spec, folder)
    spec = relocate(spec, folder, study)
    budget = Budget.parse(spec.budget)
    with study_folder.opened(study):
        known = None if fresh else study_folder.stored_environment(spec, study)
        executor = make_executor(spec, study, shape.total_parameters)
        try:
            progress.say("loading model and data" if known is None else "resuming the study: loading model and data")
            threading.Thread(target=_import_engine).start()
            prepared = executor.start(known["threads"] if known else None, calibrate=known is None)
            environment, space = _settle(spec, budget, prepared, known, len(executor) // prepared.get("room", 1))
            environment["workers"], environment["gpus_each"] = len(executor), executor.gpus_each
            environment.setdefault("earlier", gather(spec, study, space).to_json())
            environment.setdefault("importance", earlier_importance(spec, study, space.shape))
            space = space_of(spec, space.shape, environment)
            if fresh:
                study_folder.clear(study)
            memory = MemoryPredictor(spec, space, Recipe(**environment["recipe"]), environment["data"]["labels"], study)
            environment["full_memory_bytes"] = memory.full().peak
            _check_something_fits(space, memory, Limits(**environment["limits"]))
            if not (study / SPEC).exists():
                dump_spec(spec, study / SPEC, study)
            storage.place(spec, study)
            with Ledger(study) as ledger:
                ledger.set_fact("spec", spec.model_dump(mode="json"))
                ledger.set_fact("environment", environment)
                spending = Spending(budget, environment, spec.seeds.replicates, len(executor), start)
                return _Coordinator(spec, study, ledger, executor, environment, space, memory, spending, progress).run()
        finally:
            executor.close()


def _import_engine() -> None:
    """What proposals and traces of memory need, which takes seconds to import, while workers start."""
    for name in ("autopeft.samplers.pareto", "peft"):
        importlib.import_module(name)


def _settle(
    spec: StudySpec, budget: Budget, prepared: dict[str, Any], known: dict[str, Any] | None, workers: int
) -> tuple[dict[str, Any], Space]:
    """The study's environment (what it was made with, completed with what this run found) and space.

    workers: processes that train, each with as many trials as it has room for.
    """
    shape = ModelShape.from_json(prepared["shape"])
    space = build_space(spec.space.preset, shape, spec.space.change)
    limits = asdict(find_limits(spec, shape.total_parameters))
    device = prepared["recipe"]["device_type"]
    if budget.gpu_hours and not (budget.trials or budget.seconds) and device != "cuda":
        raise SpecError(f"budget {budget} counts hours of GPUs, and this search runs on {device}: give trials or time")
    if known is not None:
        if known["data"]["sha256"] != prepared["data"]["sha256"]:
            raise DataError("the data changed since this study was made; start again with --fresh, or give another folder with --study")
        return {**known, "limits": limits, "environment": prepared["environment"], "room": prepared.get("room", 1)}, space
    examples = prepared["data"]["counts"]["train"]
    steps = find_total_steps(spec, budget, examples, prepared["seconds_per_step"], prepared["evaluation_seconds"], workers)
    settled = {
        "recipe": {**prepared["recipe"], "total_steps": steps},
        "total_steps": steps,
        "rungs": list(find_rungs(spec, steps)),
        "limits": limits,
        "initial": initial_trials(budget),
        "baseline_trials": budget.trials,
        "seconds_used": 0.0,
        "axes": None,
    }
    return {**prepared, **settled}, space


def _check_something_fits(space: Space, memory: MemoryPredictor, limits: Limits) -> None:
    """Raise NothingFits where not even training the head alone is within the memory limit, or no
    adapter of the space within the parameter limit."""
    least = memory.exact(Configuration((), 1e-3)).peak
    if problem := limits.problem(front.smallest_adapter(space), least):
        raise NothingFits(f"nothing of space {space.name!r} fits: even the smallest configuration needs {problem}")


def was_cut(trial: Trial) -> bool:
    """Whether the end of the time budget ended it; it runs again where a later budget has room."""
    return trial.state is TrialState.EARLY_STOPPED and trial.reason == CUT


def begun(trials: Sequence[Trial]) -> list[Trial]:
    """Those that count against a budget of trials."""
    return [trial for trial in trials if not was_cut(trial)]


class _Coordinator:
    """One run of a search. Holds nothing that the ledger could not tell again."""

    def __init__(
        self,
        spec: StudySpec,
        study: Path,
        ledger: Ledger,
        executor: Executor,
        environment: dict[str, Any],
        space: Space,
        memory: MemoryPredictor,
        spending: Spending,
        progress: Progress,
    ) -> None:
        self.spec, self.study, self.ledger, self.executor = spec, study, ledger, executor
        self.environment, self.space, self.memory = environment, space, memory
        self.spending, self.progress = spending, progress
        self.limits = Limits(**environment["limits"])
        self.rungs: tuple[int, ...] = tuple(environment["rungs"])
        self.view = View(ledger.url, spec, space)
        self.notes: dict[int, str] = {}
        self.interrupted = self.told_of_interrupt = False
        known: dict[str, Callable[[Configuration], float]] = {
            name: partial(objective.rank, shape=space.shape, memory=memory) for name, objective in predicted().items()
        }
        earlier = Earlier.from_json(environment.get("earlier"))
        self.proposals = Proposals(spec, space, known, self.limits, environment["initial"], environment["baseline_trials"], earlier)
        made_for = {"sampler": spec.sampler, "seed": spec.seeds.search, "limits": environment["limits"]}
        self.ahead = Ahead(ledger, self._propose, -(-environment.get("room", 1) // 2), made_for)
        self.just_started: set[int] = set()
        executor.silence_seconds = max(FEWEST_SILENT_SECONDS, 100 * environment["seconds_per_step"], 20 * environment["evaluation_seconds"])

    def run(self) -> StudyRecord:
        self.view.update(self.ledger.trials())
        self.progress.plan(self._plan())
        try:
            with self._patient_interrupt():
                self._search()
                self._replicate()
        finally:
            self.ahead.close()
            self._save_environment()
        self._finish()
        if self.interrupted:
            raise KeyboardInterrupt
        record = from_ledger(self.ledger, self.study)
        if not record.complete:
            reasons = "; ".join(sorted({t.reason for t in record.trials if t.reason})) or "none was run"
            raise NoFeasibleTrial(f"none of {len(record.trials)} trials could be used: {reasons}")
        return record

    # Search

    def _search(self) -> None:
        waiting = [t for t in self.ledger.trials() if t.state is TrialState.RUNNING]

        def next_run() -> tuple[Trial, int] | None:
            trial = waiting.pop(0) if waiting else self._enter_next()
            return (trial, self.spec.seeds.search) if trial else None

        def ended(event: Ended) -> None:
            if len(self.executor) == 1 and not self.spending.overdrawn:
                self.ahead.settle()  # before anything more is known than when it was begun
            self._ended(event)

        self._work_off(next_run, ended, self._look_ahead)

    def _work_off(
        self,
        next_run: Callable[[], tuple[Trial, int] | None],
        ended: Callable[[Ended], None],
        busy: Callable[[], None] = lambda: None,
    ) -> None:
        """Submit (trial, seed) after (trial, seed) until there is no next one, and see to what comes back.

        ended: called with what has ended, at the end of the time budget with what still runs. busy: called when all devices have work.
        """
        while True:
            while self.executor.free and not self.interrupted and (run := next_run()):
                self._submit(*run)
            if not self.executor.free:
                busy()
            if not self.executor.running:
                return
            if self.interrupted and not self.told_of_interrupt:
                self.progress.say("finishing what runs; press Ctrl-C again to stop at once")
                self.told_of_interrupt = True
            for event in self.executor.events(1.0):
                if isinstance(event, Step):
                    self.progress.step(event.number, event.step, event.of, event.loss)
                elif isinstance(event, Rung):
                    self._at_rung(event.number, event.observation)
                else:
                    ended(event)
            if self.spending.overdrawn:
                for number in self.executor.running:
                    ended(Ended(number, TrialState.EARLY_STOPPED, CUT, self.executor.stop(number)))
                return

    def _enter_next(self) -> Trial | None:
        """A stopped trial that goes on or the next new one, RUNNING; None where budget or space are at their end."""
        while self.spending.allows_another(begun(trials := self.ledger.trials()), len(self.executor.running)):
            if cut := next((trial for trial in trials if was_cut(trial)), None):
                self.ledger.go_on(cut.number)
                return self.ledger.trials()[cut.number]
            if thawed := promotion.thaw(trials, self.spec):
                self.ledger.go_on(thawed.number)  # it is trained anew, to the same numbers
                return self.ledger.trials()[thawed.number]
            try:
                new = self.ahead.take(trials)
            except SpaceExhausted as why:
                self.progress.say(str(why))
                return None
            now = datetime.now(UTC).isoformat(timespec="seconds")
            number = self.ledger.add(new.configuration, new.origin, new.label, new.computed, now)
            problem = self.limits.problem(new.computed["trainable_parameters"], new.computed["peak_memory_bytes"])
            if not problem:
                trials = self.ledger.trials()
                self.view.update(trials)
                return trials[number]
            self._ended(Ended(number, TrialState.INFEASIBLE, problem, 0.0))
        return None

    def _propose(self, trials: Sequence[Trial]) -> Proposal:
        configuration, origin, label = self.proposals.next(trials)
        computed = {name: o.predict(configuration, self.space.shape, self.memory) for name, o in predicted().items()}
        return Proposal(configuration, origin, label, computed)

    def _look_ahead(self) -> None:
        """Let proposals be made from what is known now; of trials that have just started nothing is, also where they run again."""
        if self.interrupted or not (self.just_started or self.ahead.done):
            return
        if self.ahead.done:
            self.ahead.settle()
        trials = [replace(t, observations=()) if t.number in self.just_started else t for t in self.ledger.trials()]
        known = self.ahead.known(trials)
        if self.ahead.wants(len(trials)) and self.spending.allows_another(begun(known), len(self.executor.running)):
            self.ahead.begin(known)
        self.just_started.clear()

    def _submit(self, trial: Trial, seed: int) -> None:
        replicate = seed != self.spec.seeds.search
        rungs = self.rungs[-1:] if replicate else self.rungs
        save_to = None if replicate else str(self._adapter_folder(trial.number))
        self.executor.submit(TrialSpec(trial.number, trial.configuration, seed, rungs, save_to))
        self.just_started.add(trial.number)
        self.progress.started(trial, from_ledger(self.ledger, self.study))

    def _at_rung(self, number: int, observation: Observation) -> None:
        trials = self.ledger.trials()
        go_on = True
        if not observation.is_final:
            decision = promotion.decide(trials[number], observation, trials, self.spec)
            self.notes[number], go_on = decision.reason, decision.go_on
        self.ledger.observe(number, observation)
        self.executor.answer(number, go_on)

    def _ended(self, event: Ended) -> None:
        self.ledger.end(event.number, event.state, reason=event.reason, note=self.notes.pop(event.number, ""), seconds=event.seconds)
        trials = self.ledger.trials()
        if self.environment["axes"] is None:
            axes = front.study_axes(self.spec, self.space, trials, self.environment["full_memory_bytes"])
            self.environment["axes"] = axes.to_json() if axes else None
        self._save_environment()
        self.view.update(trials)
        self.progress.ended(trials[event.number], from_ledger(self.ledger, self.study))

    # Replicates: the picks, the task head alone and the reference baseline are trained again with other seeds

    def _replicate(self) -> None:
        wanted = self._wanted_replicates()
        if wanted and not self.interrupted:
            self.progress.say(f"confirming the picks: {len(wanted)} more runs with other seeds")

        def next_run() -> tuple[Trial, int] | None:
            if wanted and not self.spending.allows_replicate(self.ledger.trials()):
                self.progress.say(f"the time budget ended before {len(wanted)} replicates")
                wanted.clear()
            run = next((run for run in wanted if run[0].number not in self.executor.running), None)  # runs are told apart by trial
            if run:
                wanted.remove(run)
            return run

        self._work_off(next_run, self._ended_replicate)

    def _wanted_replicates(self) -> list[tuple[Trial, int]]:
        """(trial, seed) not yet observed, so that each trial gets its first replicate before any its second."""
        record = from_ledger(self.ledger, self.study)
        trials, wanted = record.trials, dict.fromkeys(_pick_numbers(record))
        if not wanted:
            return []
        if record.head_only and self.spec.task.kind != "causal_lm":  # where no task head trains, seeds change nothing
            wanted[record.head_only.number] = None
        if reference := record.best_of([t for t in record.complete if t.label.startswith(REFERENCE)]):
            wanted[reference.number] = None
        first = self.spec.seeds.search + 1
        return [
            (trials[number], seed)
            for seed in range(first, first + self.spec.seeds.replicates)
            for number in wanted
            if (last := trials[number].final()) and not observation_of(trials, last.key, seed, last.step, last.recipe)
        ]

    def _ended_replicate(self, event: Ended) -> None:
        self.ledger.spend(event.number, event.seconds)
        if event.state is not TrialState.COMPLETE:
            self.progress.say(f"a replicate of trial {event.number} ended {event.state}: {event.reason}")
        self._save_environment()
        record = from_ledger(self.ledger, self.study)
        self.progress.ended(record.trial(event.number), record)

    # Around

    def _plan(self) -> list[str]:
        trials, environment = self.ledger.trials(), self.environment
        each = self.spending.seconds_each(trials)
        remaining = self.spending.remaining(trials)
        counts, full = environment["data"]["counts"], environment["data"].get("at_max_length", 0)
        lines = [
            f"study {self.study}: {len(trials)} trials so far, budget {self.spending.budget}"
            + ("" if remaining is None else f", about {remaining / 60:.0f} min to go"),
            f"model {self.spec.model.base}: {self.space.shape.total_parameters / 1e6:.1f} M parameters, {self.space.shape.layers} layers",
            f"data: {counts['train']:,} to train, {counts['search']:,} to search, {counts['confirm']:,} to confirm"
            + (f"; {full:,} to train are at max_length {self.spec.data.max_length}, where longer ones are cut" if full else ""),
            f"space {self.space.name!r}: {float(self.space.cardinality):.3g} configurations of {', '.join(self.space.types)}",
            f"trial: {environment['total_steps']} steps of {self.spec.training.batch_size}, about {each:.0f} s "
            + (f"each, {len(self.executor)} at once, " if len(self.executor) > 1 else "")
            + f"on {environment['environment']['device_name']}, {environment['recipe']['precision']}",
        ]
        if count := environment["earlier"].get("left_out"):
            lines.append(f"left out: {count} trials of earlier studies, which this space cannot express")
        return lines + [f"left out: {name}, {why}" for name, why in self.space.left_out.items()]

    def _adapter_folder(self, number: int) -> Path:
        return self.study / "trials" / str(number) / "adapter"

    def _save_environment(self) -> None:
        self.environment["seconds_used"] = self.spending.seconds
        self.ledger.set_fact("environment", self.environment)

    def _finish(self) -> None:
        """Keep the adapters of the front, write the plain files and the report."""
        record = from_ledger(self.ledger, self.study)
        keep = {*front.front_numbers(record.trials, self.spec), *_pick_numbers(record)}
        for trial in record.trials:
            if trial.number not in keep:
                shutil.rmtree(self._adapter_folder(trial.number).parent, ignore_errors=True)
        recorded.write(self.study, record.environment, record.trials)
        if record.complete:
            annotate(self.view.study, record)
            report.write(record, self.study / study_folder.REPORT)

    @contextmanager
    def _patient_interrupt(self) -> Iterator[None]:
        """Ctrl-C once lets what runs finish; twice, or SIGTERM, stops at once and leaves it to be run again."""

        def handle(number: int, frame: FrameType | None) -> None:
            if self.interrupted or number == signal.SIGTERM:
                raise KeyboardInterrupt
            self.interrupted = True  # and nothing is said here, since the signal may have come while something is being written

        try:
            before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread, which alone gets signals
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _pick_numbers(record: StudyRecord) -> list[int]:
    axes = record.environment["axes"]
    return list(front.picks(record.trials, record.spec, front.Axes.from_json(axes)).values()) if axes else []
