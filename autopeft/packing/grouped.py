"""Adapters on one module that a single operation serves for all trials, where each is a plain case of its kind.

A kind reads what it needs off one trial's layer, or says None: then that trial's own layer runs on its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch
from peft.tuners.ia3 import Linear as Ia3Linear
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.shira import Linear as ShiraLinear
from torch import Tensor, nn

from autopeft_kernels.bottleneck import bottleneck
from autopeft_kernels.columns import columns
from autopeft_kernels.low_rank import low_rank
from autopeft_kernels.segments import numbers
from autopeft_kernels.sparse import Places, sparse
from autopeft_searchspace.tuners.composition import ComposedLayer
from autopeft_searchspace.tuners.entries import ColumnsPart, SparsePart
from autopeft_searchspace.tuners.parts import Bottleneck, Part, SerialPart

Update = Callable[[Tensor, Tensor, tuple[int, ...]], Tensor]
"""(output of the shared module [rows, N], its input [rows, K], bounds of the trials' rows) -> output with all updates."""


class Kind(Protocol):
    """One kind of adapter. `read`: what `update` needs of a layer; None where the layer is more than the plain case."""

    def read(self, layer: Any) -> Any | None: ...

    def update(self, found: Sequence[Any]) -> Update:
        """The update of all trials that have one here, in the order of their rows."""


def _only_adapter(layer: Any) -> str | None:
    """Name of the one adapter of a peft layer that is switched on and not merged."""
    names = layer.active_adapters
    return names[0] if len(names) == 1 and not layer.disable_adapters and not layer.merged else None


def _only_part(layer: Any, kind: type[Part]) -> Any | None:
    """The one part of a composition on a module, where it is of this very kind, switched on and not merged."""
    parts = layer.active_parts() if isinstance(layer, ComposedLayer) and not layer.disable_adapters and not layer.merged else []
    return parts[0] if len(parts) == 1 and type(parts[0]) is kind else None


class LowRank:
    """LoRA without dropout or variants: (A, B, scaling)."""

    def read(self, layer: Any) -> tuple[Tensor, Tensor, float] | None:
        name = _only_adapter(layer) if type(layer) is LoraLinear else None
        if name not in getattr(layer, "lora_A", ()) or name in layer.lora_variant or not isinstance(layer.lora_dropout[name], nn.Identity):
            return None
        a, b = layer.lora_A[name], layer.lora_B[name]
        return (a.weight, b.weight, float(layer.scaling[name])) if a.bias is None and b.bias is None else None

    def update(self, found: Sequence[Any]) -> Update:
        a, b, scaling = zip(*found, strict=True)
        factors = torch.tensor(scaling, dtype=torch.float32, device=a[0].device)
        return lambda out, x, bounds: low_rank(out, x.to(out.dtype), a, b, factors, bounds, accumulates=True)


class Serial:
    """A serial bottleneck alone on a module, without a norm: its linear modules."""

    def __init__(self, activation: str, module: type[nn.Module]) -> None:
        self.activation, self.module = activation, module

    def read(self, layer: Any) -> tuple[nn.Linear, nn.Linear] | None:
        part = _only_part(layer, SerialPart)
        inner = part.bottleneck if part is not None else None
        plain = isinstance(inner, Bottleneck) and inner.norm is None and type(inner.activation) is self.module
        return (inner.down, inner.up) if inner is not None and plain and type(inner.down) is type(inner.up) is nn.Linear else None

    def update(self, found: Sequence[Any]) -> Update:
        down, up = [each[0].weight for each in found], [each[1].weight for each in found]
        biases: dict[str, Sequence[Tensor]] = {}
        if any(each[0].bias is not None for each in found):
            for name, place in (("down_bias", 0), ("up_bias", 1)):
                linears = [each[place] for each in found]
                biases[name] = [linear.weight.new_zeros(len(linear.weight)) if linear.bias is None else linear.bias for linear in linears]
        return lambda out, x, bounds: bottleneck(out, out, down, up, bounds, activation=self.activation, **biases)


class Scaled:
    """IA3 on outputs: the vector they are multiplied by."""

    def read(self, layer: Any) -> Tensor | None:
        name = _only_adapter(layer) if type(layer) is Ia3Linear and not layer.is_feedforward else None
        return layer.ia3_l[name] if name in getattr(layer, "ia3_l", ()) else None

    def update(self, found: Sequence[Any]) -> Update:
        def scale(out: Tensor, x: Tensor, bounds: tuple[int, ...]) -> Tensor:
            factors = torch.stack([each.flatten() for each in found])
            counts = numbers(tuple(end - start for start, end in pairwise(bounds)), out.device)
            return (out * factors.repeat_interleave(counts, dim=0, output_size=len(out))).to(out.dtype)

        return scale


class Sparse:
    """SHiRA: values of the trained entries, and where they stand."""

    def read(self, layer: Any) -> tuple[Tensor, Places] | None:
        name = _only_adapter(layer) if type(layer) is ShiraLinear else None
        if name is None or layer.scaling[name] != 1.0:
            return None
        rows, columns = layer.shira_indices[name].long()
        values = layer.shira_weight[name]
        return values, Places.of(rows.to(values.device), columns.to(values.device), layer.out_features, layer.in_features)

    def update(self, found: Sequence[Any]) -> Update:
        values, places = zip(*found, strict=True)
        return lambda out, x, bounds: sparse(out, x.to(out.dtype), values, places, bounds)


class LowRankAndSparse:
    """RoSA alone on a module: its low-rank update, then its entries."""

    def read(self, layer: Any) -> tuple[tuple[Tensor, Tensor, float], tuple[Tensor, Places]] | None:
        part = _only_part(layer, SparsePart)
        if part is None:
            return None
        d_out, d_in = part.shape
        places = Places.of(part.places // d_in, part.places % d_in, d_out, d_in)
        return (part.down.weight, part.up.weight, part.scaling), (part.entries, places)

    def update(self, found: Sequence[Any]) -> Update:
        pairs, entries = zip(*found, strict=True)
        first, second = LowRank().update(pairs), Sparse().update(entries)
        return lambda out, x, bounds: second(first(out, x, bounds), x, bounds)


class Columns:
    """PaCA alone on a module: what its columns changed by, and which they are."""

    def read(self, layer: Any) -> tuple[Tensor, Tensor] | None:
        part = _only_part(layer, ColumnsPart)
        return None if part is None else (part.weight, part.chosen)

    def update(self, found: Sequence[Any]) -> Update:
        weights, chosen = zip(*found, strict=True)
        return lambda out, x, bounds: columns(out, x.to(out.dtype), weights, chosen, bounds)


BOTTLENECKS = Serial("relu", nn.ReLU), Serial("silu", nn.SiLU), Serial("tanh", nn.Tanh)
KINDS: tuple[Kind, ...] = (LowRank(), Scaled(), Sparse(), LowRankAndSparse(), Columns(), *BOTTLENECKS)
