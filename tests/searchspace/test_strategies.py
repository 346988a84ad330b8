"""Layer strategies as part of configurations and spaces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_up import lora, shape

from autopeft_searchspace import rules
from autopeft_searchspace.configuration import Component, Configuration, Strategy
from autopeft_searchspace.settings import build_space, presets
from autopeft_searchspace.space import OutsideSpace
from autopeft_searchspace.strategies import STRATEGIES, layers_at_peak, published, strategy_type, trains_per_layer

SPACE = build_space("layerwise", shape(4))


def test_a_configuration_without_a_strategy_has_the_key_that_it_always_had() -> None:
    plain = lora()
    assert plain.key == (
        '{"components":[{"layers":[0,1],"options":{"alpha":1},"roles":["q"],"size":1,"type":"lora"}],"learning_rate":0.001}'
    )
    assert "strategy" not in plain.to_json()


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_strategy_travels_as_json_and_tells_configurations_apart(name: str) -> None:
    configuration = replace(lora(), strategy=published(name))
    assert Configuration.from_json(configuration.to_json()) == configuration
    assert configuration.key != lora().key
    assert name in configuration.in_words()


def test_only_a_space_that_asks_has_strategies() -> None:
    for preset in set(presets()) - {"layerwise"}:
        names = {d.name.partition(".")[0] for d in build_space(preset, shape()).dimensions}
        assert not names & {"strategy", *STRATEGIES}, preset


def test_every_strategy_is_drawn_valid_and_read_back() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(400):
        values = SPACE.sample(rng)
        configuration = SPACE.configuration(values)
        rules.check(configuration, SPACE.shape)
        assert SPACE.configuration(SPACE.values(configuration)).key == configuration.key
        seen.add(configuration.strategy.name if configuration.strategy else "none")
    assert seen == {"none", *STRATEGIES}


def test_settings_matter_only_while_their_strategy_is_chosen() -> None:
    values = SPACE.sample(np.random.default_rng(1))
    for name in STRATEGIES:
        active = SPACE.active({**values, **{d.name: d.values[0] for d in SPACE.dimensions}, "strategy": name, "lora.size": 1})
        assert {d.partition(".")[0] for d in active} & set(STRATEGIES) == {name}


def test_a_space_without_strategies_says_so() -> None:
    with pytest.raises(OutsideSpace, match="no dimension 'strategy'"):
        build_space("default", shape()).values(replace(lora(), strategy=published("random_layers")))


def test_unknown_names_and_settings_are_refused_with_near_names() -> None:
    with pytest.raises(ValueError, match="did you mean random_layers"):
        strategy_type("random_layer")
    with pytest.raises(ValueError, match="settings of random_layers must be active"):
        rules.check(replace(lora(), strategy=Strategy("random_layers", {"active": 0.5})), shape())
    with pytest.raises(ValueError, match=r"random_layers\.active must be of the kind of 0\.25"):
        rules.check(replace(lora(), strategy=published("random_layers", active="half")), shape())


def test_a_type_whose_layers_share_trained_weights_is_refused() -> None:
    assert trains_per_layer(lora().components[0], shape())
    shared = Component("unilora", 16, (0, 1), ("q",))
    assert not trains_per_layer(shared, shape())
    assert "share trained weights" in str(strategy_type("random_layers").problem([shared], shape()))


def test_most_memory_is_taken_where_the_lowest_layer_trains() -> None:
    assert layers_at_peak(published("random_layers", active=0.5), (1, 3, 4, 6)) == (1, 3)
