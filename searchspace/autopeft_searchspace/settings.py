"""From a preset and changes to it to a space: what users write under `space` in a study."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml

from autopeft_searchspace import groups
from autopeft_searchspace.configuration import MAXIMUM_COMPONENTS, OPTIMIZERS, QUANTISATIONS, Value
from autopeft_searchspace.dims import Dimension, bit_dimension, choice_dimension, real_dimension
from autopeft_searchspace.registry import adapter_type, adapter_types
from autopeft_searchspace.rules import not_on
from autopeft_searchspace.shape import ModelShape
from autopeft_searchspace.space import TOP_LAYERS, Space
from autopeft_searchspace.strategies import STRATEGIES, strategy_dimensions

FAMILIES = {"bottleneck": ("serial", "parallel", "compacter")}
"""Names that stand for several types in a list of them."""
LEARNING_RATE_FACTORS = real_dimension("learning_rate", 1 / 8, 8, steps=13)


def presets() -> dict[str, dict[str, Any]]:
    """Presets by name, as written in `presets/*.yaml`."""
    folder = resources.files("autopeft_searchspace.presets")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return {f.name.removesuffix(".yaml"): yaml.safe_load(f.read_text("utf-8")) for f in files}


def build_space(preset: str, shape: ModelShape, change: Mapping[str, Any] | None = None) -> Space:
    """The space of a preset on a model.

    change: `types` (list of adapter types, or `all`), `strategies` (list of layer strategies, or `all`),
        `optimizers` (list of `OPTIMIZERS`, or `all`), `layers` (`bits`, `all`, or the `top` ones of the prior),
        `learning_rate` (`search` or a number), `maximum_components`, `variants` (whether refinements of types, such as
        `lora.init`, are searched, or only those that are named), `roles` (`own` choices of each type, or one `shared` by
        all), `sizes` (`one` of each type, or factors for `groups` of modules), `quantisation` (of the base model, one or a
        list of `QUANTISATIONS`), and any dimension's name with the value or the list of values it is restricted to, e.g.
        `{"lora.size": [0, 4, 8], "serial.place": "attention"}`, or the range of its numbers, e.g.
        `{"prefix.size": {"maximum": 128}}`; 0 = off stays in a range.
    Raises ValueError naming the rule, the value and near names.
    """
    known = presets()
    if preset not in known:
        raise ValueError(f"unknown preset {preset!r}{_near(preset, known)}")
    change = change or {}
    settings: dict[str, Any] = {key: value for key, value in known[preset].items() if key != "title"} | {**change}
    names = _type_names(settings.pop("types"))
    layers, rate = settings.pop("layers"), settings.pop("learning_rate")
    most = settings.pop("maximum_components", MAXIMUM_COMPONENTS)
    variants, roles, sizes = settings.pop("variants", False), settings.pop("roles", "own"), settings.pop("sizes", "one")
    strategies = settings.pop("strategies", [])
    optimizers = settings.pop("optimizers", [])
    optimizers = list(OPTIMIZERS) if optimizers == "all" else optimizers
    settings.pop("quantisation", None)
    quantisations = offered(preset, change)
    if layers not in ("bits", "all", "top"):
        raise ValueError(f"layers must be 'bits', 'all' or 'top', it is {layers!r}")
    if rate != "search" and not (isinstance(rate, (int, float)) and rate > 0):
        raise ValueError(f"learning_rate must be 'search' or a number above 0, it is {rate!r}")
    if not isinstance(most, int) or not 1 <= most <= MAXIMUM_COMPONENTS:
        raise ValueError(f"maximum_components must be 1 to {MAXIMUM_COMPONENTS}, it is {most!r}")
    if roles not in ("own", "shared"):
        raise ValueError(f"roles must be 'own' or 'shared', it is {roles!r}")
    if not isinstance(optimizers, list) or not set(optimizers) <= set(OPTIMIZERS):
        raise ValueError(f"optimizers must be 'all' or a list of {', '.join(OPTIMIZERS)}, it is {optimizers!r}")
    if sizes not in ("one", "groups"):
        raise ValueError(f"sizes must be 'one' or 'groups', it is {sizes!r}")
    for quantisation in quantisations:
        if why := not_on(quantisation, (), None, shape):
            raise ValueError(why)
    left_out = {name: why for name in names if (why := adapter_type(name).unavailable(shape))}
    if QUANTISATIONS[0] not in quantisations:
        unfit = (name for name in names if not adapter_type(name).supports.quantised_base)
        left_out |= dict.fromkeys(unfit, f"it does not train on a quantised base, and quantisation is {' or '.join(quantisations)}")
    types = tuple(name for name in names if name not in left_out)
    if not types:
        raise ValueError(f"no adapter type of preset {preset!r} fits this model: {left_out}")
    dimensions = [
        dimension
        for name in types
        for dimension in adapter_type(name).dimensions(shape)
        if variants or dimension.name in settings or dimension.name.partition(".")[2] not in adapter_type(name).neutral
    ]
    if roles == "shared":
        dimensions = [d for d in dimensions if not d.name.partition(".")[2].startswith("roles.")]
        dimensions += [bit_dimension(f"roles.{role}") for role in shape.roles]
    if layers == "bits":
        dimensions += [bit_dimension(f"layers.{i}") for i in range(shape.layers)]
    if layers == "top":
        dimensions.append(Dimension(TOP_LAYERS, tuple(range(1, shape.layers + 1)), ordered=True))
    if optimizers and any(adapter_type(name).pairs for name in types):
        dimensions.append(choice_dimension("optimizer", [name for name in OPTIMIZERS if name in optimizers]))
    if len(quantisations) > 1:
        dimensions.append(choice_dimension("quantisation", quantisations))
    if sizes == "groups":
        with_roles = any(adapter_type(name).supports.roles for name in types)
        dimensions += [d for d in groups.dimensions() if with_roles or d.name != "sizes.feed_forward"]
    if rate == "search":
        dimensions.append(LEARNING_RATE_FACTORS)
    if strategies:
        dimensions += strategy_dimensions(list(STRATEGIES) if strategies == "all" else strategies, shape)
    by_name = {d.name: d for d in dimensions}
    for name, wanted in settings.items():
        type_name = name.partition(".")[0]
        if type_name in left_out or (name not in change and type_name in adapter_types() and type_name not in types):
            continue
        if name not in by_name:
            raise ValueError(f"space has no dimension {name!r}{_near(name, by_name)}")
        by_name[name] = _restrict(by_name[name], wanted)
    fixed = None if rate == "search" else float(rate)
    return Space(
        preset,
        shape,
        types,
        tuple(by_name.values()),
        fixed,
        left_out,
        maximum_components=most,
        shared_roles=roles == "shared",
        sized_groups=sizes == "groups",
        quantisations=quantisations,
    )


def offered(preset: str, change: Mapping[str, Any]) -> tuple[str, ...]:
    """Quantisations of the base model that a space offers, those of `none` first. Raises ValueError as `build_space` does."""
    return _quantisations({**presets()[preset], **change}.get("quantisation", QUANTISATIONS[0]))


def _quantisations(wanted: Any) -> tuple[str, ...]:
    """What is offered, in the order of `QUANTISATIONS`, of a list or of one word."""
    chosen = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(chosen, list) or not chosen or not all(name in QUANTISATIONS for name in chosen):
        raise ValueError(f"quantisation must be one or a list of {', '.join(QUANTISATIONS)}, it is {wanted!r}")
    return tuple(name for name in QUANTISATIONS if name in chosen)


def _type_names(wanted: Any) -> list[str]:
    """Adapter types of a list, in which `bottleneck` stands for all of these, or all there are for `all`."""
    if wanted == "all":
        return sorted(adapter_types())
    if not isinstance(wanted, list) or not wanted or not all(isinstance(name, str) for name in wanted):
        raise ValueError(f"types must be a list of distinct adapter types, it is {wanted!r}")
    names = [name for given in wanted for name in FAMILIES.get(given, (given,))]
    if len(set(names)) != len(names):
        raise ValueError(f"types must be a list of distinct adapter types, it is {wanted!r}")
    return names


def _restrict(dimension: Dimension, wanted: Any) -> Dimension:
    if isinstance(wanted, Mapping):
        wanted = _range(dimension, wanted)
    chosen = wanted if isinstance(wanted, list) else [wanted]
    indices = sorted({dimension.index(value) for value in chosen})
    return Dimension(dimension.name, tuple(dimension.values[i] for i in indices), dimension.ordered, dimension.log)


def _range(dimension: Dimension, bounds: Mapping[str, Any]) -> list[Value]:
    """Values of a dimension of numbers between `minimum` and `maximum`, and 0."""
    if not dimension.ordered or not bounds or not set(bounds) <= {"minimum", "maximum"}:
        raise ValueError(f"dimension {dimension.name!r} takes values or, of numbers, minimum and maximum; it was given {dict(bounds)}")
    low, high = bounds.get("minimum", -math.inf), bounds.get("maximum", math.inf)
    kept = [value for value in dimension.values if not value or low <= float(value) <= high]
    if not any(kept):
        raise ValueError(f"dimension {dimension.name!r} has no value in {dict(bounds)}; it has {list(dimension.values)}")
    return kept


def _near(name: str, names: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, names, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(sorted(names))}"


def available_types(shape: ModelShape) -> dict[str, str | None]:
    """Every adapter type, with why this model cannot take it or None where it can."""
    return {name: adapter.unavailable(shape) for name, adapter in sorted(adapter_types().items())}
