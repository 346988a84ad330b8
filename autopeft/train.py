"""Full training of a chosen trial's configuration, over seeds, judged on the test split.

The recipe is the study's, with its steps or more epochs; the seeds are others than the search used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from autopeft import files
from autopeft.coordinator import Progress
from autopeft.errors import AutopeftError, DataError
from autopeft.first_look import first_look
from autopeft.merged import check_merges, check_reloads, outputs, save_merged
from autopeft.model_card import write_cards
from autopeft.record import StudyRecord
from autopeft.spec import StudySpec, resolve
from autopeft.statistics import mean_over_seeds
from autopeft.tested import RESULT
from autopeft.train_result import TrainResult
from autopeft.trial import Measurement, Observation, Trial, TrialSpec, TrialState
from autopeft_searchspace.strategies import strategy_type

if TYPE_CHECKING:
    from torch import Tensor

    from autopeft.execute.workbench import Workbench

FIRST_SEED = 101
"""Training seeds count from here: the search and its replicates use small ones."""


def train(
    record: StudyRecord,
    trial: Trial,
    seeds: int,
    progress: Progress,
    *,
    output: Path | None = None,
    device: str | None = None,
    epochs: float | None = None,
    data: str | None = None,
    merge: bool = False,
) -> TrainResult:
    """Train `trial`'s configuration once per seed, test it, and save adapters, their cards and `result.json`.

    What was trained before with this recipe and these seeds is read again, not trained again.

    output: folder for `seed-<n>/` and `result.json`; `<study>/train/<number>` by default.
    epochs: passes over the training data; by default as many steps as the study's trials had.
    data: other data of the same kind of task; with a new task head, as every run has.
    merge: also write each adapter folded into the base model.
    Raises DataError where the data have no test split, SpecError where there is nothing that merges,
    AutopeftError where a run fails, or a saved adapter does not give back what was trained.
    """
    from autopeft.execute.workbench import Workbench, recipe_hash

    if merge:
        check_merges(trial.configuration)
    output = output or record.folder / "train" / str(trial.number)
    progress.say("loading model and data")
    bench = Workbench(_on(record.spec, data) if data else record.spec, record.folder, device or record.spec.device)
    if not bench.splits.test:
        raise DataError("there is no test split, so nothing to judge the training by; give data.test or a test file in data.source")
    bench.prepare(record.environment["threads"], calibrate=False)
    steps = record.environment["total_steps"]
    if epochs is not None:
        steps = max(1, math.ceil(epochs * len(bench.train_set) / record.spec.training.batch_size))
    seeds_wanted = list(range(FIRST_SEED, FIRST_SEED + seeds))
    recipe = recipe_hash(bench.recipe(steps))
    made = recipe, seeds_wanted, trial.configuration.in_words()
    if (known := _read(output / RESULT)) and (known.recipe, list(known.tests), known.configuration) == made:
        progress.say(f"trial {trial.number} was trained before; its results are in {output}")
        return _merged(bench, known, output) if merge else known
    test_set, strategy = bench.encode(bench.splits.test), trial.configuration.strategy
    tests: dict[int, Measurement] = {}
    per_example: dict[int, list[float]] = {}
    adapters: dict[int, str] = {}
    said: dict[int, Tensor] = {}
    for seed in seeds_wanted:
        folder = output / f"seed-{seed}"
        spec = TrialSpec(trial.number, trial.configuration, seed, (steps,), str(folder))

        def judge(bench: Workbench, seed: int = seed) -> None:
            predictions = bench.predict(test_set)
            said[seed] = outputs(bench, bench.model)
            tests[seed] = bench.task.score(record.spec.quality, predictions, test_set)
            scores = bench.task.per_example(record.spec.quality, predictions, test_set)
            per_example[seed] = [] if scores is None else [float(score) for score in scores]

        outcome = bench.run(spec, _no_rungs, lambda step, loss: progress.step(trial.number, step, steps, loss), at_end=judge)
        if outcome.state is not TrialState.COMPLETE:
            raise AutopeftError(f"training of trial {trial.number} with seed {seed} ended {outcome.state}: {outcome.reason}")
        if not strategy or strategy_type(strategy.name).plain_adapter:
            check_reloads(bench, folder, said.pop(seed))
        adapters[seed] = str(folder)
        progress.say(f"seed {seed}: test {record.spec.quality} {tests[seed].value:.4f} in {outcome.seconds:.0f} s")
    examples = len(test_set) if record.spec.quality == "accuracy" else None
    scores = list(tests.values())
    estimate = mean_over_seeds([m.value for m in scores], [m.standard_error for m in scores], examples)
    words = trial.configuration.in_words()
    result = TrainResult(trial.number, record.spec.quality, steps, tests, estimate, per_example, adapters, words, recipe)
    if bench.splits.sha256 != record.environment["data"]["sha256"]:
        result = replace(result, data=bench.splits.sha256, data_name=data or "")
    files.write_json(output / RESULT, result.to_json())
    write_cards(record, result)
    return _merged(bench, result, output) if merge else result


def _on(spec: StudySpec, source: str) -> StudySpec:
    """The spec with other data; columns are found as `autopeft init` finds them, else taken to be named alike."""
    columns: Mapping[str, str] = {str(ours): name for ours, name in spec.data.columns.items()}
    with suppress(DataError):
        look = first_look(source, Path())
        columns = look.columns if look.task == spec.task.kind else columns
    kept = {"max_length": spec.data.max_length, "columns": dict(columns)}
    return StudySpec.model_validate({**spec.model_dump(), "data": {"source": resolve(source, Path()), **kept}})


def _merged(bench: Workbench, result: TrainResult, output: Path) -> TrainResult:
    """The result with a merged model beside each adapter, which are made where they are missing."""
    folders = {seed: Path(f"{adapter}-merged") for seed, adapter in result.adapters.items()}
    for seed, folder in folders.items():
        if not folder.exists() or seed not in result.merged:
            save_merged(bench, Path(result.adapters[seed]), folder)
    result = replace(result, merged={seed: str(folder) for seed, folder in folders.items()})
    files.write_json(output / RESULT, {**json.loads((output / RESULT).read_text("utf-8")), **result.to_json()})
    return result


def _read(path: Path) -> TrainResult | None:
    return TrainResult.from_json(json.loads(path.read_text("utf-8"))) if path.exists() else None


def _no_rungs(observation: Observation) -> bool:
    return True
