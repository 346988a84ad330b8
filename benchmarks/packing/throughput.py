"""Training steps per second of several trials: packed, one after another, compiled, and in several processes.

    python benchmarks/packing/throughput.py [--device cuda] [--shapes minilm mpnet llama-1b] [--trials 8] [--tokens 256 1024 4096]

LoRA r=8 on q,v of random weights in the shape of the model: rates do not depend on the weights, so that nothing is
downloaded. `graphs` is torch.compile in the mode that records CUDA graphs. Writes ../results/throughput-<device>.csv.
steps_per_second counts the steps of all trials.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from rows import REPEATS, seconds, write
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, BertConfig, LlamaConfig, MPNetConfig, PretrainedConfig

from autopeft.device import find_precision
from autopeft.models.head import TaskModel
from autopeft.models.roles import find_shape
from autopeft.packing.pack import Pack
from autopeft.packing.views import view_of
from autopeft.tasks import Batch
from autopeft.training import Recipe, make_optimizer, train_step
from autopeft_searchspace.build import adapt
from autopeft_searchspace.configuration import Component, Configuration

SHAPES: dict[str, Callable[[], PretrainedConfig]] = {
    "tiny": lambda: BertConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=1000),
    "minilm": lambda: BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
    "mpnet": lambda: MPNetConfig(),
    "llama-1b": lambda: LlamaConfig(
        vocab_size=32_000, hidden_size=2048, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, intermediate_size=8192,
        pad_token_id=0,
    ),
}  # fmt: skip
LENGTH = 64
WAYS = ("sequential", "compiled", "graphs", "processes", "packed")


class Setting:
    """A model of a shape, a batch of it, and LoRA on all its layers."""

    def __init__(self, shape: str, tokens: int, device: torch.device) -> None:
        backbone = AutoModel.from_config(SHAPES[shape]()).to(device)
        head = nn.Linear(backbone.config.hidden_size, 2).to(device)
        tokenizer: Any = SimpleNamespace(pad_token_id=0)
        self.model = TaskModel(backbone, head, "mean", tokenizer, {})
        self.model.set_base_dropout(False)
        self.shape, self.device = find_shape(backbone), device
        rows, precision = max(1, tokens // LENGTH), find_precision("auto", device)
        self.recipe = Recipe("", "mean", "", "", LENGTH, LENGTH, device.type, precision, rows, 10_000, 0.06, 0.01, 1.0, False)
        self.configuration = Configuration((Component("lora", 8, tuple(range(self.shape.layers)), ("q", "v"), {"alpha": 8}),), 1e-3)
        ids = torch.randint(5, 1000, (rows, LENGTH), device=device)
        self.batch: Batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}
        self.task: Any = SimpleNamespace(loss=lambda model, batch: F.cross_entropy(model(batch).float(), batch["labels"]))

    def trial(self) -> TaskModel:
        model = view_of(self.model)
        model.backbone = adapt(model.backbone, self.configuration, self.shape, task_type="FEATURE_EXTRACTION").to(self.device)
        model.open_head()
        return model.train()

    def alone(self, mode: str | None) -> Callable[[], object]:
        """A step of one trial. mode: of torch.compile, None without it."""
        model = self.trial()
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = make_optimizer(parameters, 1e-3, 0.01)
        run = torch.compile(model, mode=mode) if mode else model
        return lambda: train_step(lambda: self.task.loss(run, self.batch), optimizer, parameters, self.recipe)

    def packed(self, trials: int, *, same: bool) -> Callable[[], object]:
        """A step of all. same: whether all see one batch, as trials that run in step do."""
        pack = Pack(self.model, self.shape, self.task, self.device)
        for number in range(trials):
            pack.join(number, self.trial(), self.recipe, self.configuration)
        batches = {number: self.batch if same else dict(self.batch) for number in range(trials)}
        return lambda: pack.step(batches)


def steps_per_second(way: str, setting: Setting, trials: int) -> float:
    if way == "packed":
        return trials / seconds(setting.packed(trials, same=True), setting.device)
    return 1 / seconds(setting.alone({"compiled": "default", "graphs": "reduce-overhead"}.get(way)), setting.device)


def _one_process(shape: str, tokens: int, device: str, ready: Any, queue: Any) -> None:
    setting = Setting(shape, tokens, torch.device(device))
    step = setting.alone(None)
    step()
    ready.wait()
    queue.put(seconds(step, setting.device))


def in_processes(shape: str, tokens: int, device: torch.device, count: int) -> float:
    """Steps per second of `count` processes that share the device."""
    context = multiprocessing.get_context("spawn")
    ready, queue = context.Barrier(count), context.Queue()
    processes = [context.Process(target=_one_process, args=(shape, tokens, str(device), ready, queue)) for _ in range(count)]
    for process in processes:
        process.start()
    found = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(1 / each for each in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--shapes", nargs="+", default=["minilm", "mpnet", "llama-1b"], choices=list(SHAPES))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 1024, 4096])
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("not measured: no CUDA device")
        return
    device = torch.device(given.device)
    rows = []
    for shape in given.shapes:
        for tokens in given.tokens:
            about = {"shape": shape, "tokens": tokens, "length": LENGTH, "repeats": REPEATS}
            for way in (way for way in given.ways if way != "processes"):
                trials = given.trials if way == "packed" else 1
                rows.append(
                    {
                        **about,
                        "way": way,
                        "at_once": trials,
                        "steps_per_second": steps_per_second(way, Setting(shape, tokens, device), trials),
                    }
                )
            for count in given.processes if "processes" in given.ways else ():
                rows.append({**about, "way": "processes", "at_once": count, "steps_per_second": in_processes(shape, tokens, device, count)})
    write("throughput", rows, device)


if __name__ == "__main__":
    main()
