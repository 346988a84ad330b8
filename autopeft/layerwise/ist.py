"""IST, importance-aware sparse tuning: layers that matter more are trained more often.

Yao et al., EMNLP 2024 Findings (arXiv 2410.11772), as its public code trains. A score s per adapted layer,
0 at the start, higher for layers that matter less; p = sigmoid(s).

    drawn to train       `active` of the layers without replacement, weights sigmoid(-s)
    every `interval`     `candidates` distinct halves of the layers, weights p, each with the answer of its
                         adapters damped by `damping`: loss_k on one training batch, in evaluation mode
    reward               r_k = exp(-loss_k) - mean_j exp(-loss_j)
    update               s_i += rate * p_i (1 - p_i) * r_k for the layers i that candidate k damps

As published, layers are drawn anew in every step (`redraw` 1) and the optimiser keeps its state, so that
before long it holds all of it. With draws kept and `drop_state` memory is saved; the two pull apart.

The answer of an adapter is what it adds to the output of its module. Damping gives
base + damping * (adapted - base), for every type alike; of LoRA and bottlenecks that is their scaling.
The batch that scores candidates is the next step's, in place of 16 further examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from autopeft.device import autocast
from autopeft.layerwise import register
from autopeft.layerwise.drawing import Drawing, draw, layer_of
from autopeft.training import Run
from autopeft.trial import IMPORTANCE, Measurement
from autopeft_searchspace.strategies import active_layers

if TYPE_CHECKING:
    from autopeft.models.head import TaskModel

DAMPED_SHARE = 0.5


@register
class Ist(Drawing):
    name = "ist"

    def attach(self, model: TaskModel) -> None:
        super().attach(model)
        self.scores = torch.zeros(len(self.layers))
        self.adapted = adapted_modules(model.backbone, lambda name: layer_of(name, self.shape))

    def choose(self, run: Run) -> tuple[int, ...] | None:
        if run.step and run.step % int(self.settings["interval"]) == 0:
            self._learn(run)
        if run.step % int(self.settings["redraw"]):
            return None
        layers = tuple(self.layers)
        return draw(self.generator, layers, active_layers(float(self.settings["active"]), len(layers)), torch.sigmoid(-self.scores))

    def _learn(self, run: Run) -> None:
        """Score candidates on the batch of the step that comes, and update."""
        layers = tuple(self.layers)
        number = active_layers(DAMPED_SHARE, len(layers))
        candidates: list[tuple[int, ...]] = []
        while len(candidates) < min(int(self.settings["candidates"]), math.comb(len(layers), number)):
            candidate = draw(self.generator, layers, number, torch.sigmoid(self.scores))
            if candidate not in candidates:
                candidates.append(candidate)
        run.model.eval()
        losses = []
        for candidate in candidates:
            with self._damped(candidate), torch.no_grad(), autocast(run.recipe.device_type, run.recipe.precision):
                losses.append(float(run.loss_of(run.step)))
        run.model.train()
        damped = [[layers.index(layer) for layer in candidate] for candidate in candidates]
        self.scores = updated(self.scores, damped, losses, float(self.settings["rate"]))

    @contextmanager
    def _damped(self, layers: Sequence[int]) -> Iterator[None]:
        hook = damping_hook(float(self.settings["damping"]))
        handles = [m.register_forward_hook(hook, with_kwargs=True) for layer in layers for m in self.adapted.get(layer, ())]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def measurements(self) -> dict[str, Measurement]:
        """Importance of a layer: sigmoid(-s), with which it is drawn."""
        weights = torch.sigmoid(-self.scores).tolist()
        return super().measurements() | {f"{IMPORTANCE}.{layer}": Measurement(w) for layer, w in zip(self.layers, weights, strict=True)}


def updated(scores: Tensor, damped: Sequence[Sequence[int]], losses: Sequence[float], rate: float) -> Tensor:
    """Scores [layers] after candidates that damped the layers at these positions gave these losses."""
    rewards = [math.exp(-loss) for loss in losses]
    mean = sum(rewards) / len(rewards)
    p = torch.sigmoid(scores)
    found = scores.clone()
    for positions, reward in zip(damped, rewards, strict=True):
        chosen = list(positions)
        found[chosen] += rate * (reward - mean) * p[chosen] * (1 - p[chosen])
    return found


def adapted_modules(backbone: nn.Module, layer_of: Callable[[str], int | None]) -> dict[int, list[nn.Module]]:
    """Layer -> modules of peft that stand around a module of the base model; not those inside a composition."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    from autopeft_searchspace.tuners.composition import PARTS

    found: dict[int, list[nn.Module]] = {}
    for name, module in backbone.named_modules():
        if isinstance(module, BaseTunerLayer) and f".{PARTS}." not in name and (layer := layer_of(name)) is not None:
            found.setdefault(layer, []).append(module)
    return found


def damping_hook(factor: float) -> Callable[..., Any]:
    """Forward hook that leaves `factor` of what an adapter adds to its module's output."""

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        base = module.base_layer(*args, **kwargs)
        if isinstance(output, tuple):  # of an attention module, whose further outputs are not its answer
            return (base[0] + factor * (output[0] - base[0]), *output[1:])
        return base + factor * (output - base)

    return hook
