"""IST is the published algorithm: its update by hand, its damping, and a model with one important layer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from bench import lora, run, workbench
from test_drawing import changed_layers
from torch import nn

from autopeft.execute.workbench import Workbench
from autopeft.layerwise.ist import Ist, damping_hook, updated
from autopeft.trial import TrialState
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.strategies import published


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return workbench(tmp_path_factory.mktemp("ist"))


def test_scores_follow_an_example_worked_by_hand() -> None:
    """Losses ln 2 and ln 4 are rewards 1/2 and 1/4, centred 1/8 and -1/8; p = 1/2 for scores of 0.

    Layer 0 is damped by the first alone: 10 * 1/8 * 1/4 = 0.3125. Layer 1 by both: 0. Layer 2 by the second: -0.3125.
    """
    scores = updated(torch.zeros(4), [[0, 1], [1, 2]], [math.log(2), math.log(4)], 10.0)
    assert scores.tolist() == pytest.approx([0.3125, 0.0, -0.3125, 0.0])
    p = 1 / (1 + math.exp(-0.3125))
    again = updated(scores, [[0], [3]], [math.log(2), math.log(4)], 10.0)
    assert again[0].item() == pytest.approx(0.3125 + 10 / 8 * p * (1 - p))


def test_only_drawn_layers_change_and_a_quarter_of_three_is_one(bench: Workbench) -> None:
    steps = changed_layers(bench, lora(published("ist", interval=2)))
    assert all(changed == set(drawn) and len(drawn) == 1 for drawn, changed in steps)


@pytest.mark.parametrize(
    "component",
    [
        Component("lora", 2, (0, 1, 2), ("q", "v"), {"alpha": 2}),
        Component("serial", 2, (0, 1, 2), (), {"place": "feed_forward", "bias": True}),
        Component("prefix", 2, (0, 1, 2)),
    ],
    ids=lambda c: c.type,
)
def test_damping_leaves_a_share_of_what_the_adapter_adds(bench: Workbench, component: Component) -> None:
    bench.build(Configuration((component,), 1e-2, published("ist", damping=0.25)), 0)
    try:
        strategy = bench.strategy
        assert isinstance(strategy, Ist)
        for parameter in bench.model.adapter_parameters():
            nn.init.normal_(parameter, std=0.5)
        bench.model.eval()
        layer, seen = strategy.adapted[1][-1], []
        handle = layer.register_forward_hook(lambda m, i, k, out: seen.append((m.base_layer(*i, **k), out)), with_kwargs=True)
        with torch.no_grad():
            bench._loss([0, 1])
            handle.remove()
            base, adapted = (first(x) for x in seen[0])
            second = layer.register_forward_hook(damping_hook(0.25), with_kwargs=True)
            third = layer.register_forward_hook(lambda m, i, out: seen.append(out))
            bench._loss([0, 1])
            second.remove()
            third.remove()
        assert not torch.allclose(base, adapted)
        torch.testing.assert_close(first(seen[1]), base + 0.25 * (adapted - base))
    finally:
        bench.restore()


def first(output: object) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output  # type: ignore[return-value]


def test_a_planted_important_layer_is_ranked_first(tmp_path: Path) -> None:
    """Layer 1 alone has modules that its adapters can move the output by: elsewhere the value path is cut."""
    bench = workbench(tmp_path)
    for layer in (0, 2):
        nn.init.zeros_(bench.model.backbone.get_submodule(bench.shape.modules["o"][layer].path).weight)
    strategy = published("ist", active=0.7, interval=1, candidates=3, rate=100.0)
    outcome, seen = run(bench, lora(strategy, roles=("v",), size=8), steps=60)
    assert outcome.state is TrialState.COMPLETE, outcome.reason
    assert seen is not None
    importance = {layer: seen.measurements[f"importance.{layer}"].value for layer in range(3)}
    assert max(importance, key=lambda layer: importance[layer]) == 1, importance


def test_every_part_of_a_composition_is_trained_by_layer(bench: Workbench) -> None:
    parts = (Component("lora", 2, (0, 1, 2), ("q",), {"alpha": 2}), Component("prefix", 1, (0, 1, 2)))
    steps = changed_layers(bench, Configuration(parts, 1e-2, published("ist")))
    assert all(changed == set(drawn) for drawn, changed in steps)
