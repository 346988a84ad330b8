"""What strategies share that open some layers and freeze the others: parameters by layer, optimiser state, counts."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from autopeft.layerwise import LayerStrategy
from autopeft.training import Run
from autopeft.trial import Measurement
from autopeft_searchspace.shape import ModelShape
from autopeft_searchspace.strategies import layers_at_peak

if TYPE_CHECKING:
    from autopeft.models.head import TaskModel

STATE_BYTES = 8
"""Of a float32 weight under AdamW: two moments."""


def layer_of(name: str, shape: ModelShape) -> int | None:
    """Index of the transformer block that a parameter or module name lies in, None where it lies in none."""
    path = next(iter(shape.modules.values()))[0].path
    stack = re.split(r"\.\d+\.", path, maxsplit=1)[0]
    found = re.search(rf"(?:^|\.){re.escape(stack)}\.(\d+)(?:\.|$)", name)
    return int(found.group(1)) if found else None


def by_layer(parameters: Iterator[tuple[str, nn.Parameter]], shape: ModelShape) -> dict[int, list[nn.Parameter]]:
    """Layer -> its parameters, in ascending order; those of no layer are left out."""
    found: dict[int, list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if (layer := layer_of(name, shape)) is not None:
            found.setdefault(layer, []).append(parameter)
    return dict(sorted(found.items()))


class Drawing(LayerStrategy):
    """Before a step, opens the layers that `choose` names and freezes the others.

    drop_state: whether the optimiser forgets its state of a layer that is frozen. opened: how many steps
    each layer trained in.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.generator = torch.Generator().manual_seed(self.seed)
        self.layers: dict[int, list[nn.Parameter]] = {}
        self.always: list[nn.Parameter] = []
        self.optimizer: torch.optim.Optimizer | None = None
        self.open: tuple[int, ...] = ()
        self.opened: dict[int, int] = {}
        self.counts: list[int] = []

    @abstractmethod
    def choose(self, run: Run) -> tuple[int, ...] | None:
        """Layers to train from this step on, ascending; None for those of the step before."""

    @property
    def drop_state(self) -> bool:
        return bool(self.settings.get("drop_state", False))

    def attach(self, model: TaskModel) -> None:
        trained = [(name, p) for name, p in model.backbone.named_parameters() if p.requires_grad]
        self.layers = by_layer(iter(trained), self.shape)
        self.opened = dict.fromkeys(self.layers, 0)

    def begin(self, run: Run) -> None:
        self.optimizer = run.optimizer

    def before_step(self, run: Run) -> None:
        if (chosen := self.choose(run)) is not None:
            self.switch(chosen)
        for layer in self.open:
            self.opened[layer] += 1
        self.counts.append(count(self.layers, self.open) + sum(p.numel() for p in self.always))

    def switch(self, layers: tuple[int, ...]) -> None:
        """Open `layers`, freeze the others; with `drop_state` the optimiser forgets those that are frozen."""
        self.open = layers
        for layer, parameters in self.layers.items():
            for parameter in parameters:
                parameter.requires_grad_(layer in layers)
                if self.optimizer and self.drop_state and layer not in layers:
                    self.optimizer.state.pop(parameter, None)

    def open_peak(self) -> int:
        assert self.configuration.strategy is not None
        self.switch(layers_at_peak(self.configuration.strategy, tuple(self.layers)))
        frozen = count(self.layers) - count(self.layers, self.open)
        return 0 if self.drop_state else STATE_BYTES * frozen

    def measurements(self) -> dict[str, Measurement]:
        """Trained weights without the task head: mean per step and most in a step; share of steps per layer."""
        steps = max(1, len(self.counts))
        shares = {f"trained_share.{layer}": Measurement(n / steps) for layer, n in self.opened.items()}
        mean, most = sum(self.counts) / steps, max(self.counts, default=0)
        return {
            "mean_trained_parameters": Measurement(mean, "parameters"),
            "most_trained_parameters": Measurement(float(most), "parameters"),
            **shares,
        }


def count(layers: Mapping[int, list[nn.Parameter]], chosen: tuple[int, ...] | None = None) -> int:
    """Weights in the `chosen` layers, or in all."""
    return sum(p.numel() for layer, parameters in layers.items() if chosen is None or layer in chosen for p in parameters)


def draw(generator: torch.Generator, layers: tuple[int, ...], number: int, weights: torch.Tensor | None = None) -> tuple[int, ...]:
    """`number` distinct layers, ascending. weights: [layers], above 0; equal ones by default."""
    weights = torch.ones(len(layers)) if weights is None else weights
    chosen = torch.multinomial(weights, number, generator=generator).sort().values
    return tuple(layers[i] for i in chosen.tolist())
