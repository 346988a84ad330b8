"""Entries: trained changes of a module's weight itself, of some of its entries or columns or of all."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autopeft_searchspace.tuners.parts import Call, Part


class SparsePart(Part):
    """h + s B A x + S x for the output h of a module, S zero but for `count` entries in places that do not train.

    places: of the entries in the flattened weight [d_out, d_in], ascending; drawn at random until
        `choose` is given scores. B and S are zero at the start.
    """

    mergeable = True
    places: Tensor

    def __init__(self, d_in: int, rank: int, d_out: int, count: int, scaling: float) -> None:
        super().__init__()
        self.scaling, self.shape = scaling, (d_out, d_in)
        self.down = nn.Linear(d_in, rank, bias=False)
        self.up = nn.Linear(rank, d_out, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)
        self.entries = nn.Parameter(torch.zeros(count))
        self.register_buffer("places", torch.randperm(d_out * d_in)[:count].sort().values)

    def choose(self, scores: Tensor) -> None:
        """Take the places of the largest scores [d_out, d_in]; ties go to the first."""
        order = scores.flatten().sort(descending=True, stable=True).indices
        self.places.copy_(order[: len(self.places)].sort().values)

    def forward(self, call: Call, x: Tensor) -> Tensor:
        h: Tensor = call(x)
        own = x.to(self.entries.dtype)
        dense = self.entries.new_zeros(self.shape[0] * self.shape[1]).index_put((self.places,), self.entries).view(self.shape)
        return h + (self.scaling * self.up(self.down(own)) + F.linear(own, dense)).to(h.dtype)


class ColumnsPart(Part):
    """h + D x_C for the output h of a module, x_C its inputs in `size` places; D [d_out, size] zero at the start.

    chosen: the places C, ascending, drawn at random. Of x the backward pass needs x_C alone, whose copy it keeps.
    """

    mergeable = True
    chosen: Tensor

    def __init__(self, d_in: int, size: int, d_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(d_out, size))
        self.register_buffer("chosen", torch.randperm(d_in)[:size].sort().values)

    def forward(self, call: Call, x: Tensor) -> Tensor:
        h: Tensor = call(x)
        return h + F.linear(x.index_select(-1, self.chosen).to(self.weight.dtype), self.weight).to(h.dtype)


class DeltaPart(Part):
    """h + D x + d for the output h of a module; D [d_out, d_in] and, where it has a bias, d [d_out] zero at the start.

    Trains what training the module's own weights would, and leaves those as they are.
    """

    mergeable = True

    def __init__(self, d_in: int, d_out: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(d_out, d_in))
        self.bias = nn.Parameter(torch.zeros(d_out)) if bias else None

    def forward(self, call: Call, x: Tensor) -> Tensor:
        h: Tensor = call(x)
        return h + F.linear(x.to(self.weight.dtype), self.weight, self.bias).to(h.dtype)
