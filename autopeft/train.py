"""Full training of a chosen trial's configuration, over seeds, judged on the test split.

The recipe is the study's, with its steps or more epochs; the seeds are others than the search used.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autopeft import files
from autopeft.coordinator import Progress
from autopeft.errors import AutopeftError, DataError
from autopeft.record import StudyRecord
from autopeft.statistics import Estimate, mean_over_seeds, normal_interval, t_half_width
from autopeft.trial import Measurement, Observation, Trial, TrialSpec, TrialState

RESULT = "result.json"
BY_SEED = ("tests", "per_example", "adapters")
FIRST_SEED = 101
"""Training seeds count from here: the search and its replicates use small ones."""


@dataclass(frozen=True)
class TrainResult:
    """What training one configuration gave.

    tests: seed -> score on the test split. estimate: their mean with its interval.
    per_example: seed -> scores whose mean is the metric, empty where the metric is no such mean.
    """

    trial: int
    metric: str
    steps: int
    tests: dict[int, Measurement]
    estimate: Estimate
    per_example: dict[int, list[float]]
    adapters: dict[int, str]
    configuration: str
    recipe: str

    def to_json(self) -> dict[str, Any]:
        """For `result.json` and `--json`; keys of `tests`, `per_example` and `adapters` are texts."""
        plain = asdict(self)
        for name in BY_SEED:
            plain[name] = {str(seed): content for seed, content in plain[name].items()}
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> TrainResult:
        by_seed = {name: {int(seed): content for seed, content in plain[name].items()} for name in BY_SEED}
        by_seed["tests"] = {seed: Measurement(**measurement) for seed, measurement in by_seed["tests"].items()}
        return cls(**{**plain, **by_seed, "estimate": Estimate(**plain["estimate"])})

    def in_words(self) -> str:
        lines = [f"trial {self.trial}: {self.configuration}"]
        lines += [f"  seed {seed}: test {self.metric} {m.value:.4f}, adapter in {self.adapters[seed]}" for seed, m in self.tests.items()]
        e = self.estimate
        lines.append(
            f"test {self.metric} {e.value:.4f}, 95 % interval {e.low:.4f} to {e.high:.4f} ({len(self.tests)} seeds, {self.steps} steps)"
        )
        return "\n".join(lines)


def train(
    record: StudyRecord,
    trial: Trial,
    seeds: int,
    progress: Progress,
    *,
    output: Path | None = None,
    device: str | None = None,
    epochs: float | None = None,
) -> TrainResult:
    """Train `trial`'s configuration once per seed, test it, and save adapters and `result.json`.

    What was trained before with this recipe and these seeds is read again, not trained again.

    output: folder for `seed-<n>/` and `result.json`; `<study>/train/<number>` by default.
    epochs: passes over the training data; by default as many steps as the study's trials had.
    Raises DataError where the data have no test split, AutopeftError where a run fails.
    """
    from autopeft.execute.workbench import Workbench, recipe_hash

    output = output or record.folder / "train" / str(trial.number)
    progress.say("loading model and data")
    bench = Workbench(record.spec, record.folder, device or record.spec.device)
    if not bench.splits.test:
        raise DataError("there is no test split, so nothing to judge the training by; give data.test or a test file in data.source")
    bench.prepare(record.environment["threads"], calibrate=False)
    steps = record.environment["total_steps"]
    if epochs is not None:
        steps = max(1, math.ceil(epochs * len(bench.train_set) / record.spec.training.batch_size))
    seeds_wanted = list(range(FIRST_SEED, FIRST_SEED + seeds))
    recipe = recipe_hash(bench.recipe(steps))
    if (known := _read(output / RESULT)) and (known.recipe, list(known.tests)) == (recipe, seeds_wanted):
        progress.say(f"trial {trial.number} was trained before; its results are in {output}")
        return known
    test_set = bench.encode(bench.splits.test)
    tests: dict[int, Measurement] = {}
    per_example: dict[int, list[float]] = {}
    adapters: dict[int, str] = {}
    for seed in seeds_wanted:
        folder = output / f"seed-{seed}"
        spec = TrialSpec(trial.number, trial.configuration, seed, (steps,), str(folder))

        def judge(bench: Workbench, seed: int = seed) -> None:
            predictions = bench.predict(test_set)
            tests[seed] = bench.task.score(record.spec.quality, predictions, test_set)
            scores = bench.task.per_example(record.spec.quality, predictions, test_set)
            per_example[seed] = [] if scores is None else [float(score) for score in scores]

        outcome = bench.run(spec, _no_rungs, lambda step, loss: progress.step(trial.number, step, steps, loss), at_end=judge)
        if outcome.state is not TrialState.COMPLETE:
            raise AutopeftError(f"training of trial {trial.number} with seed {seed} ended {outcome.state}: {outcome.reason}")
        adapters[seed] = str(folder)
        progress.say(f"seed {seed}: test {record.spec.quality} {tests[seed].value:.4f} in {outcome.seconds:.0f} s")
    examples = len(test_set) if record.spec.quality == "accuracy" else None
    scores = list(tests.values())
    estimate = mean_over_seeds([m.value for m in scores], [m.standard_error for m in scores], examples)
    words = trial.configuration.in_words()
    result = TrainResult(trial.number, record.spec.quality, steps, tests, estimate, per_example, adapters, words, recipe)
    files.write_json(output / RESULT, result.to_json())
    return result


def _read(path: Path) -> TrainResult | None:
    return TrainResult.from_json(json.loads(path.read_text("utf-8"))) if path.exists() else None


def _no_rungs(observation: Observation) -> bool:
    return True


def paired_difference(first: TrainResult, second: TrainResult) -> Estimate:
    """Test metric of `first` minus that of `second`, paired by seed and by example.

    The interval adds, in squares, the t half-width over seeds of the mean gap and the normal
    half-width over examples of the gap averaged over seeds (as `statistics` does for single means).
    Raises AutopeftError where the metric is not a mean over examples or the runs share no seeds.
    """
    seeds = sorted(first.per_example.keys() & second.per_example.keys())
    if not seeds or not all(first.per_example[s] and second.per_example[s] for s in seeds):
        raise AutopeftError(f"runs of trials {first.trial} and {second.trial} cannot be paired example by example")
    gaps = np.array([np.subtract(first.per_example[s], second.per_example[s]) for s in seeds])
    mean, examples = float(gaps.mean()), gaps.shape[1]
    low, high = normal_interval(mean, float(gaps.mean(axis=0).std(ddof=1)) / math.sqrt(examples))
    half = math.hypot((high - low) / 2, t_half_width([float(gap) for gap in gaps.mean(axis=1)]))
    return Estimate(mean, mean - half, mean + half, len(seeds), examples)


def comparison(first: TrainResult, second: TrainResult) -> str:
    """`paired_difference` in a sentence."""
    gap = paired_difference(first, second)
    verdict = "not distinguishable" if gap.contains_zero else "a real difference"
    return (
        f"trial {first.trial} minus trial {second.trial}: {gap.value:+.4f}, 95 % interval {gap.low:+.4f} to {gap.high:+.4f} "
        f"(paired over {gap.seeds} seeds and {gap.examples} test examples): {verdict}"
    )
