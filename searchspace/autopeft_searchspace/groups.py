"""A size for each group of modules: early, middle and late layers, attention and feed-forward.

A space with this choice has one factor for early layers, one for late ones and one for the feed-forward;
what they make of a component are several of its type, each on modules of its own:

    lora 8 on q,v,ff_in, layers 0-5, early 0.25, feed_forward 2
        -> lora 2 on q,v, layers 0-1 + lora 8 on q,v, layers 2-5 + lora 4 on ff_in, layers 0-1 + lora 16 on ff_in, layers 2-5

Types that share trained weights among modules share them within a group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

from autopeft_searchspace.configuration import Component, Value
from autopeft_searchspace.dims import Dimension
from autopeft_searchspace.registry import AdapterType
from autopeft_searchspace.shape import ModelShape

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
NAMES = ("sizes.early", "sizes.late", "sizes.feed_forward")
FEED_FORWARD = ("ff_in", "ff_gate", "ff_out")
EVEN = dict.fromkeys(NAMES, 1.0)


def dimensions() -> list[Dimension]:
    return [Dimension(name, FACTORS, ordered=True, log=True) for name in NAMES]


def split(
    adapter: AdapterType, values: Mapping[str, Value], layers: tuple[int, ...], shape: ModelShape, sizes: Sequence[Value]
) -> list[Component]:
    """The components that values of one type stand for; one where all its modules get the same size.

    A layer is early in the first third of the model and late in the last. Sizes are snapped to the
    nearest (in logarithm) of `sizes`.
    """
    whole = adapter.component(values, layers, shape)
    if whole is None:
        return []
    factors = {name: float(values.get(name, 1)) for name in NAMES}
    grid = [int(size) for size in sizes if size]
    chosen = int(values[f"{adapter.name}.size"])
    parts: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    kinds = [[r for r in whole.roles if r not in FEED_FORWARD], [r for r in whole.roles if r in FEED_FORWARD]] if whole.roles else [[]]
    for kind in kinds:
        if whole.roles and not kind:
            continue
        by_size: dict[int, list[int]] = {}
        for layer in layers:
            wanted = chosen * _of_layer(layer, shape, factors) * (factors["sizes.feed_forward"] if kind and kind[0] in FEED_FORWARD else 1)
            by_size.setdefault(min(grid, key=lambda size: abs(math.log(size / wanted))), []).append(layer)
        for size, numbers in by_size.items():
            parts.setdefault((size, tuple(numbers)), []).extend(kind)
    found = []
    for (size, own), roles in parts.items():
        limited = {f"{adapter.name}.roles.{role}": role in roles for role in shape.roles}
        part = adapter.component({**values, f"{adapter.name}.size": size, **limited}, own, shape)
        found += [part] if part else []
    return found


def _of_layer(layer: int, shape: ModelShape, factors: Mapping[str, float]) -> float:
    if 3 * layer < shape.layers:
        return factors["sizes.early"]
    return factors["sizes.late"] if 3 * layer >= 2 * shape.layers else 1.0


def joined(components: Sequence[Component]) -> list[list[Component]]:
    """Components in the groups of one type, in their order."""
    found: dict[str, list[Component]] = {}
    for component in components:
        found.setdefault(component.type, []).append(component)
    return list(found.values())


def overlap(components: Sequence[Component]) -> str | None:
    """Which module two components of one type would both stand on, or None where there is none."""
    for group in joined(components):
        seen: set[tuple[str, int]] = set()
        for component in group:
            spots = {(role, layer) for role in component.roles or ("",) for layer in component.layers}
            if twice := seen & spots:
                role, layer = min(twice)
                return f"{component.type} stands twice on {role or 'the module'} in layer {layer}"
            seen |= spots
    return None


def all_factors() -> list[dict[str, float]]:
    """Every choice of factors, the even one first."""
    return sorted(
        (dict(zip(NAMES, chosen, strict=True)) for chosen in product(FACTORS, repeat=3)), key=lambda f: sum(v != 1 for v in f.values())
    )
