"""Base models that a worker holds: one for each quantisation that its trials ask for, loaded when first asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from autopeft.device import free_bytes
from autopeft.execute.frozen import FrozenLayers
from autopeft.meters import storage_bytes
from autopeft.models.head import TaskModel

ROOM = 2
"""Free memory of the device, in sizes of the models held, below which those not in use are given up."""


@dataclass(frozen=True)
class Base:
    """model: the base model with its task head. frozen: what its untouched layers computed."""

    model: TaskModel
    frozen: FrozenLayers


class Bases:
    """load: gives the model of a quantisation, on the device. frozen: makes a store for what its layers compute."""

    def __init__(self, load: Callable[[str], TaskModel], frozen: Callable[[], FrozenLayers], device: torch.device) -> None:
        self._load, self._frozen, self._device = load, frozen, device
        self._held: dict[str, Base] = {}

    @property
    def stored_bytes(self) -> int:
        """Memory that the stores of all bases take."""
        return sum(base.frozen.bytes for base in self._held.values())

    def of(self, quantisation: str) -> Base:
        """The base model of a quantisation. While it is loaded the others are still there; then they go where memory is short."""
        if quantisation not in self._held:
            found = Base(self._load(quantisation), self._frozen())
            held = sum(storage_bytes(base.model.parameters()) for base in self._held.values())
            if free_bytes(self._device) < ROOM * held:
                self._held.clear()
            self._held[quantisation] = found
        return self._held[quantisation]
