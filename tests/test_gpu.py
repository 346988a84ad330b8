"""What needs a CUDA device. `make bench-gpu` runs it; elsewhere it is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from packing.test_pack import MIXED, Setting, assert_same, recipe
from small import run_small

from autopeft.models.roles import find_shape
from autopeft.packing.pack import Pack
from autopeft.packing.padding import padded_length
from autopeft.packing.views import view_of
from autopeft.record import read
from autopeft.trial import TrialState
from autopeft_searchspace.build import adapt, changed_paths
from autopeft_searchspace.configuration import Component, Configuration

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

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


def test_steps_recorded_as_cuda_graphs_are_those_that_are_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    setting, cuda, found = Setting(tmp_path, "bert", "classification"), torch.device("cuda:0"), {}
    model = setting.model.to(cuda)
    for graphs in (False, True):
        pack, losses, models = Pack(model, setting.shape, setting.task, cuda, graphs=graphs), [], {}
        for number, configuration in enumerate(MIXED):
            models[number] = setting.build(view_of(model, changed_paths(configuration, setting.shape)), configuration, number).to(cuda)
            pack.join(number, models[number], recipe("classification", 24), configuration)
        batches = [{name: tensor.to(cuda) for name, tensor in setting.batch(order).items()} for order in ([0, 1, 2], [3, 4, 5], [5, 1, 0])]
        for step in range(24):
            losses.append(pack.step(dict.fromkeys(models, batches[step % 3])))
        assert len(pack._graphs) == (len({padded_length(batch["input_ids"].shape[1]) for batch in batches}) if graphs else 0)
        found[graphs] = losses, models
    assert "not recorded" not in capfd.readouterr().err
    for plain, recorded in zip(found[False][0], found[True][0], strict=True):
        assert recorded == pytest.approx(plain, abs=1e-4)
    for number in found[True][1]:
        assert_same(found[True][1][number], found[False][1][number])
