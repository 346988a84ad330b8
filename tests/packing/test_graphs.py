"""Steps of a pack that are recorded once and replayed are the steps that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from packing.test_pack import CPU, MIXED, Setting, assert_same, lora, recipe
from searchspace.test_every_type import TYPES, one_of
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autopeft.models.head import TaskModel
from autopeft.packing import arena
from autopeft.packing.graphs import EAGER_STEPS, ON_HOST, Graphs, signature
from autopeft.packing.pack import Pack
from autopeft.packing.padding import padded_length
from autopeft.packing.trunk import TrialFault
from autopeft.packing.views import NotPackable, view_of
from autopeft.tasks import Batch
from autopeft_searchspace.build import changed_paths
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.registry import adapter_type

ORDER = [[0, 1, 2], [3, 4, 5], [5, 1, 0], [1, 3, 5]]
STEPS = 24


class Recorder:
    """Stands for CUDA graphs: runs on what the tensors of the recording hold, and does nothing when it records."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.recorded += 1

        def replay() -> Tensor:
            self.replayed += 1
            return run()

        return replay


def train(pack: Pack, setting: Setting, configurations: Mapping[int, Configuration], shares: bool) -> tuple[dict[int, list[float]], Any]:
    """Steps on all batches, again and again; the last trial leaves after half of them."""
    losses: dict[int, list[float]] = {number: [] for number in configurations}
    models = {}
    for number, configuration in configurations.items():
        models[number] = setting.build(view_of(setting.model, changed_paths(configuration, setting.shape)), configuration, number)
        pack.join(number, models[number], recipe(setting.kind, STEPS), configuration)
    for at in range(STEPS):
        if at == STEPS // 2:
            pack.leave(max(configurations))
        shared = setting.batch(ORDER[at % len(ORDER)])
        batches = {n: shared if shares else setting.batch(ORDER[(at + n) % len(ORDER)]) for n in configurations if n in pack}
        for number, outcome in pack.step(batches).items():
            assert isinstance(outcome, float), outcome
            losses[number].append(outcome)
    return losses, models


@pytest.fixture(scope="module", params=["bert-classification", "llama-causal_lm", "mpnet-regression"])
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    architecture, kind = request.param.split("-")
    return Setting(tmp_path_factory.mktemp(request.param), architecture, kind)


@pytest.mark.parametrize("shares", [True, False], ids=["one batch for all", "batches of their own"])
def test_replayed_steps_are_those_of_a_pack_without_recordings(setting: Setting, shares: bool) -> None:
    configurations = {number: c for number, c in enumerate(MIXED) if setting.kind == "classification" or c.components}
    if setting.kind != "classification":
        configurations = {0: Configuration((lora(4, (1, 2), ("v",)),), 1e-2), 1: Configuration((lora(2, (2,), ("v", "o")),), 3e-3)}
    plain, models = train(Pack(setting.model, setting.shape, setting.task, CPU), setting, configurations, shares)
    pack, recorder = Pack(setting.model, setting.shape, setting.task, CPU), Recorder()
    pack._graphs = Graphs(lambda: recorder)
    losses, recorded = train(pack, setting, configurations, shares)
    assert recorder.recorded >= 1
    assert recorder.replayed > len(ORDER)
    for number in configurations:
        assert losses[number] == pytest.approx(plain[number], abs=1e-5)
        assert_same(recorded[number], models[number])


def test_a_trial_that_draws_random_numbers_keeps_the_pack_from_being_recorded(tmp_path: Path) -> None:
    setting = Setting(tmp_path, "bert", "classification")
    pack, recorder = Pack(setting.model, setting.shape, setting.task, CPU), Recorder()
    pack._graphs = Graphs(lambda: recorder)
    train(pack, setting, {0: MIXED[0], 1: Configuration((Component("pvera", 4, (1,), ("q",)),), 1e-2)}, True)
    assert recorder.recorded <= 1  # once the one that draws has left


