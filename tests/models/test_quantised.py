"""Base models in 8 and 4 bits: what is stored, counted and said of them, and that everything trains on them that claims to."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny_base import load, save_base, splits
from tiny_study import tiny_spec
from torch import nn

from autopeft.checks import require_study
from autopeft.errors import ModelError, SpecError
from autopeft.execute.workbench import Workbench
from autopeft.memory import MemoryPredictor
from autopeft.merged import check_merges, check_reloads, outputs
from autopeft.models import quantised
from autopeft.models.load import load_task_model
from autopeft.models.quantised import Quantisation, loading_code
from autopeft.models.roles import find_shape
from autopeft.spec_file import read_spec
from autopeft.tasks import task_for
from autopeft.trial import Observation, TrialSpec, TrialState
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.rules import check, trainable_parameters
from autopeft_searchspace.settings import build_space

needed = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = ("int8", "nf4")
LORA = Configuration((Component("lora", 2, (1, 2), ("q", "v", "ff_in"), {"alpha": 4}),), 5e-3)
OFFERED = {"preset": "lora", "change": {"quantisation": ["none", "int8", "nf4"]}}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    folder = tmp_path_factory.mktemp("quantised")
    spec, _ = read_spec(tiny_spec(folder, precision="fp32", space=OFFERED))
    made = Workbench(spec, folder, "cpu")
    made.prepare(1, calibrate=False)
    return made


def run(
    bench: Workbench, configuration: Configuration, at_end: Callable[[Workbench], None] = lambda bench: None, **more: Any
) -> Observation:
    seen: list[Observation] = []

    def at_rung(observation: Observation) -> bool:
        seen.append(observation)
        return True

    outcome = bench.run(TrialSpec(0, configuration, 0, (2, 12), **more), at_rung, at_end=at_end)
    assert outcome.state is TrialState.COMPLETE, outcome.reason
    return seen[-1]


@needed
@pytest.mark.parametrize("kind", KINDS)
def test_trials_train_save_and_reload_on_it(bench: Workbench, kind: str, tmp_path: Path) -> None:
    """Evaluated at a rung and trained on; the same again after trials on the plain base model."""
    configuration = replace(LORA, quantisation=kind)
    said: list[torch.Tensor] = []
    first = run(bench, configuration, lambda made: said.append(outputs(made, made.model)), save_to=str(tmp_path / "adapter"))
    assert min(loss for _, loss in first.curve) < first.curve[0][1]
    check_reloads(bench, tmp_path / "adapter", said[0])
    code = (tmp_path / "adapter" / "README.md").read_text("utf-8")
    assert f"quantization_config={loading_code(kind, 'fp32', [])}" in code
    plain = run(bench, LORA)
    again = run(bench, configuration)
    assert (again.curve, again.measurements["search.accuracy"]) == (first.curve, first.measurements["search.accuracy"])
    assert plain.curve != first.curve
    assert plain.measurements["measured_peak_memory_bytes"].value > first.measurements["measured_peak_memory_bytes"].value


@needed
@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_predicted_and_parameters_are_counted(bench: Workbench, kind: str, tmp_path: Path) -> None:
    space = build_space(bench.spec.space.preset, bench.shape, bench.spec.space.change)
    predictor = MemoryPredictor(bench.spec, space, bench.recipe(0), bench.task.labels, tmp_path, bench.folder)
    configuration = replace(LORA, quantisation=kind)
    exact, plain = predictor.exact(configuration), predictor.exact(LORA)
    measured = run(bench, configuration).measurements["measured_peak_memory_bytes"].value
    assert exact.peak == pytest.approx(measured, rel=0.03)
    assert find_shape(bench.model.backbone) == bench.shape
    assert trainable_parameters(configuration, bench.shape) == trainable_parameters(LORA, bench.shape)
    linear = sum(m.numel() for m in _linear_weights(bench.load("none").backbone))
    stored = linear if kind == "int8" else linear // 2
    scales = plain.weights - exact.weights - (4 * linear - stored)
    assert -linear / 8 < scales < 0  # of int8 one scale for each output, of nf4 one for 64 weights
    assert predictor.fast(LORA) - predictor.fast(configuration) == plain.weights - exact.weights


def _linear_weights(model: nn.Module) -> list[nn.Parameter]:
    return [module.weight for module in model.modules() if isinstance(module, nn.Linear)]


@needed
def test_heads_stay_whole(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "distilbert")
    _, _, spec = load(base, weights=False, model={"head": "own"})
    model: Any = load_task_model(spec, task_for(spec.task, splits("classification")), quantisation=Quantisation("nf4"))
    assert {type(model.backbone.get_submodule(name)) for name in ("pre_classifier", "classifier")} == {nn.Linear}
    assert model.backbone.distilbert.transformer.layer[0].ffn.lin1.weight.dtype is torch.uint8
    assert spec.model.base == str(base)


def quantised_model(base: Path, kind: str, **settings: Any) -> Any:
    from tiny_base import splits

    from autopeft.models.load import load_task_model
    from autopeft.tasks import task_for

    _, _, spec = load(base, weights=False, **settings)
    return load_task_model(spec, task_for(spec.task, splits(spec.task.kind)), quantisation=Quantisation(kind))


def test_without_bitsandbytes_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda name: None)
    spec, _ = read_spec(tiny_spec(tmp_path, space=OFFERED))
    with pytest.raises(ModelError, match=r"quantisation int8 needs bitsandbytes; install it with `pip install 'autopeft\[quant\]'`"):
        require_study(spec, tmp_path)


def test_what_cannot_be_quantised_is_refused(tmp_path: Path) -> None:
    shape = find_shape(tiny.build("bert", device="meta"))
    for components, said in (
        (
            (replace(LORA.components[0], options={"alpha": 4, "init": "pissa"}),),
            "lora alpha 4 init pissa does not train on a quantised base",
        ),
        ((Component("dora", 2, (0,), ("q",)),), "dora does not train on a quantised base, quantisation is nf4"),
    ):
        with pytest.raises(ValueError, match=said):
            check(Configuration(components, 1e-3, quantisation="nf4"), shape)
    with pytest.raises(ValueError, match="quantisation must be one of none, int8, nf4, it is 'nf8'"):
        check(replace(LORA, quantisation="nf8"), shape)
    with pytest.raises(ValueError, match="those of gpt2 have transposed weights"):
        build_space("lora", find_shape(tiny.build("gpt2", device="meta")), {"quantisation": "nf4"})
    with pytest.raises(SpecError, match="the base model's weights are in nf4, which cannot take up an update"):
        check_merges(replace(LORA, quantisation="nf4"))
    spec, _ = read_spec(tiny_spec(tmp_path, space={"preset": "lora", "change": {"quantisation": "nf4"}}, importance="probe"))
    with pytest.raises(SpecError, match="importance 'probe' takes gradients of the base model's weights"):
        require_study(spec, tmp_path)
