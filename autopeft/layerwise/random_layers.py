"""Random layers: what importance has to beat. A share of the adapted layers trains, drawn anew every `redraw` steps."""

from __future__ import annotations

from autopeft.layerwise import register
from autopeft.layerwise.drawing import Drawing, draw
from autopeft.training import Run
from autopeft_searchspace.strategies import active_layers


@register
class RandomLayers(Drawing):
    name = "random_layers"

    def choose(self, run: Run) -> tuple[int, ...] | None:
        if run.step % int(self.settings["redraw"]):
            return None
        layers = tuple(self.layers)
        return draw(self.generator, layers, active_layers(float(self.settings["active"]), len(layers)))
