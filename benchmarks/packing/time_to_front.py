"""Seconds until our search has the hypervolume that Optuna's TPE reaches with transformers.Trainer and peft.

    python benchmarks/packing/time_to_front.py SPEC [--seconds 540] [--steps 75] [--seeds 0 1] [--sides tpe search]
    python benchmarks/packing/time_to_front.py SPEC --table

SPEC: a study of classification; its model, data, space and recipe are used. Both sides run the same known defaults first, on the
same batches, and see the same splits; the clock starts with the process and ends with each measured trial.

    tpe      one Optuna study of all objectives, multivariate TPE over the distributions of our space. Each trial is a `plain.PlainTrials`,
             with all threads, and with our batches and attention, which make it faster than a script of its own would be. Peak
             memory, an objective, is computed as in our search while its clock stands still.
    search   `autopeft search` as it comes, without replicates and for a time budget; stopping early included.

Rows are added to ../results/time-to-front-<device>.csv, one for each trial. --table reads them: the hypervolume of both sides is measured
on one set of axes (that of the tpe side's study: `front.study_axes`), on the search split, with what was complete by then.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from plain import PlainTrials, use_threads
from rows import add, read

from autopeft.baselines import HEAD_ONLY, baselines
from autopeft.budget import Budget
from autopeft.checks import require_study
from autopeft.coordinator import search
from autopeft.data import read_data
from autopeft.device import find_attention, find_device, find_precision
from autopeft.execute.workbench import Workbench
from autopeft.front import Axes, study_axes
from autopeft.memory import MemoryPredictor
from autopeft.samplers.convert import distributions, suggest_values, values_to_params
from autopeft.samplers.named import make_sampler
from autopeft.spec import StudySpec
from autopeft.spec_file import read_spec
from autopeft.trial import Measurement, Observation, Origin, Trial, TrialState
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.rules import trainable_parameters
from autopeft_searchspace.settings import build_space
from autopeft_searchspace.space import OutsideSpace, Space

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the gain over the defaults that TPE has in the end."""
Row = dict[str, Any]


class Clock:
    """Seconds since `start`, but for those for which it stood still."""

    def __init__(self, start: float) -> None:
        self._start, self._stood = start, 0.0

    @property
    def seconds(self) -> float:
        return time.time() - self._start - self._stood

    def memory(self, predictor: MemoryPredictor, configuration: Configuration) -> int:
        before = time.time()
        try:
            return predictor.exact(configuration).peak
        finally:
            self._stood += time.time() - before


def by_tpe(spec: StudySpec, folder: Path, seed: int, steps: int, limit: float, start: float) -> Iterator[Row]:
    clock, device = Clock(start), find_device(spec.device)
    attention = find_attention(device.type, find_precision(spec.precision, device), spec.data.max_length)
    trials = PlainTrials(spec, folder, steps, "ours", attention)
    space = build_space(spec.space.preset, trials.bench.shape, spec.space.change)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=[o.direction for o in spec.objectives], sampler=make_sampler("tpe", space, seed=seed))
    with tempfile.TemporaryDirectory() as cache:
        memory = MemoryPredictor(spec, space, trials.bench.recipe(steps), trials.bench.splits.labels, Path(cache), folder)

        def measure(configuration: Configuration, origin: Origin) -> Row:
            quality = trials.run(configuration)["search"].value
            peak = clock.memory(memory, configuration)
            row = {"origin": str(origin), "parameters": trainable_parameters(configuration, space.shape), "peak_memory_bytes": peak}
            return {**row, "seconds": clock.seconds, "quality": quality, "words": configuration.in_words()}

        def values(row: Row) -> list[float]:
            named = {"trainable_parameters": row["parameters"], "peak_memory_bytes": row["peak_memory_bytes"]}
            return [named.get(o.name, row["quality"]) for o in spec.objectives]

        for _, configuration in baselines(space.shape, Budget.parse(spec.budget).trials):
            row = measure(configuration, Origin.BASELINE)
            tell_baseline(study, space, configuration, values(row))
            yield row
        while clock.seconds < limit:
            trial = study.ask()
            point = suggest_values(trial, space)
            if space.problem(point) is not None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            row = measure(space.configuration(point), Origin.SAMPLER)
            study.tell(trial, values(row))
            yield row


def tell_baseline(study: optuna.Study, space: Space, configuration: Configuration, values: list[float]) -> None:
    """A known default as a trial of the study, where the space can express it."""
    try:
        params = values_to_params(space, space.values(configuration))
    except OutsideSpace:
        return
    known = distributions(space)
    study.add_trial(optuna.trial.create_trial(params=params, distributions={n: known[n] for n in params}, values=values))


class Times:
    """A `search.Progress` that keeps when each trial ended."""

    def __init__(self, start: float) -> None:
        self._clock, self.rows = Clock(start), list[Row]()

    def plan(self, lines: list[str]) -> None: ...
    def say(self, text: str) -> None: ...
    def step(self, number: int, step: int, of: int, loss: float) -> None: ...
    def started(self, trial: Trial, record: Any) -> None: ...

    def ended(self, trial: Trial, record: Any) -> None:
        quality = trial.value(record.spec.quality, record.spec.quality)
        row = {"origin": str(trial.origin), "parameters": trial.computed["trainable_parameters"]}
        row |= {"peak_memory_bytes": trial.computed["peak_memory_bytes"], "seconds": self._clock.seconds}
        complete = trial.state is TrialState.COMPLETE and quality is not None
        self.rows.append({**row, "quality": quality.value if complete else float("nan"), "words": trial.configuration.in_words()})


