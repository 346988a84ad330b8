"""The probe before a search: it finds what was planted, and leaves the model as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bench import workbench

from autopeft.layerwise.probe import prior_of
from autopeft_searchspace.prior import Prior


def test_layers_count_relative_to_the_mean_of_their_role() -> None:
    """q: 1 and 3, mean 2, so 0.5 and 1.5; v: 10 and 10, so 1 and 1."""
    assert prior_of({"q": [1.0, 3.0], "v": [10.0, 10.0]}) == Prior((0.75, 1.25), {"q": 2.0, "v": 10.0})


def test_a_layer_that_nothing_passes_through_comes_last(tmp_path: Path) -> None:
    bench = workbench(tmp_path, importance="probe")
    block = bench.shape.modules
    for role in ("o", "ff_out"):
        bench.model.backbone.get_submodule(block[role][1].path).weight.data.zero_()
    before = {n: p.detach().clone() for n, p in bench.model.backbone.named_parameters()}
    found = Prior.from_json(bench.prepare(1, calibrate=True)["importance"])
    assert min(range(3), key=lambda layer: found.layers[layer]) == 1
    assert set(found.roles) == set(bench.shape.roles)
    assert all(torch.equal(p, before[n]) and not p.requires_grad for n, p in bench.model.backbone.named_parameters())


def test_without_the_flag_nothing_is_probed(tmp_path: Path) -> None:
    assert "importance" not in workbench(tmp_path).prepare(1, calibrate=True)


@pytest.mark.parametrize("calibrate", [False])
def test_a_study_that_goes_on_is_not_probed_again(tmp_path: Path, calibrate: bool) -> None:
    assert "importance" not in workbench(tmp_path, importance="probe").prepare(1, calibrate=calibrate)