def test_where_recording_fails_steps_run_as_they_come(capfd: pytest.CaptureFixture[str]) -> None:
    def fails(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    def compute(batches: Mapping[int, Batch], rates: Tensor, steps: Tensor) -> Tensor:
        return batches[0]["labels"] * rates

    graphs, batch = Graphs(lambda: fails), {"labels": torch.ones(2)}
    for at in range(EAGER_STEPS + 2):
        told = graphs.run(compute, {0: batch}, torch.full((2,), float(at)), torch.ones(2))
        assert told.tolist() == [at, at]
    assert not graphs.on
    assert capfd.readouterr().err.count("not recorded as CUDA graphs: RuntimeError: operation not permitted") == 1


def test_a_signature_tells_shapes_and_who_shares() -> None:
    one, other = {"input_ids": torch.ones(2, 8)}, {"input_ids": torch.zeros(2, 8)}
    assert signature({0: one, 1: one}) == signature({0: other, 1: other})
    assert signature({0: one, 1: one}) != signature({0: one, 1: other})
    assert signature({0: one, 1: one}) != signature({0: one, 2: one})
    assert signature({0: one}) != signature({0: {"input_ids": torch.ones(2, 16)}})


def test_lengths_are_padded_by_an_eighth_at_most() -> None:
    assert [padded_length(n) for n in (1, 8, 9, 60, 64, 65, 128, 129, 500)] == [8, 8, 16, 64, 64, 72, 128, 144, 512]
    assert all(n <= padded_length(n) <= n + max(7, n / 8) for n in range(1, 5000))
    assert len({padded_length(n) for n in range(1, 513)}) == 32


class DeviceAlone(TorchDispatchMode):
    """Notes operators that carry values between the host and the device (here `meta`); numbers without dimensions may be operands. Also
    what solves systems, which waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.crossing: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        devices = {t.device.type for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor) and t.ndim}
        copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        every = {t.device.type for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)}
        solves = "linalg" in str(func) and "norm" not in str(func)
        if solves or len(devices) > 1 or (copies and len(every) > 1):
            self.crossing.append(str(func))
        return out


def on_meta(*models: TaskModel) -> None:
    """Moved where tensors have no values; what was shared stays shared."""
    made: dict[int, Tensor] = {}

    def moved(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            there = tensor.detach().to("meta")
            made[id(tensor)] = nn.Parameter(there, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else there
        return made[id(tensor)]

    for module in (module for model in models for module in model.modules()):
        for tensors in (module._parameters, module._buffers):
            tensors.update({name: moved(tensor) for name, tensor in tensors.items() if tensor is not None})


def host_operators(setting: Setting, components: Sequence[Component], shares: bool) -> list[str]:
    """What carries values between host and device in a step of trials with these; reading a value raises."""
    base, meta = setting.fresh(), torch.device("meta")
    chosen = {number: Configuration((component,), 1e-3) for number, component in enumerate(components)}
    models = {n: setting.build(view_of(base, changed_paths(c, setting.shape)), c, n) for n, c in chosen.items()}
    on_meta(base, *models.values())
    pack = Pack(base, setting.shape, setting.task, meta)
    for number, configuration in chosen.items():
        pack.join(number, models[number], recipe("classification"), configuration)
    batch = {name: tensor.to(meta) for name, tensor in setting.batch([0, 1, 2]).items()}
    batches = {number: batch if shares else dict(batch) for number in chosen}
    rates, steps = pack._arena.each({}, torch.float32), pack._arena.each({}, torch.int64)
    for _ in range(2):  # the first step finds out what trains
        pack._prepare()
        with DeviceAlone() as watch:
            told = pack._compute(batches, rates, steps)
        assert told.shape == (len(pack), 2)
    return watch.crossing


@pytest.fixture
def capturing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As within a recording: transformers does not look into masks, and AdamW is one kernel."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr(arena, "adamw", lambda flat, rates, *rest: flat.gradients.norm() * rates)


COMMON = [
    Component("lora", 4, (1, 2), ("q", "v"), {"alpha": 4}),
    Component("dora", 4, (0, 1), ("q", "v")),
    Component("ia3", 1, (1, 2), ("k", "v", "ff_out")),
    Component("shira", 2, (1, 2), ("q", "v")),
    Component("paca", 4, (1, 2), ("q", "v")),
    Component("serial", 4, (0, 2), (), {"place": "feed_forward", "bias": True}),
    Component("parallel", 4, (2,), (), {"place": "attention", "bias": True}),
    Component("prefix", 3, (1, 2)),
]


@pytest.mark.usefixtures("capturing")
@pytest.mark.parametrize("shares", [True, False], ids=["one batch for all", "batches of their own"])
def test_a_step_neither_waits_for_the_device_nor_reads_from_the_host(tmp_path: Path, shares: bool) -> None:
    assert host_operators(Setting(tmp_path, "bert", "classification"), [*COMMON, *COMMON], shares) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("capturing")
@pytest.mark.parametrize("kind", TYPES)
def test_types_that_need_the_host_in_a_step_are_known(kind: str, tmp_path: Path) -> None:
    setting, adapter = Setting(tmp_path, "bert", "classification"), adapter_type(kind)
    if adapter.unavailable(setting.shape):
        pytest.skip("not for this architecture")
    try:
        needs = bool(host_operators(setting, [one_of(adapter, setting.shape)], False))
    except NotPackable:
        pytest.skip("not packed at all")
    except (TrialFault, RuntimeError):  # a value was read
        needs = True
    assert needs == (kind in ON_HOST)