def by_search(spec: StudySpec, folder: Path, seed: int, steps: int, limit: float, start: float) -> list[Row]:
    content = spec.model_dump(mode="json")
    content |= {"budget": f"{spec.budget},{limit:.0f}s", "seeds": {"search": seed, "replicates": 0}}
    content["fidelity"]["steps"] = steps
    times = Times(start)
    with tempfile.TemporaryDirectory() as study:
        record = search(StudySpec.model_validate(content), folder, Path(study), times)
    took, workers = times.rows[-1]["seconds"], record.environment["workers"]
    own, theirs = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"search, seed {seed}: {len(record.trials)} trials; workers trained and measured for "
        f"{sum(t.seconds for t in record.trials) / workers / took:.1%} of {took:.0f} s; the coordinator took "
        f"{own / (own + theirs.ru_utime + theirs.ru_stime):.1%} of the processor's time"
    )
    return times.rows


def serve(side: str, spec: StudySpec, folder: Path, seed: int, steps: int, limit: float, threads: int, start: float, parent: Any) -> None:
    use_threads(threads)
    if side == "search":
        parent.send(by_search(spec, folder, seed, steps, limit, start))
    else:
        parent.send(list(by_tpe(spec, folder, seed, steps, limit, start)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spec", type=Path)
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--steps", type=int, default=75)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], help="by default the study's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--sides", nargs="+", default=["tpe", "search"], choices=["tpe", "search"])
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    spec, folder = read_spec(given.spec, environ={})
    if given.device:
        spec = StudySpec.model_validate({**spec.model_dump(mode="json"), "device": given.device})
    device = find_device(spec.device)
    if not given.table:
        context = multiprocessing.get_context("spawn")
        for seed in given.seeds:
            for side in given.sides:
                mine, theirs = context.Pipe()
                about = (side, spec, folder, seed, given.steps, given.seconds, given.threads, time.time(), theirs)
                process = context.Process(target=serve, args=about, daemon=True)
                process.start()
                theirs.close()
                found = mine.recv()
                process.join()
                add("time-to-front", [{"side": side, "seed": seed, "steps": given.steps, **row} for row in found], device)
    table(spec, folder, read("time-to-front", device))


def table(spec: StudySpec, folder: Path, rows: list[dict[str, str]]) -> None:
    """Seconds of both sides to shares of the gain that TPE has over its defaults in the end, as Markdown."""
    print(
        "| seed | share of TPE's gain | hypervolume | TPE + Trainer + peft, s | search, s | times faster |\n|---:|---:|---:|---:|---:|---:|"
    )
    for seed in sorted({row["seed"] for row in rows}):
        sides = {side: [row for row in rows if (row["side"], row["seed"]) == (side, seed)] for side in ("tpe", "search")}
        if not all(sides.values()):
            continue
        axes = axes_of(spec, folder, sides["tpe"])
        curves = {side: curve(axes, spec, found) for side, found in sides.items()}
        defaults = [row for row in sides["tpe"] if row["origin"] == Origin.BASELINE]
        start, end = curves["tpe"][len(defaults) - 1][1], curves["tpe"][-1][1]
        for share in SHARES:
            wanted = start + share * (end - start)
            reached = {side: next((s for s, volume in found if volume >= wanted), None) for side, found in curves.items()}
            tpe, ours = reached["tpe"], reached["search"]
            words = ["not reached" if seconds is None else f"{seconds:.0f}" for seconds in (tpe, ours)]
            ratio = f"{tpe / ours:.1f}" if tpe and ours else ""
            print(f"| {seed} | {share:.0%} | {wanted:.4f} | {words[0]} | {words[1]} | {ratio} |")
        for side, found in sides.items():
            last = curves[side][-1]
            measured = sum(row["quality"] != "nan" for row in found)
            print(f"  seed {seed}, {side}: {len(found)} trials, {measured} complete, hypervolume {last[1]:.4f} after {last[0]:.0f} s")


def curve(axes: Axes, spec: StudySpec, rows: list[dict[str, str]]) -> list[tuple[float, float]]:
    """(seconds, hypervolume of all that was complete by then) after each trial."""
    columns = {"trainable_parameters": "parameters", "peak_memory_bytes": "peak_memory_bytes"}
    values = [[float(row[columns.get(o.name, "quality")]) for o in spec.objectives] for row in rows]
    return [(float(row["seconds"]), axes.hypervolume(values[: i + 1])) for i, row in enumerate(rows)]


def axes_of(spec: StudySpec, folder: Path, rows: list[dict[str, str]]) -> Axes:
    """The axes of a study whose head-only baselines came to what `rows` say."""
    shape = require_study(spec, folder)
    space, task_labels = build_space(spec.space.preset, shape, spec.space.change), read_data(spec.data, spec.task, folder).labels
    bench = Workbench(spec, folder, str(find_device(spec.device)))
    with tempfile.TemporaryDirectory() as cache:
        full = MemoryPredictor(spec, space, bench.recipe(int(rows[0]["steps"])), task_labels, Path(cache), folder).full().peak
    heads = [float(row["quality"]) for row in rows if row["words"].startswith(HEAD_ONLY)]
    observed = Observation("", 0, 1, 1, "", {f"search.{spec.quality}": Measurement(max(heads))})
    head = Trial(0, Configuration((), 1e-3), Origin.BASELINE, TrialState.COMPLETE, {}, (observed,))
    axes = study_axes(spec, space, [head], full)
    assert axes is not None
    return axes


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    main()
