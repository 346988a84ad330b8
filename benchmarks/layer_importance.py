"""Memory by part and seconds per step of layer strategies on one base model, side by side.

    python benchmarks/layer_importance.py MODEL_FOLDER --out benchmarks/results/layer-importance-NAME-cpu.csv

Every strategy trains LoRA r=16 on all linear layers (LISA: blocks of the base model) in float32 on batches of random
tokens. Memory is measured over `DRAWS` draws of layers, with the even weights that IST starts from:

    activations   bytes that the forward pass keeps for the backward pass, parameters not counted
    gradients     of what trains in the step
    optimizer     two moments of what trains in the step, or of all that ever does where the state is kept
    together      their sum, mean over draws and most of any

Seconds per step: rounds in which the strategies take turns, so that what else the machine does meets all alike; CPU
seconds of the process on a CPU, wall seconds on a GPU; the median over rounds. Light-PEFT is timed after its pruning.
"""

from __future__ import annotations

import argparse
import copy
import csv
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel

from autopeft.layerwise import LayerStrategy, make_strategy
from autopeft.layerwise.drawing import STATE_BYTES, Drawing, count, draw
from autopeft.layerwise.light_peft import LightPeft
from autopeft.models.head import TaskModel
from autopeft.models.roles import find_shape
from autopeft.training import Recipe, Run, make_optimizer, train_step
from autopeft_searchspace.build import adapt
from autopeft_searchspace.configuration import Component, Configuration, Strategy
from autopeft_searchspace.strategies import active_layers, published

DRAWS = 8
PARTS = ("activations", "gradients", "optimizer")
ESTIMATION_STEPS = 3
WEIGHT_BYTES = 4
SAVING: dict[str, Any] = {"redraw": 10, "drop_state": True}
COMPARED: dict[str, Strategy | None] = {
    "lora": None,
    "random_layers": published("random_layers"),
    "random_layers, memory-saving": published("random_layers", **SAVING),
    "ist": published("ist"),
    "ist, memory-saving": published("ist", **SAVING),
    "frozen_below": published("frozen_below"),
    "lisa": published("lisa"),
    "light_peft, estimation": published("light_peft"),
    "light_peft": published("light_peft"),
    "light_peft, base pruned alone": published("light_peft", modules=0.0, ranks=0.0),
}
"""At the published rates; the memory-saving variants keep a draw for ten steps and forget the state of what is frozen."""


class Contestant:
    """One strategy on a model of its own; frozen weights are shared with the others. model: the bare base."""

    def __init__(self, strategy: Strategy | None, model: Any, batches: list[dict[str, torch.Tensor]], device: str) -> None:
        shape = find_shape(model)
        own = strategy is not None and strategy.name == "lisa"
        backbone = copy.deepcopy(model, {} if own else {id(p): p for p in model.parameters()})
        components = () if own else (Component("lora", 16, tuple(range(shape.layers)), shape.roles, {"alpha": 16}),)
        configuration = Configuration(components, 1e-4, strategy)
        torch.manual_seed(0)
        task = TaskModel(backbone, nn.Linear(shape.width, 2).to(device), "mean", None, {})  # type: ignore[arg-type]
        task.set_base_dropout(False)
        task.backbone = adapt(backbone, configuration, shape, task_type=task.task_type).to(device)  # type: ignore[assignment]
        task.open_head()
        self.model, self.batches, self.device = task, batches, device
        self.strategy: LayerStrategy | None = make_strategy(configuration, shape, 0)
        if self.strategy:
            self.strategy.attach(task)
        parameters = [p for p in task.parameters() if p.requires_grad]
        recipe = Recipe("", "mean", "", "", 0, 0, device, "fp32", 0, 10**6, 0.0, 0.01, 1.0, False)
        self.run = Run(task, self.loss, recipe, parameters, make_optimizer(parameters, 1e-4, 0.01))
        if self.strategy:
            self.strategy.begin(self.run)
        task.train()

    def loss(self, step: int) -> torch.Tensor:
        batch = self.batches[step % len(self.batches)]
        return nn.functional.cross_entropy(self.model(batch), batch["labels"])

    def step(self) -> float:
        """One step as the training loop makes it; its seconds."""
        clock = time.process_time if self.device == "cpu" else time.perf_counter
        start = clock()
        if self.strategy:
            self.strategy.before_step(self.run)
        after = (lambda: self.strategy.after_backward(self.run)) if self.strategy else None
        train_step(lambda: self.loss(self.run.step), self.run.optimizer, self.run.parameters, self.run.recipe, after)
        self.run.step += 1
        if self.device != "cpu":
            torch.cuda.synchronize()
        return clock() - start

    def prune(self) -> None:
        """Let Light-PEFT estimate for a few steps and prune."""
        assert isinstance(self.strategy, LightPeft)
        for _ in range(ESTIMATION_STEPS):
            self.step()
        self.strategy.prune()
        self.run.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.run.optimizer = make_optimizer(self.run.parameters, 1e-4, 0.01)

    def activations(self) -> int:
        """Bytes of distinct storages that the forward pass keeps, without parameters."""
        own = {p.untyped_storage().data_ptr() for p in self.model.parameters()}
        kept: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.loss(0)
            found = sum(kept.values())
        del loss
        return found

    def memory(self) -> list[tuple[int, int, int]]:
        """(activations, gradients, optimizer) bytes of each draw; of one where nothing is drawn."""
        head = sum(p.numel() for p in self.model.head_parameters())
        if not isinstance(self.strategy, Drawing):
            weights = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
            return [(self.activations(), WEIGHT_BYTES * weights, STATE_BYTES * weights)]
        found = []
        for _ in range(DRAWS):
            chosen = even_draw(self.strategy)
            self.strategy.switch(chosen)
            always = head + sum(p.numel() for p in self.strategy.always)
            trained = always + count(self.strategy.layers, chosen)
            only = self.strategy.drop_state or self.strategy.name == "frozen_below"  # the others never had any
            held = trained if only else always + count(self.strategy.layers)
            found.append((self.activations(), WEIGHT_BYTES * trained, STATE_BYTES * held))
        return found


