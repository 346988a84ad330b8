"""Optimisers of low-rank pairs against their formulas on small matrices, and AdaLoRA's cuts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from autopeft import updates
from autopeft.models.roles import find_shape
from autopeft.training import make_optimizer
from autopeft_searchspace.build import adapt
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.rules import check, trainable_parameters
from autopeft_searchspace.settings import build_space

LORA = Component("lora", 2, (0,), ("q",), {"alpha": 6})
SERIAL = Component("serial", 4, (1,), (), {"place": "feed_forward", "bias": True})


def adapted(optimizer: str, *components: Component) -> tuple[Any, Any]:
    backbone = tiny.build("bert")
    shape = find_shape(backbone)
    torch.manual_seed(0)
    return adapt(backbone, Configuration(components, 1e-2, optimizer=optimizer), shape, task_type=None), shape


def ready(optimizer: str, *components: Component) -> tuple[Any, torch.optim.Optimizer, updates.Pair]:
    """A model whose first pair has random B and gradients, and its optimiser."""
    model, _ = adapted(optimizer, *components)
    made = make_optimizer([p for p in model.parameters() if p.requires_grad], 1e-2, 0.0)
    updates.prepare(made, model, optimizer, 10)
    (pair,) = updates.pairs(model)
    with torch.no_grad():
        pair.up.normal_()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn_like(parameter)
    return model, made, pair


@pytest.mark.parametrize("components", [(LORA,), (LORA, SERIAL)], ids=["alone", "composed"])
def test_riemannian_divides_by_the_other_factor(components: tuple[Component, ...]) -> None:
    _, optimizer, pair = ready("riemannian", *components)
    a, b, grad_a, grad_b = (t.detach().clone() for t in (pair.down, pair.up, pair.down.grad, pair.up.grad))
    optimizer.step()
    near = 1e-6 * torch.eye(2)
    torch.testing.assert_close(pair.down.grad, torch.inverse(b.T @ b + near) @ grad_a)
    torch.testing.assert_close(pair.up.grad, grad_b @ torch.inverse(a @ a.T + near), rtol=1e-4, atol=1e-4)


def test_lora_fa_freezes_a_and_projects_the_gradient_of_b() -> None:
    """With s = 3 the step of B is along grad_B (A A^T)^-1 / 9: B A then follows the full gradient G as closely as A allows."""
    model, optimizer, pair = ready("lora_fa", LORA)
    a, full = pair.down.detach().clone(), torch.randn(pair.up.shape[0], pair.down.shape[1])
    pair.up.grad = 3 * full @ a.T  # what the gradient G of the weight gives B
    optimizer.step()
    assert torch.equal(pair.down, a)
    assert not pair.down.requires_grad
    nearest = full @ a.T @ torch.inverse(a @ a.T) @ a  # G projected on the rows of A
    torch.testing.assert_close(3 * pair.up.grad @ a, nearest, rtol=1e-3, atol=1e-3)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == pair.up.numel()


def test_lora_plus_gives_a_a_sixteenth_of_the_rate() -> None:
    _, optimizer, pair = ready("lora_plus", LORA, SERIAL)
    shares = {id(p): group.get("share", 1.0) for group in optimizer.param_groups for p in group["params"]}
    assert shares[id(pair.down)] == 1 / 16
    assert [share for key, share in shares.items() if key != id(pair.down)] == [1.0] * (len(shares) - 1)


def test_counts_and_keys() -> None:
    model, shape = adapted("lora_fa", LORA, SERIAL)
    configuration = Configuration((LORA, SERIAL), 1e-2, optimizer="lora_fa")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable_parameters(configuration, shape)
    assert "optimizer" not in Configuration((LORA,), 1e-2).key
    assert Configuration.from_json(configuration.to_json()) == configuration


@pytest.mark.parametrize(
    ("optimizer", "components", "rule"),
    [
        ("lora_fa", (SERIAL,), "trains pairs of low-rank factors, of which there are none in serial"),
        ("sgd", (LORA,), "optimizer must be one of adamw, lora_plus, lora_fa, riemannian, it is 'sgd'"),
        ("lora_fa", (LORA, Component("hydra", 2, (0,), ("q",))), "is not made for the factors of hydra"),
    ],
)
def test_what_an_optimiser_cannot_train_is_refused(optimizer: str, components: tuple[Component, ...], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        check(Configuration(components, 1e-2, optimizer=optimizer), find_shape(tiny.build("bert", device="meta")))


def test_the_space_asks_for_the_optimiser_only_where_pairs_train() -> None:
    space = build_space("lora", find_shape(tiny.build("bert", device="meta")), {"types": ["lora", "ia3"], "optimizers": "all"})
    assert space.is_active("optimizer", {"lora.size": 4, "ia3.size": 0})
    assert not space.is_active("optimizer", {"lora.size": 0, "ia3.size": 1})
    point = {d.name: d.values[-1] for d in space.dimensions} | {"optimizer": "lora_plus", "ia3.size": 0}
    configuration = space.configuration(point)
    assert configuration.optimizer == "lora_plus"
    assert space.configuration(space.values(configuration)) == configuration


def test_adalora_cuts_to_its_size_and_is_kept_near_orthogonal() -> None:
    """Two modules of 3 triplets each, size 2: in the end 4 triplets are left, whatever module they are in."""
    model, _ = adapted("adamw", Component("adalora", 2, (0,), ("q", "v")))
    optimizer = make_optimizer([p for p in model.parameters() if p.requires_grad], 1e-2, 0.0)
    updates.prepare(optimizer, model, "adamw", 20)
    penalty = updates.penalty_of(model)
    first = float(torch.as_tensor(penalty()).detach())
    for _ in range(20):
        loss = model(**tiny.batch()).last_hidden_state.pow(2).mean() + penalty()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    singular = [p for name, p in model.named_parameters() if "lora_E" in name]
    assert [len(p) for p in singular] == [3, 3]
    assert sum(int((p != 0).sum()) for p in singular) == 4
    assert float(torch.as_tensor(penalty()).detach()) < first


def test_the_penalty_of_adalora_on_a_worked_case() -> None:
    """Factors 2 I: |4 I - I| = 3 sqrt(3) for each, times 0.1."""
    model, _ = adapted("adamw", Component("adalora", 2, (0,), ("q",)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                parameter.copy_(2 * torch.eye(*parameter.shape))
    penalty = updates.penalty_of(model)
    assert float(torch.as_tensor(penalty()).detach()) == pytest.approx(0.1 * 3 * 3**0.5, rel=1e-6)
    assert updates.penalty_of(nn.Linear(2, 2))() == 0.0


def test_the_penalty_of_kasa_on_a_worked_case() -> None:
    """One module, two singular values e = (1, 2), A and B scaled identities 2 I: beta 5 + gamma (3 sqrt(2) + 3 sqrt(2))."""
    model, _ = adapted("adamw", Component("kasa", 2, (0,), ("q",)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_diag" in name:
                parameter.copy_(torch.tensor([1.0, 2.0]))
            elif "lora_" in name:
                parameter.copy_(2 * torch.eye(*parameter.shape))
    found = updates.penalty_of(model)()
    assert float(torch.as_tensor(found).detach()) == pytest.approx(1e-4 * 5 + 1e-3 * 6 * 2**0.5, rel=1e-6)


def test_the_penalty_of_monteclora_on_a_worked_case() -> None:
    """Rank 2, all at their priors (1, and .1 for each weight): 0. Standard deviations of 2 add 1e-5 (2 (4 + 4) - 2 log 4^2 - 2^2) / 2."""
    model, _ = adapted("adamw", Component("monteclora", 2, (0,), ("q",)))
    model.train()
    penalty = updates.penalty_of(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "std_prior" in name:
                parameter.zero_()
            elif "expert_weights_prior" in name:
                parameter.fill_(math.log(0.1))
    assert float(torch.as_tensor(penalty()).detach()) == pytest.approx(0.0, abs=1e-8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "std_prior" in name:
                parameter.fill_(math.log(2))
    assert float(torch.as_tensor(penalty()).detach()) == pytest.approx(1e-5 * (6 - 2 * math.log(4)), rel=1e-4)
