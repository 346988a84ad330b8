"""What needs a CUDA device. `make bench-gpu` runs it; elsewhere it is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from small import run_small

from autopeft.models.roles import find_shape
from autopeft.record import read
from autopeft.trial import TrialState
from autopeft_searchspace.build import adapt
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
