"""Strategies that open some layers and freeze the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bench import STEPS, lora, run, workbench

from autopeft.execute.workbench import Workbench
from autopeft.layerwise.drawing import Drawing, layer_of
from autopeft.trial import TrialState
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.strategies import published


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return workbench(tmp_path_factory.mktemp("bench"))


def changed_layers(bench: Workbench, configuration: Configuration) -> list[tuple[tuple[int, ...], set[int]]]:
    """Of each step: the layers that were open, and those whose weights changed."""
    found: list[tuple[tuple[int, ...], set[int]]] = []
    before: dict[str, torch.Tensor] = {}

    def look(step: int, loss: float) -> None:
        now = {n: p.detach().clone() for n, p in bench.model.backbone.named_parameters() if layer_of(n, bench.shape) is not None}
        if before:
            assert isinstance(bench.strategy, Drawing)
            moved = {layer_of(n, bench.shape) for n in now if not torch.equal(now[n], before[n])}
            found.append((bench.strategy.open, {layer for layer in moved if layer is not None}))
        before.update(now)

    outcome, _ = run(bench, configuration, at_step=look)
    assert outcome.state is TrialState.COMPLETE, outcome.reason
    return found


@pytest.mark.parametrize(("redraw", "drop_state"), [(1, False), (3, True)])
def test_random_layers_change_where_they_are_drawn_and_nowhere_else(bench: Workbench, redraw: int, drop_state: bool) -> None:
    strategy = published("random_layers", active=0.4, redraw=redraw, drop_state=drop_state)
    steps = changed_layers(bench, lora(strategy))
    assert len(steps) == STEPS - 1
    assert all(changed == set(open_layers) and len(open_layers) == 1 for open_layers, changed in steps)


def test_a_run_without_a_strategy_gives_the_numbers_of_one_whose_layers_all_train(bench: Workbench) -> None:
    _, plain = run(bench, lora())
    _, drawn = run(bench, lora(published("random_layers", active=1.0)))
    assert plain is not None
    assert drawn is not None
    assert plain.curve == drawn.curve


def test_what_trained_is_told(bench: Workbench) -> None:
    _, seen = run(bench, lora(published("random_layers", active=0.4)))
    assert seen is not None
    each = 4 * 2 * 32  # two modules of rank 2, each with two matrices of width 32
    assert seen.measurements["mean_trained_parameters"].value == each
    assert seen.measurements["most_trained_parameters"].value == each
    assert sum(seen.measurements[f"trained_share.{layer}"].value for layer in range(3)) == pytest.approx(1.0)


def test_dropped_state_is_gone_and_kept_state_is_kept(bench: Workbench) -> None:
    held: dict[bool, int] = {}
    for drop in (False, True):
        strategy = published("random_layers", active=0.4, redraw=1, drop_state=drop)

        def look(step: int, loss: float, drop: bool = drop) -> None:
            assert isinstance(bench.strategy, Drawing)
            assert bench.strategy.optimizer is not None
            held[drop] = sum(p in bench.strategy.optimizer.state for layer in bench.strategy.layers.values() for p in layer)

        run(bench, lora(strategy), steps=10, at_step=look)
    assert held == {False: 12, True: 4}


def test_frozen_below_trains_the_highest_layers_one_after_another(bench: Workbench) -> None:
    steps = changed_layers(bench, lora(published("frozen_below", active=0.7, growing=True)))
    assert [open_layers for open_layers, _ in steps] == [(2,), (2,), (1, 2), (1, 2), (1, 2)]
    assert all(changed == set(open_layers) for open_layers, changed in steps)
    fixed = changed_layers(bench, lora(published("frozen_below", active=0.7)))
    assert {open_layers for open_layers, _ in fixed} == {(1, 2)}


def test_lisa_trains_drawn_blocks_and_embeddings_and_gives_the_base_back(bench: Workbench, tmp_path: Path) -> None:
    from transformers import AutoModel

    before = {n: p.detach().clone() for n, p in bench.model.backbone.named_parameters()}
    lisa = Configuration((), 1e-3, published("lisa", layers=1, interval=2))
    moved: list[set[str]] = []

    def look(step: int, loss: float) -> None:
        moved.append({n for n, p in bench.model.backbone.named_parameters() if not torch.equal(p, before[n])})

    outcome, seen = run(bench, lisa, at_step=look, save_to=str(tmp_path / "adapter"))
    assert outcome.state is TrialState.COMPLETE, outcome.reason
    assert len({layer_of(n, bench.shape) for n in moved[0]} - {None}) == 1
    assert "embeddings.word_embeddings.weight" in moved[0]
    assert all(torch.equal(p, before[n]) and not p.requires_grad for n, p in bench.model.backbone.named_parameters())
    saved = AutoModel.from_pretrained(tmp_path / "adapter" / "base_model").state_dict()
    assert {n for n in before if not torch.equal(saved[n], before[n])} == moved[-1]
    assert seen is not None
    assert seen.measurements["most_trained_parameters"].value < sum(p.numel() for p in before.values())
