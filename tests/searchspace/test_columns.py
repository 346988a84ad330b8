"""PaCA against training columns of the weight itself, and what it keeps for the backward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autopeft_searchspace.tuners.entries import ColumnsPart
from autopeft_searchspace.tuners.parts import merged

D_IN, SIZE, D_OUT = 24, 5, 7


def made() -> tuple[nn.Linear, ColumnsPart, Tensor]:
    torch.manual_seed(0)
    return nn.Linear(D_IN, D_OUT).requires_grad_(False), ColumnsPart(D_IN, SIZE, D_OUT), torch.randn(2, 3, D_IN, requires_grad=True)


def test_a_step_is_that_of_the_columns_of_the_weight() -> None:
    module, part, x = made()
    weight = module.weight.clone().requires_grad_()
    optimizer = torch.optim.SGD([part.weight, weight], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (part(module, x).square().sum() + F.linear(x, weight, module.bias).square().sum()).backward()
        assert weight.grad is not None
        others = torch.ones(D_IN, dtype=torch.bool).index_fill(0, part.chosen, False)
        weight.grad[:, others] = 0
        optimizer.step()
    found, _ = merged([part], module)
    torch.testing.assert_close(found, weight.detach())
    assert ((found - module.weight).abs() > 1e-3).any(dim=0).nonzero().flatten().tolist() == part.chosen.tolist()


def test_of_its_inputs_only_those_of_its_columns_are_kept() -> None:
    _, part, x = made()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor):
        part(lambda given: given.new_zeros(*given.shape[:-1], D_OUT), x)
    assert max(kept) == max(2 * 3 * SIZE, SIZE * D_OUT) < x.numel()


def test_columns_are_distinct_and_drawn_from_the_state_of_torch() -> None:
    torch.manual_seed(1)
    first = ColumnsPart(D_IN, SIZE, D_OUT).chosen
    second = ColumnsPart(D_IN, SIZE, D_OUT).chosen
    torch.manual_seed(1)
    assert torch.equal(ColumnsPart(D_IN, SIZE, D_OUT).chosen, first)
    assert not torch.equal(first, second)
    assert first.unique().tolist() == first.tolist()
