"""Eight unlike trials in one MiniLM, against separate runs that know nothing of packing: plain peft, plain torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from small import MINILM, small_data
from torch.nn import functional as F

from autopeft.execute.pack_room import Room
from autopeft.execute.workbench import Workbench
from autopeft.meters import measure_peak
from autopeft.models.head import TaskModel
from autopeft.models.load import load_task_model
from autopeft.packing.pack import Pack
from autopeft.packing.views import view_of
from autopeft.spec import StudySpec
from autopeft.training import rate_factor
from autopeft_searchspace.build import adapt
from autopeft_searchspace.configuration import Component, Configuration

STEPS, BATCH, LONGEST = 30, 8, 32


def lora(size: int, layers: tuple[int, ...], roles: tuple[str, ...], rate: float) -> Configuration:
    return Configuration((Component("lora", size, layers, roles, {"alpha": size}),), rate)


def bottleneck(kind: str, size: int, layers: tuple[int, ...], rate: float, place: str) -> Configuration:
    return Configuration((Component(kind, size, layers, (), {"place": place, "bias": True}),), rate)


TRIALS = [
    lora(8, tuple(range(6)), ("q", "v"), 5e-3),
    lora(1, (1, 4), ("k",), 1e-2),
    lora(32, (3, 4, 5), ("q", "k", "v", "o", "ff_in", "ff_out"), 1e-3),
    Configuration((Component("ia3", 1, tuple(range(6)), ("k", "v")),), 1e-2),
    bottleneck("serial", 24, (0, 2, 5), 1e-3, "feed_forward"),
    bottleneck("parallel", 48, (1, 2), 3e-3, "attention"),
    Configuration((Component("prefix", 4, (2, 3)),), 1e-2),
    Configuration((*lora(4, (2, 5), ("v", "o"), 2e-3).components, *bottleneck("serial", 6, (4,), 1.0, "attention").components), 2e-3),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    folder = tmp_path_factory.mktemp("minilm")
    small_data(folder / "data")
    content: dict[str, Any] = {"name": "pack", "model": {"base": MINILM}, "task": {"kind": "classification"}, "precision": "fp32"}
    spec = {**content, "data": {"source": "data", "max_length": LONGEST}, "training": {"batch_size": BATCH}, "device": "cpu"}
    return Workbench(StudySpec.model_validate(spec), folder, "cpu")


def fresh(bench: Workbench, configuration: Configuration, seed: int) -> TaskModel:
    """A model of its own; what peft has is put on by peft alone."""
    model = load_task_model(bench.spec, bench.task, bench.folder, bench.tokenizer, attention=bench.attention)
    model.set_base_dropout(False)
    torch.manual_seed(seed)
    model.reset_head(seed)
    kinds = {component.type for component in configuration.components}
    if kinds <= {"lora", "ia3"} and len(configuration.components) == 1:
        (one,) = configuration.components
        suffixes = [bench.shape.modules[role][0].path.split(".0.", 1)[1] for role in one.roles]
        pattern = rf".*\.({'|'.join(map(str, one.layers))})\.({'|'.join(re.escape(s) for s in suffixes)})"
        config = LoraConfig(r=one.size, lora_alpha=one.size, target_modules=pattern)
        if kinds == {"ia3"}:
            config = IA3Config(target_modules=pattern, feedforward_modules=[])
        model.backbone = get_peft_model(model.backbone, config)
    else:
        model.backbone = adapt(model.backbone, configuration, bench.shape, task_type=model.task_type)
    model.open_head()
    return model


def alone(bench: Workbench, configuration: Configuration, seed: int, padded: bool = False) -> tuple[list[float], list[torch.Tensor]]:
    """Losses of 30 steps, and the trained parameters. padded: each batch to `LONGEST` tokens, which rounds otherwise."""
    recipe, model = bench.recipe(STEPS), fresh(bench, configuration, seed).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": bench.spec.training.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, configuration.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, STEPS, recipe.warmup_share))
    losses = []
    for batch in bench.batches(recipe, seed):
        collated = bench.batch(batch)
        if padded:
            fill = {"input_ids": bench.model.pad_id}
            more = LONGEST - collated["input_ids"].shape[1]
            collated = {k: F.pad(v, (0, more), value=fill.get(k, 0)) if v.ndim == 2 else v for k, v in collated.items()}
        loss = bench.task.loss(model, collated)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses, [p.detach() for p in parameters]


def join_all(bench: Workbench, order: Mapping[int, int]) -> tuple[Pack, dict[int, TaskModel]]:
    """A pack of all trials; order: the seed of each."""
    pack, models = Pack(bench.model, bench.shape, bench.task, bench.device), {}
    for n, configuration in enumerate(TRIALS):
        models[n] = model = view_of(bench.model)
        torch.manual_seed(order[n])
        model.reset_head(order[n])
        model.backbone = adapt(model.backbone, configuration, bench.shape, task_type=model.task_type)
        model.open_head()
        pack.join(n, model, bench.recipe(STEPS), configuration)
    return pack, models


@pytest.mark.slow
@pytest.mark.parametrize("seeds", ["own", "one"])
def test_thirty_steps_of_eight_unlike_trials(bench: Workbench, seeds: str) -> None:
    """own: each trial has its own order of the data; one: all see the same batches."""
    order = {n: n if seeds == "own" else 0 for n in range(len(TRIALS))}
    pack, models = join_all(bench, order)
    batches = {n: bench.batches(bench.recipe(STEPS), order[n]) for n in models}
    losses: dict[int, list[float]] = {n: [] for n in models}
    for step in range(STEPS):
        collated = {tuple(batches[n][step]): bench.batch(batches[n][step]) for n in models}
        for n, outcome in pack.step({n: collated[tuple(batches[n][step])] for n in models}).items():
            assert isinstance(outcome, float), outcome
            losses[n].append(outcome)
    for n, configuration in enumerate(TRIALS):
        right, parameters = alone(bench, configuration, order[n])
        assert losses[n] == pytest.approx(right, abs=1e-5), configuration.in_words()
        trained = [p.detach() for p in models[n].parameters() if p.requires_grad]
        assert len(trained) == len(parameters)
        if (off := furthest(trained, parameters)) > 1e-4:  # AdamW divides gradients of the size of rounding by themselves
            rounding = furthest(alone(bench, configuration, order[n], padded=True)[1], parameters)
            assert off <= 5 * rounding, f"{configuration.in_words()}: off by {off:.2g}, by rounding alone {rounding:.2g}"


def furthest(mine: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.slow
def test_memory_of_a_pack_is_what_was_predicted(bench: Workbench) -> None:
    predicted = Room(bench).predicted_bytes(TRIALS)
    pack, models = join_all(bench, dict.fromkeys(range(len(TRIALS)), 0))
    batch = bench.batch(bench.longest_batch())
    resident = [*bench.model.parameters(), *bench.model.buffers()]
    resident += [p for model in models.values() for p in model.parameters() if not p.requires_grad]
    measured = measure_peak(lambda: pack.step(dict.fromkeys(models, batch)), bench.device, resident)
    assert predicted == pytest.approx(measured, rel=0.15)
