"""Peak memory of trials that train side by side in one model, by the fast model of single ones.

With W = bytes of the base model, P = trained weights and H = those of the task head of a trial, f = the first block that any of them
adapts and L = number of blocks, peak memory is the maximum, over l = f .. L-1, of

    W + sum_trials (16 (P + H) + s_f + sum_{f<=j<l} keep_j + max(forward_l, backward_l)) - shared

and of what the task heads take after the last block. Values, gradients and moments of all trials stand in buffers all along (16 bytes).
From f on the backward pass reaches every block for all of them, whatever each adapts itself, since they share one forward pass.
shared: what each would keep alone and all keep once: under autocast a copy of the block's weights in 16 bits.
Logits of language models count in full, also where a GPU makes them in parts (`packing.vocabulary`).
"""

from __future__ import annotations

from collections.abc import Sequence

from autopeft.memory.model import MemoryModel, Spots, block_features, embedding_bytes, trained_weights
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.shape import ModelShape

BYTES_OF_TRAINED = 16
BYTES_OF_CAST = 2


def predict_pack(
    model: MemoryModel, configurations: Sequence[Configuration], spots: Spots, shape: ModelShape, base_bytes: int, *, casts: bool
) -> float:
    """Bytes. base_bytes: of the base model's weights without a task head. casts: whether autocast copies weights."""
    static, total = float(base_bytes), len(configurations)
    for configuration in configurations:
        static += BYTES_OF_TRAINED * (trained_weights(configuration, spots)[0] + model.head_weights(base_bytes))
    first = min((layer for c in configurations for component in c.components for layer in component.layers), default=shape.layers)
    if first == shape.layers:
        return static + total * model.frozen
    live = static + total * (model.starts[first] + (embedding_bytes({}, model.starts) if first == 0 else 0.0))
    peak = 0.0
    for layer in range(first, shape.layers):
        shared = (total - 1) * _cast_bytes(shape, layer) if casts else 0
        blocks = [_block(model, configuration, spots, layer, first) for configuration in configurations]
        keep, forward, backward, out = (sum(each) - shared for each in zip(*blocks, strict=True))
        peak = max(peak, live + forward, live + backward)
        last = live + out
        live += keep
    return max(peak, last + total * model.head)


def _block(model: MemoryModel, configuration: Configuration, spots: Spots, layer: int, first: int) -> tuple[float, ...]:
    here = [component for component in configuration.components if layer in component.layers]
    return model.sums(block_features(here, spots, layer == first and bool(here)))


def _cast_bytes(shape: ModelShape, layer: int) -> int:
    return BYTES_OF_CAST * sum(modules[layer].d_in * modules[layer].d_out for modules in shape.modules.values())
