"""Starts from training batches: what each is for, on cases worked by hand, and that nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import PeftModel
from torch import Tensor

from autopeft.models.roles import find_shape
from autopeft_searchspace.build import adapt, save, start, starts_from_data, unadapt
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.registry import adapter_type
from autopeft_searchspace.rules import check
from autopeft_searchspace.tuners.starts import Seen, corda, eva, lora_ga

ROSA = Component("rosa", 2, (0, 2), ("q", "ff_in"), {"sparse": 1})


def lora(init: str) -> Component:
    return Component("lora", 4, (0, 2), ("q", "ff_in"), {"alpha": 8, "init": init})


def seen(weight: Tensor, moment: Tensor | None = None, gradient: Tensor | None = None) -> Seen:
    moment = torch.eye(weight.shape[1]) if moment is None else moment
    gradient = torch.zeros_like(weight) if gradient is None else gradient
    return Seen(weight, moment, gradient, gradient.square())


def test_eva_takes_the_directions_of_most_variance() -> None:
    found = eva(seen(torch.zeros(2, 3), torch.diag(torch.tensor([1.0, 9.0, 4.0]))), 2)
    torch.testing.assert_close(found.abs(), torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))


def test_corda_weighs_the_weight_by_what_it_reads() -> None:
    """W has equal singular values; the input of variance 9 decides which of them is taken, and W itself comes back."""
    b, a = corda(seen(torch.eye(3), torch.diag(torch.tensor([1.0, 9.0, 4.0]))), 1)
    torch.testing.assert_close(b @ a, torch.diag(torch.tensor([0.0, 1.0, 0.0])), atol=1e-5, rtol=1e-5)


def test_the_first_update_of_lora_ga_is_the_best_of_twice_the_rank() -> None:
    """A step of gradient descent changes s B A by -s^2 (B B^T G + G A^T A): for c = 1 the best approximation to G of rank 2 r."""
    torch.manual_seed(0)
    gradient = torch.randn(6, 5)
    b, a = lora_ga(seen(torch.zeros(6, 5), gradient=gradient), 2)
    scale = 6**0.25 / 4
    update = (b @ b.T @ gradient + gradient @ a.T @ a) / scale**2
    u, s, vh = torch.linalg.svd(gradient, full_matrices=False)
    torch.testing.assert_close(update, (u[:, :4] * s[:4]) @ vh[:4], atol=1e-5, rtol=1e-4)


def started(*components: Component) -> tuple[Any, Any, Configuration]:
    backbone = tiny.build("bert")
    shape = find_shape(backbone)
    configuration = Configuration(components, 1e-3)
    torch.manual_seed(0)
    model = adapt(backbone, configuration, shape, task_type=None).eval()

    def loss(row: int) -> Callable[[], Tensor]:
        batch = {name: tensor[row : row + 1] for name, tensor in tiny.batch().items()}
        return lambda: model(**batch).last_hidden_state.pow(2).mean()

    start(model, configuration, shape, [loss(0), loss(1)])
    return backbone, model, configuration


@pytest.mark.parametrize(
    "components",
    [(lora("eva"),), (lora("corda"),), (lora("lora_ga"),), (ROSA,), (ROSA, lora("eva"))],
    ids=["eva", "corda", "lora_ga", "rosa", "rosa and eva"],
)
def test_the_function_is_kept_saved_and_given_back(components: tuple[Component, ...], tmp_path: Path) -> None:
    before = tiny.build("bert").eval()(**tiny.batch()).last_hidden_state
    weights = {name: p.clone() for name, p in tiny.build("bert").state_dict().items()}
    backbone, model, configuration = started(*components)
    assert starts_from_data(configuration)
    torch.testing.assert_close(model(**tiny.batch()).last_hidden_state, before, atol=1e-4, rtol=1e-4)
    assert all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    after = model(**tiny.batch()).last_hidden_state
    assert (after - before).abs().max() > 1e-2
    save(model, str(tmp_path))
    loaded = PeftModel.from_pretrained(tiny.build("bert"), str(tmp_path)).eval()
    torch.testing.assert_close(loaded(**tiny.batch()).last_hidden_state, after, atol=1e-4, rtol=1e-4)
    assert unadapt(model) is backbone
    assert all(torch.equal(p, weights[name]) for name, p in backbone.state_dict().items())


def test_rosa_trains_where_gradients_are_largest() -> None:
    """Of the entries of a module those with the largest mean squared gradient over the batches."""
    from autopeft_searchspace.tuners.entries import SparsePart

    torch.manual_seed(0)
    part = SparsePart(3, 1, 2, 2, 1.0)
    part.choose(torch.tensor([[0.0, 5.0, 1.0], [2.0, 0.0, 4.0]]))
    assert part.places.tolist() == [1, 5]
    with torch.no_grad():
        part.entries.copy_(torch.tensor([10.0, 20.0]))
    out = part(lambda x: torch.zeros(1, 2), torch.tensor([[1.0, 2.0, 3.0]]))
    torch.testing.assert_close(out, torch.tensor([[20.0, 60.0]]))


def test_without_batches_it_is_an_error() -> None:
    backbone = tiny.build("bert")
    shape = find_shape(backbone)
    configuration = Configuration((lora("eva"),), 1e-3)
    model = adapt(backbone, configuration, shape, task_type=None)
    with pytest.raises(ValueError, match="lora starts from training batches, and none were given"):
        start(model, configuration, shape, [])


@pytest.mark.parametrize("ratio", [1, 4])
def test_corda_takes_the_principal_part_out_of_the_weight_whatever_the_scaling(ratio: int) -> None:
    """The update, scaled by alpha / rank, is that part, and the weight that is left has none of it."""
    before = tiny.build("bert").state_dict()
    _, model, _ = started(Component("lora", 4, (0,), ("q",), {"alpha": 4 * ratio, "init": "corda"}))
    layer = next(module for module in model.modules() if hasattr(module, "lora_A"))
    update = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    whole = next(weight for name, weight in before.items() if name.endswith("layer.0.attention.self.query.weight"))
    torch.testing.assert_close(layer.base_layer.weight + update, whole, atol=1e-5, rtol=1e-4)
    _, plain, _ = started(Component("lora", 4, (0,), ("q",), {"alpha": 4, "init": "corda"}))
    unscaled = next(module for module in plain.modules() if hasattr(module, "lora_A"))
    torch.testing.assert_close(layer.base_layer.weight, unscaled.base_layer.weight, atol=1e-5, rtol=1e-4)


def test_an_orthogonal_start_needs_an_even_size() -> None:
    shape = find_shape(tiny.build("bert", device="meta"))
    odd = Configuration((Component("lora", 1, (0,), ("q",), {"alpha": 1, "init": "orthogonal"}),), 1e-3)
    with pytest.raises(ValueError, match="needs an even size, it is 1"):
        check(odd, shape)
    values = {"lora.size": 1, "lora.alpha_ratio": 1, "lora.init": "orthogonal", "lora.roles.q": True}
    found = adapter_type("lora").component(values, (0,), shape)
    assert found is not None
    assert found.options == {"alpha": 1}
