"""What needs a CUDA device. `make bench-gpu` runs it; elsewhere it is skipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from packing.test_pack import MIXED, Setting, lora, recipe
from small import run_small

from autopeft.casts import Casts
from autopeft.models.roles import find_shape
from autopeft.packing.pack import Pack
from autopeft.packing.views import view_of
from autopeft.record import read
from autopeft.trial import TrialState
from autopeft_searchspace.build import adapt, changed_paths
from autopeft_searchspace.configuration import Component, Configuration

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

LORA = [lora(4, (1, 2), ("q", "v")), lora(8, (0, 2), ("v", "o")), lora(2, (2,), ("ff_in",))]
COMPONENTS = {
    "serial": Component("serial", 4, (0, 2), (), {"place": "feed_forward", "bias": True}),
    "parallel": Component("parallel", 4, (1, 2), (), {"place": "attention", "bias": True}),
    "prefix": Component("prefix", 3, (0, 1)),
}


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("name", list(COMPONENTS))
def test_adapters_give_on_cuda_what_they_give_on_the_cpu(architecture: str, name: str) -> None:
    model = tiny.build(architecture)
    shape = find_shape(model)
    if name == "prefix" and not shape.attention_paths:
        pytest.skip("this architecture takes no prefix")
    adapted = adapt(model, Configuration((COMPONENTS[name],), 1e-3), shape, task_type=None)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    ids = torch.randint(3, tiny.VOCABULARY, (2, 7))
    on_cpu = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    on_cuda = adapted.cuda()(input_ids=ids.cuda(), attention_mask=torch.ones_like(ids).cuda()).last_hidden_state
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, atol=2e-3, rtol=2e-3)


def test_a_search_runs_on_cuda_and_its_memory_prediction_ranks_the_measured_peaks(tmp_path: Path) -> None:
    run_small(tmp_path / "source", tmp_path / "study", device="auto", budget="12trials")
    record = read(tmp_path / "study")
    assert record.environment["recipe"]["device_type"] == "cuda"
    assert not [t for t in record.trials if t.state is TrialState.FAILED]
    for trial in record.complete:
        last = trial.final()
        assert last is not None
        assert last.measurements["measured_peak_memory_bytes"].value > 80e6


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "llama"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_steps_recorded_as_cuda_graphs_are_those_that_are_not(
    architecture: str, precision: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also after a trial has left. Kernels for other lengths and masks round otherwise, most of all in bf16."""
    kind = "causal_lm" if architecture == "llama" else "classification"
    setting, cuda, found = Setting(tmp_path, architecture, kind), torch.device("cuda:0"), {}
    model = setting.model.to(cuda)
    trials = dict(enumerate(MIXED)) if architecture == "bert" else {n: Configuration((LORA[n],), 1e-2) for n in range(3)}
    batches = [{name: tensor.to(cuda) for name, tensor in setting.batch(order).items()} for order in ([0, 1, 2], [3, 4, 5], [5, 1, 0])]
    for graphs in (False, True):
        losses, models, casts = [], {}, Casts("cuda") if precision == "bf16" else None
        pack = Pack(model, setting.shape, setting.task, cuda, graphs=graphs, casts=casts)
        for number, configuration in trials.items():
            models[number] = setting.build(view_of(model, changed_paths(configuration, setting.shape)), configuration, number).to(cuda)
            pack.join(number, models[number], replace(recipe(kind, 48), device_type="cuda", precision=precision), configuration)
        for step in range(48):
            if step == 24:
                assert bool(len(pack._graphs)) == graphs
                pack.leave(1)
            losses.append(pack.step({number: batches[step % 3] for number in models if number in pack}))
        assert bool(len(pack._graphs)) == graphs
        found[graphs] = losses, models
    assert "not recorded" not in capfd.readouterr().err
    for plain, recorded in zip(found[False][0], found[True][0], strict=True):
        assert recorded == pytest.approx(plain, abs=1e-3 if precision == "fp32" else 5e-2)
