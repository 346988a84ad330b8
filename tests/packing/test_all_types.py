"""Every adapter type that can share a forward pass learns in a pack of all of them what it learns alone; all others say why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from packing.test_pack import CPU, STEPS, Setting, recipe
from searchspace.test_every_type import TYPES, one_of

from autopeft.models.head import TaskModel
from autopeft.packing.pack import Pack
from autopeft.packing.views import NotPackable, view_of
from autopeft_searchspace.build import changed_paths
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.registry import adapter_type

APART = {"adalora"}
"""Ranks are cut between steps."""


def assert_no_further(mine: TaskModel, theirs: TaskModel, turned: TaskModel, kind: str) -> None:
    """Parameters within 1e-4 of a run of their own, or no further from it than five times what rounding alone does: that run with the
    rows of its batches in reverse. AdamW divides gradients of the size of rounding by themselves."""
    own, other = dict(theirs.named_parameters()), dict(turned.named_parameters())
    rounding = max(float((p - other[name]).abs().max()) for name, p in own.items())
    for name, p in mine.named_parameters():
        torch.testing.assert_close(p, own[name], atol=max(1e-4, 5 * rounding), rtol=0, msg=lambda text, n=name: f"{kind}, {n}: {text}")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_type_that_can_be_packed_is_what_it_is_alone(tmp_path: Path) -> None:
    setting = Setting(tmp_path, "bert", "classification")
    batches = [setting.batch([i % 6, (i + 1) % 6, (i + 3) % 6]) for i in range(STEPS)]
    turned = [{name: value.flip(0) for name, value in batch.items()} for batch in batches]
    pack, models, chosen = Pack(setting.model, setting.shape, setting.task, CPU), dict[int, TaskModel](), dict[int, Configuration]()
    apart = set[str]()
    for number, kind in enumerate(TYPES):
        adapter = adapter_type(kind)
        if adapter.unavailable(setting.shape):
            continue
        component = one_of(adapter, setting.shape)
        configuration = Configuration((component,), 0.05 * adapter.default_learning_rate(component, setting.shape))
        model = setting.build(view_of(setting.model, changed_paths(configuration, setting.shape)), configuration, 0)
        try:
            pack.join(number, model, recipe("classification"), configuration)
        except NotPackable:
            apart.add(kind)
        else:
            models[number], chosen[number] = model, configuration
    losses: dict[int, list[float]] = {number: [] for number in models}
    for batch in batches:
        for number, outcome in pack.step(dict.fromkeys(models, batch)).items():
            assert isinstance(outcome, float), f"{TYPES[number]}: {outcome!r}"
            losses[number].append(outcome)
    for number, configuration in chosen.items():
        right, model = setting.alone(configuration, 0, batches)
        assert losses[number] == pytest.approx(right, abs=1e-5), TYPES[number]
        assert_no_further(models[number], model, setting.alone(configuration, 0, turned)[1], TYPES[number])
    assert apart == APART