def even_draw(strategy: Drawing) -> tuple[int, ...]:
    """Layers of one draw with even weights; the highest of `frozen_below`."""
    layers, settings = tuple(strategy.layers), strategy.settings
    if strategy.name == "frozen_below":
        return layers[-active_layers(float(settings["active"]), len(layers)) :]
    number = int(settings["layers"]) if "layers" in settings else active_layers(float(settings["active"]), len(layers))
    return draw(strategy.generator, layers, number)


def compare(folder: Path, device: str, batch: int, tokens: int, rounds: int) -> list[dict[str, Any]]:
    base = AutoModel.from_pretrained(folder, dtype=torch.float32).to(device)
    base.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(rounds):
        ids = torch.randint(1000, base.config.vocab_size - 100, (batch, tokens), generator=generator)
        mask = torch.ones_like(ids)
        mask[-1, tokens - 1] = 0  # examples differ in length, as they do in training
        labels = torch.randint(2, (batch,), generator=generator)
        batches.append({n: t.to(device) for n, t in {"input_ids": ids, "attention_mask": mask, "labels": labels}.items()})
    contestants: dict[str, Contestant] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, strategy in COMPARED.items():
        contestants[name] = one = Contestant(strategy, base, batches, device)
        if name.startswith("light_peft") and "estimation" not in name:
            one.prune()
        backbone = one.model.backbone
        own = strategy is not None and strategy.name == "lisa"
        adapter = 0 if own else sum(p.numel() for p in one.model.adapter_parameters())
        base_parameters = sum(p.numel() for p in backbone.parameters()) - adapter
        memory = one.memory()
        print(f"{name}: {sum(memory[0]) / 2**20:.0f} MiB kept in the first draw", flush=True)
        rows[name] = {
            "strategy": name,
            "base_parameters": base_parameters,
            "mean_trained_parameters": round(statistics.mean(g for _, g, _ in memory) / WEIGHT_BYTES),
            **{f"mean_{part}_bytes": round(statistics.mean(m[i] for m in memory)) for i, part in enumerate(PARTS)},
            **{f"most_{part}_bytes": max(m[i] for m in memory) for i, part in enumerate(PARTS)},
            "mean_together_bytes": round(statistics.mean(map(sum, memory))),
            "most_together_bytes": max(map(sum, memory)),
        }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(rounds + 1):
        for name, one in contestants.items():
            taken = one.step()
            if round_:  # the first warms up
                seconds[name].append(taken)
    for name, row in rows.items():
        ratios = [own / plain for own, plain in zip(seconds[name], seconds["lora"], strict=True)]
        row["seconds_per_step"] = round(statistics.median(seconds[name]), 4)
        row["step_of_lora"] = round(statistics.median(ratios), 3)
        row["together_of_lora"] = round(row["mean_together_bytes"] / rows["lora"]["mean_together_bytes"], 3)
        row |= {
            "device": device_name(device),
            "batch": batch,
            "tokens": tokens,
            "rounds": rounds,
            "draws": DRAWS,
            "torch": torch.__version__,
        }
    return list(rows.values())


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device != "cpu" else f"{platform.machine()} CPU, {torch.get_num_threads()} thread"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8)
    given = parser.parse_args()
    rows = compare(given.model, given.device, given.batch, given.tokens, given.rounds)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
