"""How much the modules of an adapter, and the ranks in each, matter: Light-PEFT's two scores."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from autopeft_searchspace.strategies import pruned
from autopeft_searchspace.tuners.composition import ComposedLayer
from autopeft_searchspace.tuners.narrowing import down_and_up, innermost

if TYPE_CHECKING:
    from autopeft.models.head import TaskModel


@dataclass
class Spot:
    """One module of an adapter. path: of the base's module. owner: peft's layer around that. type: in a
    composition the adapter type. part: what has the two matrices (see `narrowing`).

    changes: per step the mean over tokens of |what it adds| / |what it adds to|. ranks: per step [ranks].
    """

    path: str
    owner: BaseTunerLayer
    type: str
    part: Any
    changes: list[float] = field(default_factory=list)
    ranks: list[Tensor] = field(default_factory=list)


def find_spots(base: nn.Module, paths: Collection[str]) -> list[Spot]:
    """Modules with LoRA or a bottleneck, at these paths of the base model."""
    found = []
    for path in paths:
        module: Any = base.get_submodule(path)
        if isinstance(module, ComposedLayer):
            for parts in module.composed_parts.values():
                found += [Spot(path, module, kind, inner) for kind, part in parts.items() if (inner := innermost(part)) is not None]
        elif hasattr(module, "lora_A"):
            found.append(Spot(path, module, "", module))
    return found


class Watch:
    """Writes both scores of every spot, step by step, while it is there.

    model: its batches have an `attention_mask`, [n, tokens], which says which tokens count.
    """

    def __init__(self, model: TaskModel, spots: Sequence[Spot]) -> None:
        self.spots = spots
        self._mask: Tensor | None = None
        self._handles = [model.register_forward_pre_hook(self._see_mask)]
        for spot in spots:
            self._handles += list(self._watch(spot))

    def _see_mask(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._mask = args[0].get("attention_mask")

    def _watch(self, spot: Spot) -> Iterator[Any]:
        """LoRA: |s B A x| / |W x|. Bottleneck: |U f(D h)| / |h|."""
        if not hasattr(spot.part, "lora_A"):
            yield spot.part.register_forward_hook(lambda m, args, out: self._note(spot, out, args[0]))
            return
        base: list[Tensor] = []
        (name,) = spot.part.lora_A
        yield spot.part.base_layer.register_forward_hook(lambda m, args, out: base.append(out.detach()))

        def compare(module: nn.Module, args: Any, out: Tensor) -> None:
            self._note(spot, spot.part.scaling[name] * out, base[-1])
            base.clear()

        yield spot.part.lora_B[name].register_forward_hook(compare)

    def _note(self, spot: Spot, added: Tensor, to: Tensor) -> None:
        if not torch.is_grad_enabled():  # an evaluation
            return
        with torch.no_grad():
            ratio = added.float().norm(dim=-1) / to.float().norm(dim=-1).clamp(min=1e-12)
            mask = torch.ones_like(ratio) if self._mask is None else self._mask.to(ratio.dtype)
            spot.changes.append(float((ratio * mask).sum() / mask.sum()))

    def after_backward(self) -> None:
        for spot in self.spots:
            down, up = down_and_up(spot.part)
            if down.weight.grad is not None and up.weight.grad is not None:
                spot.ranks.append(rank_scores(down.weight, down.weight.grad, up.weight, up.weight.grad))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def rank_scores(down: Tensor, down_gradient: Tensor, up: Tensor, up_gradient: Tensor) -> Tensor:
    """|mean(w dL/dw)| of the row of `down` [r, d_in] plus that of the column of `up` [d_out, r]: [r]."""
    rows = (down * down_gradient).mean(dim=1).abs()
    columns = (up * up_gradient).mean(dim=0).abs()
    return (rows + columns).detach().cpu()


def second_half(values: Sequence[Any]) -> Sequence[Any]:
    return values[len(values) // 2 :]


def lowest(scores: Sequence[float], share: float) -> set[int]:
    """Positions of the share of lowest scores, the first ones of equals."""
    order = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    return set(order[: pruned(share, len(scores))])
