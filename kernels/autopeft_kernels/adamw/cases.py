"""Trials of several steps with gradients given, and what torch.optim.AdamW makes of each by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from autopeft_kernels.adamw import BLOCK, Flat
from autopeft_kernels.cases import normal


@dataclass(frozen=True)
class Trial:
    """shapes: of its parameters, of which matrices decay. scale: of its gradients. broken: the step at which a gradient
    is not a number. starts: the first step at which it does not rest."""

    shapes: tuple[tuple[int, ...], ...]
    rate: float
    decay: float
    clip: float
    scale: float = 1.0
    broken: int = -1
    starts: int = 0


STEPS = 4
TRIALS = (
    Trial(((8, 384), (384, 8), (384,)), 1e-3, 0.01, 1.0),
    Trial(((3,),), 1e-2, 0.5, 1e9),
    Trial((), 1e-3, 0.0, 1.0),
    Trial(((40, 40), (1,)), 1e-1, 0.1, 0.5, scale=1e3, broken=2),
    Trial(((2000, 7),), 1e-4, 0.0, 1.0, scale=1e-3, starts=2),
)


def initial(device: str) -> tuple[Flat, list[list[Tensor]], list[list[Tensor]]]:
    """Flat buffers, and each trial's parameters and gradients as views of them."""
    blocks, bounds = 0, [0]
    decays: list[bool] = []
    places: list[list[tuple[int, tuple[int, ...]]]] = []
    for trial in TRIALS:
        places.append([])
        for shape in trial.shapes:
            places[-1].append((blocks * BLOCK, shape))
            more = -(-torch.Size(shape).numel() // BLOCK)
            blocks, decays = blocks + more, decays + [len(shape) > 1] * more
        bounds.append(blocks)
    values, gradients, first, second = (torch.zeros(blocks * BLOCK, device=device) for _ in range(4))
    flat = Flat(values, gradients, first, second, tuple(bounds), torch.tensor(decays, device=device))

    def views(buffer: Tensor) -> list[list[Tensor]]:
        return [[buffer[at : at + torch.Size(shape).numel()].view(shape) for at, shape in trial] for trial in places]

    generator = torch.Generator().manual_seed(0)
    for parameter in (p for trial in views(values) for p in trial):
        parameter.copy_(normal(generator, *parameter.shape))
    return flat, views(values), views(gradients)


def gradient(trial: Trial, shape: torch.Size, step: int, generator: torch.Generator) -> Tensor:
    """What a parameter gets at a step (0-based)."""
    given = trial.scale * normal(generator, *shape)
    return given.fill_(torch.nan) if step == trial.broken else given


Step = Callable[[Flat, Tensor, Tensor, Tensor, Tensor], Tensor]


def together(step_of: Step, device: str = "cpu") -> tuple[list[list[Tensor]], list[list[float]]]:
    """Parameters after all steps, and the norms of each step."""
    flat, parameters, gradients = initial(device)
    generator, taken, norms = torch.Generator().manual_seed(1), [0] * len(TRIALS), []
    for step in range(STEPS):
        for g, trial in enumerate(TRIALS):
            for held in gradients[g]:
                held.copy_(gradient(trial, held.shape, step, generator))
            taken[g] += step >= trial.starts and step != trial.broken
        rates, decay, clip = (torch.tensor([getattr(t, name) for t in TRIALS], device=device) for name in ("rate", "decay", "clip"))
        steps = torch.tensor([t if step >= trial.starts else 0 for t, trial in zip(taken, TRIALS, strict=True)], device=device)
        norms.append(step_of(flat, rates, decay, clip, steps).tolist())
        assert not flat.gradients.any()
    return parameters, norms


def apart() -> tuple[list[list[Tensor]], list[list[float]]]:
    """The same, each trial by torch's own optimiser and clipping."""
    _, parameters, _ = initial("cpu")
    parameters = [[p.clone().requires_grad_() for p in trial] for trial in parameters]
    generator = torch.Generator().manual_seed(1)
    norms: list[list[float]] = []
    optimizers = [
        torch.optim.AdamW([{"params": [p], "weight_decay": trial.decay if p.ndim > 1 else 0.0} for p in mine], lr=trial.rate)
        if mine
        else None
        for trial, mine in zip(TRIALS, parameters, strict=True)
    ]
    for step in range(STEPS):
        norms.append([])
        for trial, mine, optimizer in zip(TRIALS, parameters, optimizers, strict=True):
            for p in mine:
                p.grad = gradient(trial, p.shape, step, generator)
            norms[-1].append(float(torch.nn.utils.clip_grad_norm_(mine, trial.clip)))
            if optimizer and step >= trial.starts and step != trial.broken:
                optimizer.step()
    return parameters, norms
