"""The training loop on models small enough to follow by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from autopeft.training import Diverged, Progress, Recipe, make_optimizer, rate_factor, train

RECIPE = Recipe(
    base="tiny",
    head="mean",
    metric="accuracy",
    data="0",
    max_length=8,
    longest=8,
    device_type="cpu",
    precision="fp32",
    batch_size=1,
    total_steps=10,
    warmup_share=0.2,
    weight_decay=0.0,
    clip_norm=1.0,
    base_dropout=False,
)


def test_rate_rises_to_its_peak_and_falls_to_almost_zero() -> None:
    factors = [rate_factor(step, 10, 0.2) for step in range(10)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[-1] == pytest.approx(1 / 8)
    assert factors[2:] == sorted(factors[2:], reverse=True)


def test_without_warm_up_the_first_step_has_the_peak_rate() -> None:
    assert rate_factor(0, 4, 0.0) == 1.0


def test_first_adamw_step_moves_by_the_learning_rate_against_the_gradient() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    one_step = replace(RECIPE, total_steps=1, warmup_share=0.0)
    train(model, lambda step: model.weight.square().sum(), one_step, 0.1, [1], lambda progress: True)
    assert model.weight.item() == pytest.approx(1.9, abs=1e-6)


def test_biases_and_norms_do_not_decay() -> None:
    optimizer = make_optimizer(list(nn.Linear(2, 2).parameters()), 0.1, 0.5)
    assert {group["params"][0].ndim: group["weight_decay"] for group in optimizer.param_groups} == {2: 0.5, 1: 0.0}


def test_a_rung_stops_inside_the_one_schedule() -> None:
    def weights(stop_at: list[int], go_on: bool) -> tuple[float, Progress]:
        torch.manual_seed(0)
        model = nn.Linear(1, 1, bias=False)
        nn.init.constant_(model.weight, 2.0)
        progress = train(model, lambda step: model.weight.square().sum(), RECIPE, 0.1, stop_at, lambda p: go_on)
        return model.weight.item(), progress

    stopped, progress = weights([5, 10], False)
    assert progress.step == 5
    assert stopped == weights([5], True)[0]
    through, progress = weights([5, 10], True)
    assert progress.step == 10
    assert through == weights([10], True)[0]


def test_a_loss_that_is_no_number_diverges_before_it_reaches_the_weights() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)

    def loss(step: int) -> torch.Tensor:
        return model.weight.sum() * (math.nan if step == 1 else 1.0)

    with pytest.raises(Diverged, match="step 2"):
        train(model, loss, RECIPE, 0.1, [10], lambda progress: True)
    assert math.isfinite(model.weight.item())


def test_a_model_with_nothing_to_train_is_measured_as_it_is() -> None:
    model = nn.Linear(1, 1).requires_grad_(False)
    seen: list[int] = []
    progress = train(model, lambda step: model.weight.sum(), RECIPE, 0.1, [5, 10], lambda p: seen.append(p.step) is None)
    assert (progress.step, seen, progress.losses) == (10, [10], [])
