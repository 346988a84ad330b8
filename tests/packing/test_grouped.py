"""Kinds of adapters that one operation serves for all trials of a pack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from packing.test_pack import Setting, assert_same, bottleneck, lora, orders

from autopeft.packing import grouped
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.tuners.entries import ColumnsPart, SparsePart


def paca(size: int, layers: tuple[int, ...], roles: tuple[str, ...]) -> Component:
    return Component("paca", size, layers, roles)


def rosa(size: int, layers: tuple[int, ...], roles: tuple[str, ...], sparse: float) -> Component:
    return Component("rosa", size, layers, roles, {"sparse": sparse})


TRIALS = {
    "paca": (
        ColumnsPart,
        "columns",
        [
            Configuration((paca(4, (0, 1, 2), ("q", "v", "ff_out")),), 1e-2),
            Configuration((lora(2, (1, 2), ("q", "k")),), 1e-2),
            Configuration((paca(1, (1, 2), ("q", "ff_in")),), 2e-2),
            Configuration((paca(9, (2,), ("k", "v", "ff_out")), bottleneck("serial", 3, (1,))), 5e-3),
        ],
    ),
    "rosa": (
        SparsePart,
        "sparse",
        [
            Configuration((rosa(2, (0, 1, 2), ("q", "ff_out"), 1),), 5e-3),
            Configuration((lora(2, (1, 2), ("q", "k")),), 1e-2),
            Configuration((rosa(4, (1, 2), ("q", "v"), 0.5),), 3e-3),
            Configuration((Component("shira", 2, (1, 2), ("q", "k")),), 5e-3),
        ],
    ),
}


@pytest.mark.parametrize("alike", [True, False], ids=["common order", "own orders"])
@pytest.mark.parametrize("kind", TRIALS)
def test_one_call_serves_the_trials_on_a_module(kind: str, alike: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of unlike sizes on unlike modules learn what each would alone, and no layer of their own runs."""
    part, name, chosen = TRIALS[kind]
    setting = Setting(tmp_path, "bert", "classification")
    trials = {n: (configuration, n) for n, configuration in enumerate(chosen)}
    batches = orders(setting, alike, len(trials))
    right = {n: setting.alone(configuration, seed, batches[n]) for n, (configuration, seed) in trials.items()}

    served: list[int] = []
    operation = getattr(grouped, name)

    def counted(base: torch.Tensor, x: torch.Tensor, weights: Sequence[torch.Tensor], *args: Any) -> torch.Tensor:
        served.append(len(weights))
        return operation(base, x, weights, *args)

    def never(*_: object) -> None:
        raise AssertionError("a layer of a trial's own ran")

    monkeypatch.setattr(grouped, name, counted)
    monkeypatch.setattr(part, "forward", never)
    losses, models = setting.packed(trials, batches)
    assert set(served) == {1, 2}
    for n in trials:
        assert losses[n] == pytest.approx(right[n][0], abs=1e-5), chosen[n].in_words()
        assert_same(models[n], right[n][1])


def test_beside_another_part_on_its_module_it_runs_on_its_own(tmp_path: Path) -> None:
    setting = Setting(tmp_path, "bert", "classification")
    two = Configuration((paca(3, (1,), ("q", "k")), lora(2, (1,), ("q",))), 1e-2)
    model = setting.build(setting.fresh(), two, 0)
    attention = model.backbone.base_model.model.encoder.layer[1].attention.self
    assert grouped.Columns().read(attention.query) is None
    alone = grouped.Columns().read(attention.key)
    assert alone is not None
    assert [tuple(each.shape) for each in alone] == [(32, 3), (3,)]
