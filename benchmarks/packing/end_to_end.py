"""The same configurations by transformers.Trainer and peft one after another, and by our executors, part by part.

    python benchmarks/packing/end_to_end.py SPEC [--configurations 24] [--steps 60] [--ways ...] [--threads 2] [--device cuda]

SPEC: a study of classification; its model, data, recipe and device are used. Configurations are drawn from its space with
seed 0. Each way below adds one thing to the one above it, but for `packed`, which stands beside `workers`:

    trainer     a fresh model for each configuration, batches drawn at random, attention as transformers chooses it
    batches     the same with our batches, which group examples of alike length
    attention   the same with the attention that `device.find_attention` chooses
    warm        our worker, one with all threads: the model stays loaded, evaluation takes batches of one length
    sharing     the same, sharing what the layers below the first adapted one compute
    workers     as `autopeft search` does it: as many workers as there are cores, one thread each; on a GPU one
    four        four workers, which share the device
    packed      one worker that trains several trials in one model

Every way lives in a process of its own, whose start (imports, model, data, workers) is timed by itself; on a GPU all start at once,
which may make each start longer. The ways take turns, a few configurations at a time. Each trial is measured on the search and
the confirm split; ours also measure the peak of memory and the time of a step, which Trainer is not asked for. Rungs are left out.
Rows are added to ../results/end-to-end-<device>.csv: wall_seconds is the share of each configuration in the turn that it ran in.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from plain import PlainTrials, drawn, use_threads
from rows import add

from autopeft.device import find_attention, find_device, find_precision
from autopeft.execute import make_executor
from autopeft.execute.executor import Ended, Executor, Rung
from autopeft.execute.workbench import Workbench
from autopeft.spec import StudySpec
from autopeft.spec_file import read_spec, relocate
from autopeft.trial import Measurement, TrialSpec
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.settings import build_space

Run = Callable[[Sequence[Configuration]], list[dict[str, Measurement] | None]]
"""Quality by split of each configuration; None of one that did not end well."""


@contextmanager
def by_trainer(spec: StudySpec, folder: Path, steps: int, threads: int, *, ours: bool = False, chosen: bool = False) -> Iterator[Run]:
    device = find_device(spec.device)
    attention = find_attention(device.type, find_precision(spec.precision, device), spec.data.max_length) if chosen else "sdpa"
    trials = PlainTrials(spec, folder, steps, "ours" if ours else "drawn", attention)
    yield lambda configurations: [trials.run(configuration) for configuration in configurations]


@contextmanager
def by_executor(spec: StudySpec, folder: Path, steps: int, threads: int, **change: Any) -> Iterator[Run]:
    with tempfile.TemporaryDirectory() as study:
        content = {**relocate(spec, folder, Path(study)).model_dump(mode="json"), **change}
        executor = make_executor(StudySpec.model_validate(content), Path(study), 0)
        executor.start(threads if change.get("workers") == 1 or "executor" in change else None, calibrate=False)
        try:
            yield partial(through, executor, spec.quality, steps)
        finally:
            executor.close()


def through(executor: Executor, quality: str, steps: int, configurations: Sequence[Configuration]) -> list[dict[str, Measurement] | None]:
    """All configurations by an executor that is ready."""
    waiting, ended = list(enumerate(configurations)), 0
    found: dict[int, dict[str, Measurement]] = {}
    while ended < len(configurations):
        while executor.free and waiting:
            number, configuration = waiting.pop(0)
            executor.submit(TrialSpec(number, configuration, 0, (steps,)))
        for event in executor.events(0.2):
            if isinstance(event, Rung):
                found[event.number] = {s: event.observation.measurements[f"{s}.{quality}"] for s in ("search", "confirm")}
                executor.answer(event.number, True)
            elif isinstance(event, Ended):
                ended += 1
    return [found.get(number) for number in range(len(configurations))]


WAYS: dict[str, Callable[..., Any]] = {
    "trainer": by_trainer,
    "batches": partial(by_trainer, ours=True),
    "attention": partial(by_trainer, ours=True, chosen=True),
    "warm": partial(by_executor, workers=1, share_frozen_layers=False),
    "sharing": partial(by_executor, workers=1),
    "workers": by_executor,
    "four": partial(by_executor, workers=4),
    "packed": partial(by_executor, executor={"name": "packed"}),
}


def serve(way: str, spec: StudySpec, folder: Path, steps: int, threads: int, parent: Any) -> None:
    """In a process of its own: says when it is ready, then runs what it is sent until it is sent nothing."""
    use_threads(threads)
    with WAYS[way](spec, folder, steps, threads) as run:
        parent.send(time.time())
        while configurations := parent.recv():
            parent.send(run(configurations))


class Way:
    """A way of running trials, in its process, which starts. Raises EOFError where that ended."""

    def __init__(self, name: str, *given: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.name, (self._end, theirs) = name, context.Pipe()
        self._start, self.start_seconds = time.time(), float("nan")
        self._process = context.Process(target=serve, args=(name, *given, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def wait(self) -> None:
        """Until it is ready."""
        self.start_seconds = self._end.recv() - self._start

    def run(self, configurations: Sequence[Configuration]) -> tuple[list[dict[str, Measurement] | None], float]:
        """What the configurations came to, and the wall seconds of all of them."""
        start = time.perf_counter()
        self._end.send(configurations)
        return self._end.recv(), time.perf_counter() - start

    def close(self) -> None:
        self._end.send(None)
        self._process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spec", type=Path)
    parser.add_argument("--configurations", type=int, default=24)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], help="by default the study's")
    parser.add_argument("--turn", type=int, default=8, help="configurations that a way runs before the next one's turn")
    parser.add_argument("--ways", nargs="+", default=[way for way in WAYS if way != "four"], choices=list(WAYS))
    given = parser.parse_args()
    spec, folder = read_spec(given.spec, environ={})
    if given.device:
        spec = StudySpec.model_validate({**spec.model_dump(mode="json"), "device": given.device})
    use_threads(given.threads)
    bench = Workbench(spec, folder, str(find_device(spec.device)))
    configurations = drawn(build_space(spec.space.preset, bench.shape, spec.space.change), given.configurations)
    ways, rows = list[Way](), list[dict[str, Any]]()
    at_once = bench.device.type == "cuda"  # on a CPU they would take its cores from each other
    started = (Way(name, spec, folder, given.steps, given.threads) for name in given.ways)
    for way in list(started) if at_once else started:
        try:
            way.wait()
            ways.append(way)
        except EOFError:
            print(f"{way.name}: its process ended while it started")
    for at in range(0, len(configurations), given.turn):
        turn = configurations[at : at + given.turn]
        for way in list(ways):
            try:
                found, seconds = way.run(turn)
            except (EOFError, OSError):
                print(f"{way.name}: its process ended")
                ways.remove(way)
                continue
            about = {"way": way.name, "steps": given.steps, "precision": bench.precision}
            about |= {"start_seconds": way.start_seconds, "wall_seconds": seconds / len(turn)}
            of_turn = [
                {**about, "configuration": number, "words": configuration.in_words(), **row_of(quality)}
                for number, (configuration, quality) in enumerate(zip(turn, found, strict=True), start=at)
            ]
            add("end-to-end", of_turn, bench.device)
            rows += of_turn
    for way in ways:
        way.close()
    for way in ways:
        mine = [row for row in rows if row["way"] == way.name]
        print(
            f"{way.name}: start {way.start_seconds:.1f} s, then {sum(r['wall_seconds'] for r in mine):.1f} s, "
            f"mean {spec.quality} {np.mean([r['search'] for r in mine]):.4f}"
        )


def row_of(quality: dict[str, Measurement] | None) -> dict[str, float]:
    none = Measurement(float("nan"))
    search, confirm = (quality[split] if quality else none for split in ("search", "confirm"))
    return {"search": search.value, "search_standard_error": search.standard_error or 0.0, "confirm": confirm.value}


if __name__ == "__main__":
    main()
