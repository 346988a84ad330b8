"""Frozen weights that are cast once give the numbers of casting them in every step, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from bench import lora, run, workbench
from packing.test_pack import CPU, MIXED, Setting, recipe
from searchspace.test_every_type import TYPES, one_of
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.pytorch_utils import Conv1D

from autopeft.casts import Casts
from autopeft.packing.pack import Pack
from autopeft.packing.views import view_of
from autopeft_searchspace.build import changed_paths
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.registry import adapter_type


class CastWeights(TorchDispatchMode):
    """Notes shapes of matrices that are cast to bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and out.dtype is torch.bfloat16 and out.ndim == 2:
            self.shapes.append(tuple(out.shape))
        return out


def passed(model: nn.Module, ids: Tensor, enabled: bool = True) -> tuple[list[Tensor], int]:
    """Outputs and gradients of the embeddings, and how many matrices of weights were cast."""
    embeddings = model.get_input_embeddings().weight
    embeddings.requires_grad_(True)
    with CastWeights() as watch, torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        out = model(input_ids=ids).last_hidden_state
        out.float().sum().backward()
    gradient, embeddings.grad = embeddings.grad, None
    shapes = {
        tuple(module.weight.shape[::turn]) for module in model.modules() if isinstance(module, nn.Linear | Conv1D) for turn in (1, -1)
    }
    return [out.detach(), gradient], sum(shape in shapes for shape in watch.shapes)


@pytest.mark.parametrize("architecture", ["bert", "llama", "gpt2"])
def test_outputs_and_gradients_are_the_same_and_nothing_is_cast_again(architecture: str) -> None:
    model = tiny.build(architecture).eval().requires_grad_(False)
    ids = torch.randint(3, tiny.VOCABULARY, (2, 7))
    plain, often = passed(model, ids)
    casts = Casts("cpu")
    casts.put_on(model.modules())
    once, never = passed(model, ids)
    assert often > 0
    assert never == 0
    assert all(map(torch.equal, plain, once))
    with casts.pause():
        assert passed(model, ids)[1] == often
    casts.take_off()
    assert not [module for module in model.modules() if "forward" in vars(module)]
    assert passed(model, ids)[1] == often


def test_without_autocast_and_where_weights_train_all_is_as_ever() -> None:
    model = tiny.build("bert").eval().requires_grad_(False)
    ids = torch.randint(3, tiny.VOCABULARY, (2, 7))
    plain, _ = passed(model, ids, enabled=False)
    casts = Casts("cpu")
    casts.put_on(model.modules())
    assert all(map(torch.equal, plain, passed(model, ids, enabled=False)[0]))
    linear = model.encoder.layer[0].attention.self.query
    linear.weight.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        linear(torch.ones(2, linear.in_features)).sum().backward()
    assert linear.weight.grad is not None


def test_what_trains_gets_no_copy_and_shared_weights_get_one() -> None:
    one, other, trains = nn.Linear(3, 2), nn.Linear(3, 2, bias=False), nn.Linear(3, 2)
    one.requires_grad_(False)
    other.weight = one.weight
    casts = Casts("cpu")
    casts.put_on([one, other, trains])
    assert "forward" not in vars(trains)
    assert len(casts._copies) == 2  # a weight and a bias
    casts.take_off([one])
    assert "forward" not in vars(one)
    assert "forward" in vars(other)


def test_a_trial_is_the_same_and_its_peak_memory_too(tmp_path: Path) -> None:
    benches = [workbench(tmp_path, precision="bf16", keep_casts=keep) for keep in (True, False)]
    kept, plain = (run(bench, lora(layers=(1, 2)))[1] for bench in benches)
    assert kept is not None
    assert plain is not None
    assert kept.curve == plain.curve
    for name in ("search.accuracy", "confirm.accuracy", "measured_peak_memory_bytes"):
        assert kept.measurements[name] == plain.measurements[name]
    assert not benches[0].casts._modules


def test_trials_that_change_the_base_are_the_same_after_each_other(tmp_path: Path) -> None:
    """PiSSA takes part of each adapted weight away for as long as it trains."""
    pissa = Configuration((Component("lora", 2, (0, 1, 2), ("q", "v"), {"alpha": 2, "init": "pissa"}),), 1e-2)
    curves = []
    for keep in (True, False):
        bench = workbench(tmp_path, precision="bf16", keep_casts=keep)
        last = [run(bench, configuration)[1] for configuration in (lora(), pissa, lora(), pissa)]
        curves.append([observation.curve for observation in last if observation])
        assert len(bench.casts._copies) == 0
    assert curves[0] == curves[1]
    assert curves[0][0] == curves[0][2]


def packed(setting: Setting, casts: Casts | None) -> list[Any]:
    pack = Pack(setting.model, setting.shape, setting.task, CPU, casts=casts)
    for number, configuration in enumerate(MIXED):
        own = setting.build(view_of(setting.model, changed_paths(configuration, setting.shape)), configuration, number)
        pack.join(number, own, replace(recipe("classification"), precision="bf16"), configuration)
    losses = [pack.step(dict.fromkeys(range(len(MIXED)), setting.batch([0, 1, 2]))) for _ in range(4)]
    pack.leave(0)
    losses.append(pack.step(dict.fromkeys(range(1, len(MIXED)), setting.batch([3, 4]))))
    for number in range(1, len(MIXED)):
        pack.leave(number)
    assert casts is None or not casts._modules
    return losses


def test_a_pack_is_the_same(tmp_path: Path) -> None:
    setting = Setting(tmp_path, "bert", "classification")
    assert packed(setting, Casts("cpu")) == packed(setting, None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_is_the_same(kind: str, tmp_path: Path) -> None:
    found = []
    for keep in (True, False):
        bench = workbench(tmp_path, precision="bf16", keep_casts=keep)
        adapter = adapter_type(kind)
        if adapter.unavailable(bench.shape):
            pytest.skip("not for this architecture")
        outcome, last = run(bench, Configuration((one_of(adapter, bench.shape),), 1e-3))
        assert last is not None, outcome.reason
        found.append((outcome.state, last.curve, last.measurements["search.accuracy"]))
    assert found[0] == found[1]
