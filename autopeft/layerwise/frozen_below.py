"""Frozen from below: the highest `active` share of the adapted layers trains, the others never.

`growing`: at first the highest layer alone, then one more after equal stretches of the schedule. Below the
lowest layer that trains nothing is kept for the backward pass.
"""

from __future__ import annotations

from autopeft.layerwise import register
from autopeft.layerwise.drawing import Drawing
from autopeft.training import Run
from autopeft_searchspace.strategies import active_layers


@register
class FrozenBelow(Drawing):
    name = "frozen_below"

    def choose(self, run: Run) -> tuple[int, ...] | None:
        layers = tuple(self.layers)
        most = active_layers(float(self.settings["active"]), len(layers))
        number = min(most, 1 + run.step * most // run.recipe.total_steps) if self.settings["growing"] else most
        return layers[-number:]

    def open_peak(self) -> int:
        """Layers that never train have no state."""
        super().open_peak()
        return 0
