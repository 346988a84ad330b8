"""What training a configuration in full gave, and how two such results compare, example by example."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autopeft import files
from autopeft.errors import AutopeftError
from autopeft.statistics import Estimate, difference, normal_interval, t_half_width
from autopeft.tested import RESULT
from autopeft.trial import Measurement

BY_SEED = ("tests", "per_example", "adapters", "merged")


@dataclass(frozen=True)
class TrainResult:
    """What training one configuration gave.

    tests: seed -> score on the test split. estimate: their mean with its interval.
    per_example: seed -> scores whose mean is the metric, empty where the metric is no such mean.
    adapters, merged: seed -> folder; merged is empty unless it was asked for.
    data, data_name: sha256 and name of other data than the study's, "" where they are the study's.
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
    merged: dict[int, str] = field(default_factory=dict)
    data: str = ""
    data_name: str = ""

    def to_json(self) -> dict[str, Any]:
        """For `result.json` and `--json`; keys of `tests`, `per_example` and `adapters` are texts."""
        plain = asdict(self)
        for name in BY_SEED:
            plain[name] = {str(seed): content for seed, content in plain[name].items()}
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> TrainResult:
        by_seed = {name: {int(seed): content for seed, content in plain.get(name, {}).items()} for name in BY_SEED}
        by_seed["tests"] = {seed: Measurement(**measurement) for seed, measurement in by_seed["tests"].items()}
        kept = {name: content for name, content in plain.items() if name != "against"}
        return cls(**{**kept, **by_seed, "estimate": Estimate(**plain["estimate"])})

    def in_words(self) -> str:
        lines = [f"trial {self.trial}: {self.configuration}"]
        lines += [f"  seed {seed}: test {self.metric} {m.value:.4f}, adapter in {self.adapters[seed]}" for seed, m in self.tests.items()]
        lines += [f"  seed {seed}: merged into the base model in {folder}" for seed, folder in self.merged.items()]
        e = self.estimate
        lines.append(
            f"test {self.metric} {e.value:.4f}, 95 % interval {e.low:.4f} to {e.high:.4f} ({len(self.tests)} seeds, {self.steps} steps)"
        )
        return "\n".join(lines)


def paired_difference(first: TrainResult, second: TrainResult) -> Estimate:
    """Test metric of `first` minus that of `second`, paired by seed and, where the metric is a mean over examples, by example.

    Then the interval adds, in squares, the t half-width over seeds of the mean gap and the normal
    half-width over examples of the gap averaged over seeds (as `statistics` does for single means); else it is that of
    `statistics.difference`. Raises AutopeftError where the runs share no seeds.
    """
    seeds = sorted(first.tests.keys() & second.tests.keys())
    if not seeds:
        raise AutopeftError(f"runs of trials {first.trial} and {second.trial} share no seed")
    if not all(result.per_example.get(seed) for result in (first, second) for seed in seeds):
        mine, theirs = ({seed: (r.tests[seed].value, r.tests[seed].standard_error) for seed in seeds} for r in (first, second))
        return difference(mine, theirs)
    gaps = np.array([np.subtract(first.per_example[s], second.per_example[s]) for s in seeds])
    mean, examples = float(gaps.mean()), gaps.shape[1]
    low, high = normal_interval(mean, float(gaps.mean(axis=0).std(ddof=1)) / math.sqrt(examples))
    half = math.hypot((high - low) / 2, t_half_width([float(gap) for gap in gaps.mean(axis=1)]))
    return Estimate(mean, mean - half, mean + half, len(seeds), examples)


def comparison(first: TrainResult, second: TrainResult) -> str:
    """`paired_difference` in a sentence."""
    gap = paired_difference(first, second)
    verdict = "not distinguishable" if gap.contains_zero else "a real difference"
    over = f"paired over {gap.seeds} seeds and {gap.examples} test examples" if gap.examples else f"over {gap.seeds} seeds"
    return (
        f"trial {first.trial} minus trial {second.trial}: {gap.value:+.4f}, 95 % interval {gap.low:+.4f} to {gap.high:+.4f} "
        f"({over}): {verdict}"
    )


def note_comparison(first: TrainResult, second: TrainResult, output: Path) -> None:
    """Keep `paired_difference` with the first result in `output`, for the study's report."""
    files.write_json(output / RESULT, {**first.to_json(), "against": against(first, second)})


def against(first: TrainResult, second: TrainResult) -> dict[str, Any]:
    """The second result as JSON, with how the first differs from it."""
    return {**second.to_json(), "difference": asdict(paired_difference(first, second))}
