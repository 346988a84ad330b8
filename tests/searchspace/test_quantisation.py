"""Quantisation of the base model as a dimension of a space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny

from autopeft.models.roles import find_shape
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.registry import adapter_type
from autopeft_searchspace.settings import build_space, offered

SHAPE = find_shape(tiny.build("bert", device="meta"))
LORA = Component("lora", 4, (0, 1, 2), ("q",), {"alpha": 4})
DORA = Component("dora", 4, (0, 1, 2), ("q",))


def test_it_is_searched_for_types_that_train_on_one() -> None:
    space = build_space("everything", SHAPE, {"quantisation": ["nf4", "none"]})
    assert space.by_name["quantisation"].values == ("none", "nf4")
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        configuration = space.configuration(space.sample(rng))
        able = all(adapter_type(c.type).trains_quantised(c) for c in configuration.components)
        assert able or configuration.quantisation == "none"
        again = space.configuration(space.values(configuration))
        assert replace(again, learning_rate=1.0) == replace(configuration, learning_rate=1.0)
        seen.add(configuration.quantisation)
    assert seen == {"none", "nf4"}
    assert not space.is_active("quantisation", {"dora.size": 4})
    assert space.is_active("quantisation", {"lora.size": 4})


def test_without_none_everything_is_on_a_quantised_base() -> None:
    space = build_space("everything", SHAPE, {"quantisation": "int8"})
    assert "quantisation" not in space.by_name
    assert "dora" in space.left_out
    assert "dora" not in space.types
    rng = np.random.default_rng(0)
    for _ in range(100):
        configuration = space.configuration(space.sample(rng))
        assert configuration.quantisation == "int8"
        assert all(adapter_type(c.type).trains_quantised(c) for c in configuration.components)
    with pytest.raises(ValueError, match="does not train on a quantised base"):
        space.configuration(space.values(Configuration((replace(LORA, options={"alpha": 4, "init": "pissa"}),), 1e-3, quantisation="int8")))


def test_keys_say_it_only_where_it_is_not_the_usual() -> None:
    plain = Configuration((LORA,), 1e-3)
    quantised = replace(plain, quantisation="nf4")
    assert "quantisation" not in plain.to_json()
    assert Configuration.from_json(quantised.to_json()) == quantised
    assert quantised.key != plain.key
    assert quantised.in_words() == f"{plain.in_words()}, on an nf4 base"


def test_presets_do_not_quantise_by_themselves() -> None:
    assert offered("everything", {}) == ("none",)
    with pytest.raises(ValueError, match="quantisation must be one or a list of none, int8, nf4, it is 'q4'"):
        build_space("lora", SHAPE, {"quantisation": "q4"})
