"""The loss of language models without the logits of all trials, which are most of what a pack of them would hold."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from autopeft.models.head import TaskModel
from autopeft.tasks import Batch
from autopeft.tasks.causal_lm import following
from autopeft_kernels.cross_entropy import cross_entropy

CLOSE = 1e-4
"""Share of the largest logit by which a product may differ."""


def plain_vocabulary(model: TaskModel) -> Tensor | None:
    """The matrix [vocabulary, width] of which the model's logits are products with its last hidden states, and nothing else
    happens to them; None where there is more, e.g. a bias or a soft cap, or the model itself looks at the matrix."""
    backbone: Any = model.backbone
    output: Any = backbone.get_output_embeddings() if model.head_kind == "causal_lm" else None
    if type(output) is not nn.Linear or output.bias is not None:
        return None
    ids = torch.arange(2, device=output.weight.device)[None]
    with torch.no_grad():
        logits = backbone(input_ids=ids).logits
        with_hidden(backbone)
        try:
            product = backbone(input_ids=ids).logits @ output.weight.T
        except AttributeError:
            return None
        finally:
            backbone.set_output_embeddings(output)
    same = product.shape == logits.shape and bool((product - logits).abs().max() <= CLOSE * logits.abs().max())
    weight: Tensor = output.weight
    return weight if same else None


def with_hidden(backbone: Any) -> None:
    """Let a language model give its last hidden states in place of logits."""
    backbone.set_output_embeddings(nn.Identity())


def losses(hidden: Mapping[int, Tensor], batches: Mapping[int, Batch], vocabulary: Tensor) -> dict[int, Tensor]:
    """Of each trial the loss that `CausalLm.loss` gives for its hidden states [n, kept, width]; products are of vocabulary's type."""
    rows = [each.flatten(0, 1).to(vocabulary.dtype) for each in hidden.values()]
    targets = torch.cat([following(batches[number]).flatten() for number in hidden])
    bounds = tuple(accumulate(map(len, rows), initial=0))
    return dict(zip(hidden, cross_entropy(torch.cat(rows), vocabulary, targets, bounds).unbind(), strict=True))
