"""Random points of a space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autopeft_searchspace.configuration import Value
from autopeft_searchspace.strategies import NONE, strategy_type

if TYPE_CHECKING:
    from autopeft_searchspace.space import Space


def draw(space: Space, rng: np.random.Generator) -> dict[str, Value]:
    """A point whose number of components, whose sizes and whose number of layers are each equally likely
    (independent bits would nearly always adapt half of the layers). It may have no configuration."""
    values: dict[str, Value] = {d.name: d.values[rng.integers(d.cardinality)] for d in space.dimensions}
    without = values.get("strategy", NONE)
    if without != NONE and not strategy_type(str(without)).adapters and all(0 in space.by_name[f"{t}.size"].values for t in space.types):
        return space.active({**values, **{f"{type}.size": 0 for type in space.types}})
    sizes = [space.by_name[f"{type}.size"] for type in space.types]
    can_be_on = [d for d in sizes if any(d.values)]
    most = min(space.maximum_components, len(can_be_on))
    must_be_on = [d for d in sizes if all(d.values)]
    count = int(rng.integers(1, most + 1))
    optional = [d for d in can_be_on if d not in must_be_on]
    extra = rng.permutation(len(optional))[: max(0, count - len(must_be_on))]
    on = {d.name for d in must_be_on} | {optional[i].name for i in extra}
    for d in sizes:
        choices = [v for v in d.values if v] if d.name in on else [0]
        values[d.name] = choices[rng.integers(len(choices))]
    layers = [d for d in space.dimensions if d.name.startswith("layers.") and d.cardinality == 2]
    if layers:
        count = int(rng.integers(1, len(layers) + 1))
        numbers = [int(d.name.partition(".")[2]) for d in layers]
        chosen = space.prior.draw_layers(numbers, count, rng) if space.prior else {numbers[i] for i in rng.permutation(len(layers))[:count]}
        values.update({d.name: number in chosen for number, d in zip(numbers, layers, strict=True)})
    if space.prior:
        roles = [d for d in space.dimensions if "roles" in d.name.split(".") and d.cardinality == 2]
        values.update({d.name: bool(rng.random() < space.prior.role_share(d.name.rpartition(".")[2])) for d in roles})
    return space.active(values)
