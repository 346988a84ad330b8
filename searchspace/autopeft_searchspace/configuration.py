"""A configuration: what is trained, where, how large, and with which learning rate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Value = int | float | str | bool
MAXIMUM_COMPONENTS = 3
OPTIMIZERS = ("adamw", "lora_plus", "lora_fa", "riemannian")
"""The first is for every type, the others for pairs of low-rank factors (`autopeft.updates`)."""
QUANTISATIONS = ("none", "int8", "nf4")
"""How the frozen weights of the base model's linear modules are kept: as they are; in 8 bits (LLM.int8(), Dettmers et al.,
NeurIPS 2022, arXiv 2208.07339); in the 4-bit normal float of QLoRA (Dettmers et al., NeurIPS 2023, arXiv 2305.14314)."""


@dataclass(frozen=True)
class Component:
    """One adapter of a composition.

    type: registered adapter type, e.g. `lora`.
    size: rank, bottleneck width or number of prefix tokens; at least 1.
    layers: indices of the adapted transformer blocks, ascending.
    roles: adapted module roles where the type has that choice, in the order of `shape.ROLES`.
    options: further settings of the type, e.g. `{"alpha": 16}`.
    """

    type: str
    size: int
    layers: tuple[int, ...]
    roles: tuple[str, ...] = ()
    options: Mapping[str, Value] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "size": self.size,
            "layers": list(self.layers),
            "roles": list(self.roles),
            "options": dict(sorted(self.options.items())),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Component:
        """Raises KeyError for what is missing and TypeError for what is of the wrong kind."""
        found = cls(data["type"], data["size"], tuple(data["layers"]), tuple(data.get("roles", ())), dict(data.get("options", {})))
        _check_kind("type", str, found.type)
        _check_kind("size", int, found.size)
        _check_kind("layers", int, *found.layers)
        _check_kind("roles", str, *found.roles)
        _check_kind("options", int | float | str | bool, *found.options.values())
        return found


def _check_kind(name: str, kind: Any, *values: Any) -> None:
    for value in values:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise TypeError(f"{name} cannot be {value!r}")


@dataclass(frozen=True)
class Strategy:
    """Which layers train when, or are pruned, while a configuration trains.

    name: of a strategy of `strategies`, e.g. `ist`. settings: all of its settings, e.g. `{"active": 0.25, ...}`.
    """

    name: str
    settings: Mapping[str, Value]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "settings": dict(sorted(self.settings.items()))}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Strategy:
        """Raises KeyError for what is missing and TypeError for what is of the wrong kind."""
        found = cls(data["name"], dict(data["settings"]))
        _check_kind("strategy", str, found.name)
        _check_kind("settings", int | float | str | bool, *found.settings.values())
        return found

    def in_words(self) -> str:
        return ", ".join([self.name, *(f"{name} {value}" for name, value in sorted(self.settings.items()))])


@dataclass(frozen=True)
class Configuration:
    """A point of the space in canonical form: only what is active, sizes as they are built.

    components: of at most three types, several of one type on modules of their own; without them and a strategy only the task head trains.
    learning_rate: peak of the schedule, for adapter and head alike.
    strategy: which layers train when; None where all of the adapter trains in every step.
    optimizer: one of `OPTIMIZERS`.
    quantisation: of the base model, one of `QUANTISATIONS`.
    """

    components: tuple[Component, ...]
    learning_rate: float
    strategy: Strategy | None = None
    optimizer: str = OPTIMIZERS[0]
    quantisation: str = QUANTISATIONS[0]

    @property
    def head_only(self) -> bool:
        """Whether nothing but the task head trains."""
        return not self.components and self.strategy is None

    @property
    def key(self) -> str:
        """Equal for equivalent configurations, and only for those."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))

    def to_json(self) -> dict[str, Any]:
        """`strategy`, `optimizer` and `quantisation` are left out where they are the usual, so that keys stay what they always were."""
        found: dict[str, Any] = {"components": [c.to_json() for c in self.components], "learning_rate": self.learning_rate}
        if self.strategy:
            found["strategy"] = self.strategy.to_json()
        if self.optimizer != OPTIMIZERS[0]:
            found["optimizer"] = self.optimizer
        if self.quantisation != QUANTISATIONS[0]:
            found["quantisation"] = self.quantisation
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Configuration:
        _check_kind("learning_rate", int | float, data["learning_rate"])
        strategy = Strategy.from_json(data["strategy"]) if "strategy" in data else None
        _check_kind("optimizer", str, optimizer := data.get("optimizer", OPTIMIZERS[0]))
        _check_kind("quantisation", str, quantisation := data.get("quantisation", QUANTISATIONS[0]))
        components = tuple(Component.from_json(c) for c in data["components"])
        return cls(components, data["learning_rate"], strategy, optimizer, quantisation)

    def __hash__(self) -> int:
        return hash(self.key)

    def in_words(self) -> str:
        """One line for people, e.g. `lora 8 on q,v, layers 0-5; learning rate 0.005`."""
        parts = []
        for c in self.components:
            roles = f" on {','.join(c.roles)}" if c.roles else ""
            options = "".join(f", {name} {value}" for name, value in sorted(c.options.items()))
            parts.append(f"{c.type} {c.size}{roles}{options}, layers {ranges(c.layers)}")
        if self.strategy:
            parts = [f"{' + '.join(parts) or 'no adapter'}; {self.strategy.in_words()}"]
        optimizer = "" if self.optimizer == OPTIMIZERS[0] else f", {self.optimizer}"
        base = "" if self.quantisation == QUANTISATIONS[0] else f", on an {self.quantisation} base"
        return f"{' + '.join(parts) or 'head only'}; learning rate {self.learning_rate:g}{optimizer}{base}"


def ranges(layers: tuple[int, ...]) -> str:
    """Layer indices in words: (0, 1, 2, 5) -> `0-2,5`."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
