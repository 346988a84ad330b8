"""Peak memory as a sum over blocks: a known function in under a millisecond, fitted to a few traces.

A step is cut into spans: forward and backward pass of every block, the task head, the update. With
W = bytes of weights and optimiser state, P_l = trained weights in block l, f = first adapted block and
L = number of blocks, peak memory is the maximum of

    W + s_f + sum_{f<=j<l} keep_j + forward_l                         l = f .. L-1
    W + s_f + sum_{f<=j<l} keep_j + backward_l + 4 sum_{j>l} P_j      l = f .. L-1
    W + s_f + sum_{f<=j<L-1} keep_j + out_{L-1} + head
    W + frozen,  W + update(P, largest adapter)

keep: what the backward pass needs of a block. Of frozen blocks below f it needs nothing: that is why
memory follows the first adapted block. keep, forward, backward and out are linear in features of what
is adapted in the block, with one coefficient per adapter type (or kind of types, `AdapterType.memory_like`) and module, one for size
(each holds a few activations of [batch, tokens, size]), one per input that several adapters read but
keep once, and one for what is adapted first in block f, since nothing below it in the block is kept.
Every block of a trace gives one row, so that a dozen traces give enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from autopeft.tracing import Trace
from autopeft_searchspace.configuration import Component, Configuration, Value
from autopeft_searchspace.registry import adapter_type
from autopeft_searchspace.shape import ROLES, ModelShape

TARGETS = ("keep", "forward", "backward", "out")
ORDER = {role: position for position, role in enumerate(("block", "attention", *ROLES, "norm"))}
SHARED_INPUT = {"q": "attention input", "k": "attention input", "v": "attention input", "qkv": "attention input",
                "ff_in": "feed-forward input", "ff_gate": "feed-forward input"}  # fmt: skip
GRADIENT_BYTES = 4
TRAINED_BYTES = 12
"""Of a trained float32 weight: itself and two moments of AdamW."""

Features = dict[str, float]


class Spots:
    """On which roles a component sits: (role, whether trained weights stand there)."""

    def __init__(self, shape: ModelShape) -> None:
        self._shape = shape
        self._roles = {module.path: role for role, modules in shape.modules.items() for module in modules}
        self._roles |= dict.fromkeys(shape.attention_paths, "attention") | dict.fromkeys(shape.block_paths, "block")
        self._roles |= {norm.path: "norm" for norms in shape.norms for norm in norms}
        self._find = lru_cache(maxsize=4096)(self._spots)

    def __call__(self, component: Component) -> tuple[tuple[str, bool], ...]:
        return self._find(component.type, component.size, component.roles, tuple(sorted(component.options.items())))

    def size(self, component: Component) -> float:
        """Of types that are taken together: trained weights of one block per feature of the hidden states."""
        if not adapter_type(component.type).memory_like:
            return float(component.size)
        return self.weights(component) / self._shape.width / max(1, len(self(component)))

    def weights(self, component: Component) -> int:
        """Trained weights of a component in one block."""
        return adapter_type(component.type).trainable_parameters(replace(component, layers=component.layers[:1]), self._shape)

    def _spots(
        self, type_name: str, size: int, roles: tuple[str, ...], options: tuple[tuple[str, Value], ...]
    ) -> tuple[tuple[str, bool], ...]:
        component = Component(type_name, size, (0,), roles, dict(options))
        found = adapter_type(type_name).spots(component, self._shape)
        return tuple((self._roles[path], trains) for path, trains in found.items())


def block_features(components: Sequence[Component], spots: Spots, first: bool) -> Features:
    """Features of a block with these components; `first`: nothing below it is adapted.

    weights: trained ones; autocast keeps copies of them.
    """
    found: Features = {"block": 1.0, "weights": 0.0}
    lowest: list[tuple[int, str, str]] = []
    for component in components:
        trained = [role for role, has_weights in spots(component) if has_weights]
        for role, _ in spots(component):
            if role in SHARED_INPUT:
                found[f"reads {SHARED_INPUT[role]}"] = 1.0
        kind = adapter_type(component.type).memory_like or component.type
        for role in trained:
            found[f"{kind} on {role}"] = found[f"any on {role}"] = 1.0
            lowest.append((ORDER[role], kind, role))
        found[f"{kind} size"] = found.get(f"{kind} size", 0.0) + spots.size(component) * len(trained)
        found["weights"] += spots.weights(component)
    if first and lowest:
        _, type_name, role = min(lowest)
        found[f"lowest {type_name} on {SHARED_INPUT.get(role, role)}"] = 1.0
    return found


def blocks_of(configuration: Configuration, layers: int, spots: Spots) -> dict[int, Features]:
    """Features of every block from the first adapted one on."""
    first = min(min(c.layers) for c in configuration.components)
    return {
        layer: block_features([c for c in configuration.components if layer in c.layers], spots, layer == first)
        for layer in range(first, layers)
    }


@dataclass(frozen=True)
class MemoryModel:
    """static: bytes of weights and optimiser state when the head alone trains. starts: bytes beyond
    them when the forward pass of each frozen block starts. frozen: at the peak of head-only training.
    head, update: see the module. coefficients: feature -> bytes for each of `TARGETS`."""

    static: float
    starts: tuple[float, ...]
    frozen: float
    head: float
    update: tuple[float, ...]
    coefficients: Mapping[str, tuple[float, ...]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MemoryModel:
        coefficients = {name: tuple(values) for name, values in data["coefficients"].items()}
        return cls(**{**data, "starts": tuple(data["starts"]), "update": tuple(data["update"]), "coefficients": coefficients})

    def predict(self, configuration: Configuration, spots: Spots, shape: ModelShape) -> float:
        """Peak memory in bytes."""
        total, largest, per_layer = trained_weights(configuration, spots)
        static = self.static + TRAINED_BYTES * total
        peak = static + self.frozen
        adapted = sorted(per_layer)
        if not adapted:
            return peak
        live = static + self.starts[adapted[0]]
        if adapted[0] == 0:
            lowest = block_features([c for c in configuration.components if 0 in c.layers], spots, True)
            live += embedding_bytes(lowest, self.starts)
        above = float(total)
        cache: dict[tuple[tuple[int, ...], bool], tuple[float, ...]] = {}
        keep = forward = backward = out = 0.0
        for layer in range(adapted[0], shape.layers):
            here = tuple(i for i, c in enumerate(configuration.components) if layer in c.layers)
            kind = here, layer == adapted[0]
            if kind not in cache:
                cache[kind] = self.sums(block_features([configuration.components[i] for i in here], spots, kind[1]))
            keep, forward, backward, out = cache[kind]
            above -= per_layer.get(layer, 0.0)
            peak = max(peak, live + forward, live + backward + GRADIENT_BYTES * above)
            live += keep
        peak = max(peak, live - keep + out + self.head)
        return max(peak, static + float(np.dot(self.update, (1.0, total, largest))))

    def head_weights(self, base_bytes: int) -> float:
        """Trained weights of the task head. base_bytes: of the base model's weights without it."""
        return (self.static - base_bytes) / TRAINED_BYTES

    def sums(self, features: Features) -> tuple[float, ...]:
        """`TARGETS` of a block with these features."""
        sums = [0.0] * len(TARGETS)
        for name, value in features.items():
            for i, coefficient in enumerate(self.coefficients.get(name, ())):
                sums[i] += value * coefficient
        return tuple(sums)

    @classmethod
    def fit(cls, traces: Sequence[tuple[Configuration, Trace]], shape: ModelShape) -> MemoryModel:
        """Least squares per target over the adapted blocks of all traces.

        traces: with spans of all blocks; the first is of the head alone.
        """
        spots = Spots(shape)
        base = traces[0][1]
        static = base.estimate.weights + base.estimate.optimizer
        spans = _by_name(base)
        starts = tuple(float(spans[f"forward {layer}"].start - static) for layer in range(shape.layers))
        rows: list[Features] = []
        targets: list[list[float]] = []
        updates: list[tuple[list[float], float]] = []
        heads: list[float] = []
        for configuration, trace in traces[1:]:
            total, largest, per_layer = trained_weights(configuration, spots)
            spans = _by_name(trace)
            for layer, features in blocks_of(configuration, shape.layers, spots).items():
                start = spans[f"forward {layer}"].start + (embedding_bytes(features, starts) if layer == 0 else 0.0)
                following = spans.get(f"forward {layer + 1}")
                above = GRADIENT_BYTES * sum(weights for other, weights in per_layer.items() if other > layer)
                rows.append(features)
                targets.append(
                    [
                        following.start - start if following else np.nan,
                        spans[f"forward {layer}"].highest - start,
                        spans[f"backward {layer}"].highest - start - above,
                        spans[f"after {layer}"].start - start,
                    ]
                )
            heads.append(spans[f"after {shape.layers - 1}"].highest - spans[f"after {shape.layers - 1}"].start)
            held = trace.estimate.weights + trace.estimate.optimizer
            updates.append(([1.0, total, largest], spans["update"].highest - held))
        names = sorted({name for row in rows for name in row})
        x = np.array([[row.get(name, 0.0) for name in names] for row in rows])
        y = np.array(targets)
        fitted = [_least_squares(x[known], y[known, i]) for i in range(len(TARGETS)) for known in [~np.isnan(y[:, i])]]
        coefficients = {name: tuple(float(f[column]) for f in fitted) for column, name in enumerate(names)}
        update = _least_squares(np.array([u for u, _ in updates]), np.array([v for _, v in updates]))
        frozen = base.estimate.peak - static
        return cls(float(static), starts, float(frozen), max(heads), tuple(map(float, update)), coefficients)


def embedding_bytes(lowest: Features, starts: Sequence[float]) -> float:
    """Bytes of the embedding's output, which lives through the whole forward pass, where block 0 would
    not keep its input anyway. lowest: features of block 0 where it is the first adapted one."""
    if len(starts) == 1 or f"reads {SHARED_INPUT['q']}" in lowest:
        return 0.0
    return starts[1] - starts[0]


def _least_squares(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[columns] of least norm in units of each column's largest value, where rows do not decide."""
    scale = np.abs(x).max(axis=0)
    scale[scale == 0] = 1.0
    return np.linalg.lstsq(x / scale, y, rcond=1e-8)[0] / scale


def _by_name(trace: Trace) -> dict[str, Any]:
    return {span.name: span for span in trace.spans}


def trained_weights(configuration: Configuration, spots: Spots) -> tuple[float, float, dict[int, float]]:
    """Trained weights: all, of the largest component on one module of one block, and per block."""
    total = largest = 0.0
    per_layer: dict[int, float] = {}
    for component in configuration.components:
        one = spots.weights(component)
        total += one * len(component.layers)
        largest = max(largest, one / len(spots(component)))
        for layer in component.layers:
            per_layer[layer] = per_layer.get(layer, 0.0) + one
    return total, largest, per_layer
