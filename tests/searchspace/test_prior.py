"""A prior on layers and roles changes what is drawn, and nothing where there is none."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from made_up import shape

from autopeft_searchspace.prior import Prior, mixed
from autopeft_searchspace.settings import build_space
from autopeft_searchspace.space import OutsideSpace

PRIOR = Prior((9.0, 1.0, 1.0, 1.0), {"q": 3.0, "k": 1.0, "v": 1.0, "o": 1.0, "ff_in": 1.0, "ff_out": 1.0})


def test_half_of_every_draw_stays_even() -> None:
    assert mixed([0.0, 4.0]) == (0.25, 0.75)
    assert mixed([0.0, 0.0]) == (0.5, 0.5)
    assert PRIOR.layer_weights()[0] == pytest.approx(0.125 + 0.5 * 9 / 12)
    assert PRIOR.role_share("q") > 0.5 > PRIOR.role_share("k") >= 0.1
    assert PRIOR.role_share("ff_gate") == 0.5


def test_it_travels_as_json() -> None:
    assert Prior.from_json(PRIOR.to_json()) == PRIOR


def test_what_matters_more_is_drawn_more_often_and_the_rest_still_is() -> None:
    space = replace(build_space("lora", shape(4)), prior=PRIOR)
    rng = np.random.default_rng(0)
    drawn = [space.sample(rng) for _ in range(300)]
    layers = Counter(layer for values in drawn for layer in range(4) if values[f"layers.{layer}"])
    assert layers.most_common(1)[0][0] == 0
    assert min(layers.values()) > 60
    roles = Counter(role for values in drawn for role in ("q", "k") if values.get(f"lora.roles.{role}"))
    assert roles["q"] > 1.3 * roles["k"]


def test_the_most_important_layers_are_adapted() -> None:
    space = replace(build_space("lora", shape(4), {"layers": "top"}), prior=replace(PRIOR, layers=(1.0, 3.0, 2.0, 3.0)))
    assert space.by_name["top_layers"].values == (1, 2, 3, 4)
    assert [space.most_important(number) for number in (1, 2, 3)] == [(3,), (1, 3), (1, 2, 3)]
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(100):
        configuration = space.configuration(space.sample(rng))
        assert space.configuration(space.values(configuration)).components == configuration.components
        seen |= {component.layers for component in configuration.components}
    assert seen == {(3,), (1, 3), (1, 2, 3), (0, 1, 2, 3)}
    bits = build_space("lora", shape(4))
    other = bits.configuration({**bits.sample(rng), **{f"layers.{i}": i < 2 for i in range(4)}, "lora.size": 4, "lora.roles.q": True})
    with pytest.raises(OutsideSpace, match="layers 0-1 are not the 2 most important ones"):
        space.values(other)
    assert build_space("lora", shape(4), {"layers": "top"}).most_important(2) == (2, 3)
