"""A size for each group of modules: what factors make of a component, back again, and built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from peft import PeftModel

from autopeft.models.roles import find_shape
from autopeft_searchspace.build import adapt, peft_config, plain_config, unadapt
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.rules import check, trainable_parameters
from autopeft_searchspace.settings import build_space
from autopeft_searchspace.space import Space


def space(types: list[str], **change: Any) -> Space:
    shape = find_shape(tiny.build("bert", device="meta"))  # three layers: one early, one in the middle, one late
    return build_space("lora", shape, {"types": types, "sizes": "groups", "roles": "shared", **change})


def point(own: Space, size: str, roles: str, early: float, late: float, feed_forward: float) -> dict[str, Any]:
    values = {d.name: d.values[-1] for d in own.dimensions}
    values |= {f"roles.{role}": role in roles.split(",") for role in own.shape.roles}
    values |= {f"{name}.size": 0 for name in own.types} | {size.partition(":")[0] + ".size": int(size.partition(":")[2])}
    return values | {"sizes.early": early, "sizes.late": late, "sizes.feed_forward": feed_forward}


def test_factors_give_each_group_its_size() -> None:
    own = space(["lora"])
    found = own.configuration(point(own, "lora:4", "q,v,ff_in", 0.25, 1.0, 2.0)).components
    assert [(c.size, c.roles, c.layers) for c in found] == [
        (1, ("q", "v"), (0,)),
        (4, ("q", "v"), (1, 2)),
        (2, ("ff_in",), (0,)),
        (8, ("ff_in",), (1, 2)),
    ]
    assert all(c.options["alpha"] == 4 * c.size for c in found)


def test_even_factors_are_what_they_were() -> None:
    own = space(["lora"])
    (found,) = own.configuration(point(own, "lora:4", "q,ff_in", 1.0, 1.0, 1.0)).components
    assert (found.size, found.roles, found.layers) == (4, ("q", "ff_in"), (0, 1, 2))


@pytest.mark.parametrize("types", [["lora", "vera", "serial"], ["loha", "oft", "prefix", "ia3"]])
def test_points_come_back_and_are_built_as_counted(types: list[str], tmp_path: Path) -> None:
    own, backbone = space(types), tiny.build("bert")
    rng = np.random.default_rng(0)
    for _ in range(12):
        configuration = own.configuration(own.sample(rng))
        if not configuration.components:
            continue
        check(configuration, own.shape)
        assert own.configuration(own.values(configuration)) == configuration
        model = adapt(backbone, configuration, own.shape, task_type=None).eval()
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable_parameters(configuration, own.shape)
        after = model(**tiny.batch()).last_hidden_state
        model.save_pretrained(str(tmp_path))
        loaded = PeftModel.from_pretrained(tiny.build("bert"), str(tmp_path)).eval()
        torch.testing.assert_close(loaded(**tiny.batch()).last_hidden_state, after, atol=1e-5, rtol=1e-5)
        backbone = unadapt(model)


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_sizes_are_a_rank_pattern_of_plain_peft(kind: str) -> None:
    own = space([kind])
    configuration = own.configuration(point(own, f"{kind}:4", "q", 0.25, 2.0, 1.0))
    config: Any = plain_config(configuration, own.shape)
    ranks = {path: config.rank_pattern.get(path, config.r) for path in config.target_modules}
    assert list(ranks.values()) == [1, 4, 8]
    model = adapt(tiny.build("bert"), configuration, own.shape, task_type=None)
    assert model.peft_config["default"].peft_type == kind.upper()
    layers = {name.removeprefix("base_model.model."): m for name, m in model.named_modules() if hasattr(m, "r") and hasattr(m, "scaling")}
    assert {name: layer.r["default"] for name, layer in layers.items()} == ranks
    assert len({layer.scaling["default"] for layer in layers.values()}) == 1
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable_parameters(configuration, own.shape)


def test_types_without_a_pattern_are_a_composition() -> None:
    own = space(["hra"])
    configuration = own.configuration(point(own, "hra:4", "q", 0.5, 1.0, 1.0))
    assert len(configuration.components) == 2
    assert plain_config(configuration, own.shape) is None
    assert peft_config(configuration, own.shape).peft_type == "AUTOPEFT_COMPOSITION"


def test_two_of_a_type_on_one_module_are_refused() -> None:
    shape = find_shape(tiny.build("bert", device="meta"))
    twice = tuple(Component("lora", size, (0, 1), ("q",), {"alpha": size}) for size in (2, 4))
    with pytest.raises(ValueError, match="lora stands twice on q in layer 0"):
        check(Configuration(twice, 1e-3), shape)
    prompts = (Component("prompt", 2, (0,)), Component("prompt", 4, (1,)))
    with pytest.raises(ValueError, match="prompt stands once in a model"):
        check(Configuration(prompts, 1e-3), shape)
