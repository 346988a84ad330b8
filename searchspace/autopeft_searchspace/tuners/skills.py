"""Skills: several low-rank updates of one module, mixed by trained gates."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from autopeft_searchspace.tuners.parts import Call, Part


class SkillsPart(Part):
    """h + x A B, A = sum_s w_s A_s and B = sum_s w_s B_s, w = sigmoid(z) / sum sigmoid(z), for the output h of a module.

    Ponti et al. 2022 (arXiv 2202.13914), equations 4 and 5, for one task. With several splits, inputs and
    outputs are cut into that many pieces, each with its own gates: Caccia et al., NeurIPS 2023
    (arXiv 2211.03831), equation 4. A [splits, skills, d_in / splits, rank], B [splits, skills, rank,
    d_out / splits], zero at the start, z [splits, skills].
    """

    mergeable = True

    def __init__(self, d_in: int, rank: int, d_out: int, skills: int, splits: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(splits, skills, d_in // splits, rank).uniform_(-1, 1) / math.sqrt(d_in // splits))
        self.up = nn.Parameter(torch.zeros(splits, skills, rank, d_out // splits))
        self.gates = nn.Parameter(torch.empty(splits, skills).uniform_(-1e-3, 1e-3))

    def forward(self, call: Call, x: Tensor) -> Tensor:
        h: Tensor = call(x)
        weights = self.gates.sigmoid()
        weights = weights / weights.sum(dim=1, keepdim=True)
        down = torch.einsum("qs,qsdr->qdr", weights, self.down).flatten(0, 1)
        up = torch.einsum("qs,qsrd->rqd", weights, self.up).flatten(1, 2)
        return h + (x.to(down.dtype) @ down @ up).to(h.dtype)
