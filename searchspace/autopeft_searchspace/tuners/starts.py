"""First weights found from training batches: what modules see there, and low-rank factors from it.

Conventions: W [d_out, d_in], A [r, d_in], B [d_out, r], update s B A; C = mean of x x^T over tokens
[d_in, d_in]; G the gradient of the loss with respect to W [d_out, d_in].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

Losses = Sequence[Callable[[], Tensor]]
"""The loss of one training batch each, of the model that is to start."""
GAMMA = 16.0
"""gamma of LoRA-GA, as in its section 4."""
DAMPING = 0.01
"""Share of the mean variance that is added to C before it is inverted."""


@dataclass(frozen=True)
class Seen:
    """Of one module. weight: its own. moment: C. gradient: mean of G over the batches; squared_gradient: of its squares."""

    weight: Tensor
    moment: Tensor
    gradient: Tensor
    squared_gradient: Tensor


def look(modules: dict[str, nn.Module], losses: Losses) -> dict[str, Seen]:
    """What each of `modules` (linear ones of the base model, by path) sees in forward and backward passes of all batches."""
    moments = {path: torch.zeros(0) for path in modules}
    tokens = dict.fromkeys(modules, 0)

    def watch(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            x = inputs[0].detach().flatten(0, -2).float()
            total = x.T @ x
            moments[path] = moments[path] + total if moments[path].numel() else total
            tokens[path] += len(x)

        return hook

    weights: dict[str, nn.Parameter] = {path: module.weight for path, module in modules.items()}
    handles = [module.register_forward_hook(watch(path)) for path, module in modules.items()]
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        for loss in losses:
            found = torch.autograd.grad(loss(), list(weights.values()), allow_unused=True)
            for (path, weight), gradient in zip(weights.items(), found, strict=True):
                g = torch.zeros_like(weight, dtype=torch.float32) if gradient is None else gradient.float()
                if path in sums:
                    sums[path][0].add_(g)
                    sums[path][1].addcmul_(g, g)
                else:
                    sums[path] = g.clone(), g.square()
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)
        for handle in handles:
            handle.remove()
    seen: dict[str, Seen] = {}
    for path, module in modules.items():
        gradient, squared = (_as_linear(total, module) / len(losses) for total in sums[path])
        seen[path] = Seen(_as_linear(weights[path].detach(), module), moments[path] / max(1, tokens[path]), gradient, squared)
    return seen


def _as_linear(weight: Tensor, module: nn.Module) -> Tensor:
    return weight.T if isinstance(module, Conv1D) else weight


def eva(seen: Seen, rank: int) -> Tensor:
    """A: the `rank` first right singular vectors of the activations (Paischer et al. 2024, arXiv 2410.07170, section 3.2)."""
    return torch.linalg.eigh(seen.moment).eigenvectors.flip(1)[:, :rank].T.contiguous()


def corda(seen: Seen, rank: int) -> tuple[Tensor, Tensor]:
    """B and A with W C = U S V^T: B = U_r S_r^(1/2), A = S_r^(1/2) V_r^T C^-1 (Yang et al., NeurIPS 2024, arXiv
    2406.05223, equations 3 and 5, of the r largest singular values: adaptation previewed by the instruction)."""
    moment = seen.moment + DAMPING * seen.moment.diagonal().mean() * torch.eye(len(seen.moment), device=seen.moment.device)
    u, s, vh = torch.linalg.svd(seen.weight.float() @ moment, full_matrices=False)
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root.unsqueeze(1) * torch.linalg.solve(moment, vh[:rank].T).T


def lora_ga(seen: Seen, rank: int) -> tuple[Tensor, Tensor]:
    """B and A with G = U S V^T: A = c V_[1..r]^T, B = c U_[r+1..2r] (the last r where there are fewer than 2 r),
    c = d_out^(1/4) / gamma^(1/2) (Wang et al., NeurIPS 2024, arXiv 2407.05000, section 3), so that the first
    update of the weight is along the best approximation of rank 2 r to G."""
    u, _, vh = torch.linalg.svd(seen.gradient, full_matrices=False)
    scale = len(seen.gradient) ** 0.25 / GAMMA**0.5
    end = min(2 * rank, u.shape[1])
    return scale * u[:, end - rank : end], scale * vh[:rank]


def set_factors(layer: Any, up: Tensor, down: Tensor, *, keep_function: bool) -> None:
    """Give a LoRA layer of peft B = `up` and A = `down`.

    keep_function: take s B A out of the module's own weight, so that the model computes what it did. What
        was taken out is kept on the layer (`taken`), since a saved adapter has to bring it along.
    """
    from peft.tuners.lora.layer import LoraLayer

    assert isinstance(layer, LoraLayer)
    (name,) = layer.lora_A
    with torch.no_grad():
        layer.lora_A[name].weight.copy_(down)
        layer.lora_B[name].weight.copy_(up)
        if keep_function:
            module: Any = layer.get_base_layer()
            update = layer.scaling[name] * (up @ down)
            module.weight -= (update.T if isinstance(module, Conv1D) else update).to(module.weight.dtype)
            layer.taken = (up.detach().clone(), down.detach().clone())


def whole_adapter(model: Any) -> tuple[Any, dict[str, Tensor]] | None:
    """The config and weights of a LoRA of twice the rank that does on the untouched base model what `model` does.

    s (B A - B0 A0) = s [B, -B0] [A; A0], B0 A0 what was taken out of the base model's weights. None where
    nothing was.
    """
    from copy import copy

    from peft import get_peft_model_state_dict

    taken = {name: module.taken for name, module in model.named_modules() if hasattr(module, "taken")}
    if not taken:
        return None
    state = dict(get_peft_model_state_dict(model))
    for name, (up, down) in taken.items():
        for factor, other, dim in (("lora_A", down, 0), ("lora_B", -up, 1)):
            key = f"{name}.{factor}.weight"
            state[key] = torch.cat([state[key], other.to(state[key])], dim=dim).contiguous()
    config = copy(model.peft_config["default"])
    config.r, config.lora_alpha, config.init_lora_weights = 2 * config.r, 2 * config.lora_alpha, True
    return config, state
