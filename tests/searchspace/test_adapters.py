"""What every adapter type says of itself without building: dimensions, components, counts, errors."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from transformers import BertConfig, BertModel

from autopeft.models.roles import find_shape
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.dims import width_grid
from autopeft_searchspace.linear import divisors
from autopeft_searchspace.registry import adapter_type, adapter_types
from autopeft_searchspace.rules import check, trainable_parameters
from autopeft_searchspace.settings import build_space, presets
from autopeft_searchspace.shape import ModelShape
from autopeft_searchspace.space import OutsideSpace

FEED_FORWARD = {"place": "feed_forward", "bias": False}


@pytest.fixture(scope="module")
def bert_base() -> ModelShape:
    with torch.device("meta"):
        return find_shape(BertModel(BertConfig()))


def shape_of(architecture: str) -> ModelShape:
    return find_shape(tiny.build(architecture, device="meta"))


def test_four_types_are_registered() -> None:
    assert set(adapter_types()) >= {"serial", "parallel", "prefix", "lora"}
    with pytest.raises(ValueError, match="unknown adapter type 'seriel'; did you mean serial"):
        adapter_type("seriel")


def test_preset_autopeft_is_the_space_of_the_paper(bert_base: ModelShape) -> None:
    space = build_space("autopeft", bert_base)
    assert space.cardinality == 11**3 * 2**12 == 5_451_776
    for name in ("serial.size", "parallel.size", "prefix.size"):
        assert space.by_name[name].values == (0, 1, 3, 6, 12, 24, 48, 96, 192, 384, 768)
    layers = {f"layers.{i}": True for i in range(12)}
    largest = {d.name: d.values[-1] for d in space.dimensions}
    configuration = space.configuration(largest | layers)
    assert configuration.learning_rate == 1e-4
    assert trainable_parameters(configuration, bert_base) == 3 * 2 * 768 * 768 * 12


def test_sizes_of_a_narrow_model_are_distinct() -> None:
    assert width_grid(384) == (1, 3, 6, 12, 24, 48, 96, 192, 384)
    assert width_grid(1) == (1,)


def test_default_preset_caps_the_prefix_at_any_width(bert_base: ModelShape) -> None:
    assert build_space("default", bert_base).by_name["prefix.size"].values == (0, 1, 3, 6, 12, 24, 48, 96)
    assert build_space("default", shape_of("llama")).by_name["prefix.size"].values == (0, 1, 2, 4, 8, 16, 32)


def test_ranges_of_a_dimension(bert_base: ModelShape) -> None:
    space = build_space("lora", bert_base, {"lora.size": {"minimum": 4, "maximum": 16}})
    assert space.by_name["lora.size"].values == (0, 4, 8, 16)
    with pytest.raises(ValueError, match=r"no value in \{'maximum': 0\}"):
        build_space("lora", bert_base, {"lora.size": {"maximum": 0}})
    with pytest.raises(ValueError, match=r"takes values or, of numbers, minimum and maximum; it was given \{'max': 8\}"):
        build_space("lora", bert_base, {"lora.size": {"max": 8}})
    with pytest.raises(ValueError, match="takes values or"):
        build_space("default", bert_base, {"serial.place": {"maximum": 1}})


def test_a_preset_is_trimmed_to_chosen_types(bert_base: ModelShape) -> None:
    space = build_space("default", bert_base, {"types": ["lora", "ia3", "bottleneck"]})
    assert space.types == ("lora", "ia3", "serial", "parallel", "compacter")
    assert space.by_name["serial.bias"].values == (True,)
    assert not [name for name in space.by_name if name.startswith("prefix")]
    with pytest.raises(ValueError, match=r"no dimension 'prefix.size'"):
        build_space("default", bert_base, {"types": ["lora"], "prefix.size": [0, 4]})
    with pytest.raises(ValueError, match="list of distinct adapter types"):
        build_space("default", bert_base, {"types": ["serial", "bottleneck"]})
    with pytest.raises(ValueError, match="unknown adapter type 'lorra'; did you mean lora"):
        build_space("default", bert_base, {"types": ["lorra"]})


def test_variants_are_dimensions_only_where_they_are_asked_for(bert_base: ModelShape) -> None:
    usual, asked = build_space("lora", bert_base), build_space("lora", bert_base, {"lora.init": ["default", "olora"]})
    assert [d.name for d in asked.dimensions if d not in usual.dimensions] == ["lora.init"]
    values = {d.name: d.values[-1] for d in asked.dimensions}
    started = asked.configuration(values)
    assert started.components[0].options == {"alpha": 1024, "init": "olora"}
    plain = asked.configuration(values | {"lora.init": "default"})
    assert plain == usual.configuration({name: value for name, value in values.items() if name != "lora.init"})
    assert usual.values(plain).keys() == usual.by_name.keys()
    with pytest.raises(OutsideSpace):
        usual.values(started)


def test_roles_can_be_one_choice_for_all(bert_base: ModelShape) -> None:
    space = build_space("default", bert_base, {"types": ["lora", "oft", "serial"], "roles": "shared"})
    assert not [name for name in space.by_name if ".roles." in name]
    rng = np.random.default_rng(0)
    for _ in range(50):
        configuration = space.configuration(space.sample(rng))
        assert len({c.roles for c in configuration.components if c.roles}) <= 1
        if configuration.components:
            assert space.configuration(space.values(configuration)).key == configuration.key


def test_sizes_that_must_divide_are_snapped_to_the_model() -> None:
    assert divisors(96, (4, 8, 64)) == (4, 8, 48)
    narrow = shape_of("llama")  # widths 16, 32 and 48
    assert build_space("everything", narrow, {"types": ["oft"]}).by_name["oft.size"].values == (0, 4, 8, 16)
    wrong = Component("oft", 5, (0,), ("q",))
    with pytest.raises(ValueError, match="oft of size 5 cannot be put on q: it must divide 32, as 2 or 4 or 8 does"):
        check(Configuration((wrong,), 1e-3), narrow)


def test_deberta_takes_no_prefix_and_says_why() -> None:
    space = build_space("default", shape_of("deberta_v2"))
    assert space.types == ("serial", "parallel", "lora")
    assert space.left_out == {"prefix": "the attention of deberta-v2, as this model was loaded, takes no further keys and values"}


@pytest.mark.parametrize("preset", sorted(presets()))
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_points_and_configurations_match_both_ways(preset: str, architecture: str) -> None:
    shape = shape_of(architecture)
    space = build_space(preset, shape)
    rng = np.random.default_rng(0)
    for _ in range(50):
        configuration = space.configuration(space.sample(rng))
        check(configuration, shape)
        assert Configuration.from_json(configuration.to_json()) == configuration
        if configuration.components:
            assert space.configuration(space.values(configuration)).key == configuration.key
        for component in configuration.components:
            assert 1e-4 <= adapter_type(component.type).default_learning_rate(component, shape) <= 0.3


def test_counts_by_hand(bert_base: ModelShape) -> None:
    def count(component: Component) -> int:
        return adapter_type(component.type).trainable_parameters(component, bert_base)

    assert count(Component("serial", 48, (0, 5), (), FEED_FORWARD)) == 2 * 2 * 768 * 48
    assert count(Component("parallel", 48, (0, 5), (), {"place": "attention", "bias": True})) == 2 * (2 * 768 * 48 + 48 + 768)
    assert count(Component("prefix", 20, (3,))) == 20 * 2 * 768
    assert count(Component("lora", 8, (0,), ("q", "ff_in"), {"alpha": 16})) == 8 * (768 + 768) + 8 * (768 + 3072)


def test_learning_rate_falls_with_rank_and_width(bert_base: ModelShape) -> None:
    narrow = shape_of("bert")
    for kind, options in (("lora", {"alpha": 16}), ("serial", FEED_FORWARD)):
        rates = [adapter_type(kind).default_learning_rate(Component(kind, size, (0,), (), options), bert_base) for size in (1, 16, 256)]
        assert rates == sorted(rates, reverse=True)
        assert rates[-1] <= adapter_type(kind).default_learning_rate(Component(kind, 256, (0,), (), options), narrow)


@pytest.mark.parametrize(
    ("component", "said"),
    [
        (Component("serial", 4, (0,), (), {"place": "feedforward", "bias": True}), "option place of serial must be one of"),
        (Component("serial", 4, (0,), (), {"place": "feed_forward"}), "serial needs the option 'bias'"),
        (Component("serial", 4, (0,), (), {"place": "feed_forward", "bias": 1}), "option bias of serial must be one of"),
        (Component("serial", 4, (0,), (), {**FEED_FORWARD, "bais": True}), "serial has no option 'bais'; did you mean bias"),
        (Component("serial", 4, (0,), ("q",), FEED_FORWARD), "serial cannot be put on role 'q'"),
        (Component("prefix", 4, (0,), (), {"alpha": 1}), "prefix has no option 'alpha'"),
        (Component("prefix", 4, (12,)), "layers of prefix must lie in 0..11"),
        (Component("prefix", 4, (3, 1)), "layers of prefix must be ascending"),
        (Component("prefix", 0, (1,)), "size of prefix must be at least 1"),
        (Component("prefix", 2**40, (1,)), r"size of prefix must be at most [0-9,]+, the weights of the model, it is 1,099,511,627,776"),
        (Component("prefix", 1_000_000, (1,)), r"[0-9,]+ trainable parameters, at most [0-9,]+ are taken, 10 times those of the model"),
        (Component("lora", 4, (0,), ("q", "qkw"), {"alpha": 8}), "lora cannot be put on role 'qkw'; there are q, k, v"),
        (Component("lora", 4, (0,), ("v", "q"), {"alpha": 8}), "distinct and in the order q, k, v, o, ff_in, ff_out"),
        (Component("lora", 4, (0,), (), {"alpha": 8}), "lora needs at least one role"),
        (Component("lora", 4, (0,), ("q",)), "option alpha of lora must be a number above 0, it is None"),
        (Component("lora", 4, (0,), ("q",), {"alpha": 8, "dropout": 0.1}), "lora has no option 'dropout'"),
    ],
)  # fmt: skip
def test_wrong_components_are_refused_in_words(component: Component, said: str, bert_base: ModelShape) -> None:
    with pytest.raises(ValueError, match=said):
        check(Configuration((component,), 1e-3), bert_base)
