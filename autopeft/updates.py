"""What a configuration asks of the training loop beside AdamW: optimisers of low-rank pairs, and ranks that are cut.

For a pair with update s B A, A [r, d_in], B [d_out, r], of a LoRA layer of peft:

    lora_plus     the rate of A is a sixteenth of that of B and of all else        Hayou et al., ICML 2024 (arXiv 2402.12354), section 4
    lora_fa       A is frozen, grad_B <- grad_B (A A^T)^-1 / s^2                    Zhang et al. 2023 (arXiv 2308.03303), as in peft
    riemannian    grad_A <- (B^T B + d I)^-1 grad_A, grad_B <- grad_B (A A^T + d I)^-1        Zhang & Pilanci, ICML 2024 (arXiv
                  2402.02347), equation 4 with d = 1e-6

All change what AdamW is given, not AdamW. AdaLoRA cuts ranks after each step (`peft.AdaLoraModel`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

RATIO = 16
DAMPING = 1e-6
CUT_FROM, CUT_UNTIL = 0.1, 0.7
"""Shares of the steps between which AdaLoRA cuts ranks."""


@dataclass(frozen=True)
class Pair:
    """The two factors of one LoRA layer, and s."""

    down: nn.Parameter
    up: nn.Parameter
    scaling: float


def pairs(model: nn.Module) -> Iterator[Pair]:
    """Of all LoRA layers, alone or in a composition; B trains, A may be frozen."""
    from peft.tuners.adalora import AdaLoraLayer
    from peft.tuners.lora.layer import LoraLayer

    for module in model.modules():
        if isinstance(module, LoraLayer) and not isinstance(module, AdaLoraLayer):
            for name, down in module.lora_A.items():
                yield Pair(down.weight, module.lora_B[name].weight, float(module.scaling[name]))


def prepare(optimizer: torch.optim.Optimizer, model: nn.Module, name: str, total_steps: int) -> None:
    """Change an AdamW over the trained parameters of `model` to what `name` says, and let AdaLoRA cut ranks.

    A group's `share` is the share of the learning rate that it gets.
    """
    found = list(pairs(model)) if name != "adamw" else []
    if name == "lora_plus":
        _split(optimizer, {id(pair.down) for pair in found})
    elif found:
        optimizer.register_step_pre_hook(lambda *_: _precondition(found))
    for adalora in _adalora(model):
        _follow(optimizer, adalora, total_steps)


def is_adamw(model: nn.Module, name: str) -> bool:
    """Whether AdamW alone updates `model`: nothing acts before, after or beside it."""
    return name == "adamw" and not _adalora(model)


def _split(optimizer: torch.optim.Optimizer, slower: set[int]) -> None:
    for group in list(optimizer.param_groups):
        moved = [p for p in group["params"] if id(p) in slower]
        if moved:
            group["params"] = [p for p in group["params"] if id(p) not in slower]
            optimizer.add_param_group({**group, "params": moved, "share": 1 / RATIO})


def _precondition(found: list[Pair]) -> None:
    for pair in found:
        down, up = pair.down.detach().float(), pair.up.detach().float()
        by_down = down @ down.T
        if pair.up.grad is not None:
            scale = 1.0 if pair.down.requires_grad else pair.scaling**-2
            pair.up.grad = (scale * _over(by_down, pair.up.grad.float().T).T).to(pair.up.dtype)
        if pair.down.grad is not None:
            pair.down.grad = _over(up.T @ up, pair.down.grad.float()).to(pair.down.dtype)


def _over(square: Tensor, gradient: Tensor) -> Tensor:
    """(square + d I)^-1 gradient: [r, r], [r, n] -> [r, n]."""
    return torch.linalg.solve(square + DAMPING * torch.eye(len(square), device=square.device), gradient)


def _adalora(model: nn.Module) -> list[Any]:
    from peft import AdaLoraModel

    return [module for module in model.modules() if isinstance(module, AdaLoraModel)]


def _follow(optimizer: torch.optim.Optimizer, adalora: Any, total_steps: int) -> None:
    """Cut ranks after each update, along a schedule of `total_steps`; too few steps for one leave the ranks as they are."""
    start, end = int(CUT_FROM * total_steps), int((1 - CUT_UNTIL) * total_steps)
    if start >= total_steps - end:
        return
    config = adalora.peft_config[adalora.trainable_adapter_name]
    config.total_step, config.tinit, config.tfinal = total_steps, start, end
    steps = iter(range(1, total_steps + 1))
    optimizer.register_step_post_hook(lambda *_: adalora.update_and_allocate(next(steps)))


def penalty_of(model: nn.Module) -> Callable[[], Tensor | float]:
    """What is to be added to the loss of each step, after the forward pass; always 0 for most types.

    AdaLoRA       gamma times the mean of ||P^T P - I|| and ||Q Q^T - I|| over its factors      Zhang et al., ICLR 2023, equation 7
    KaSA          beta ||e||^2 + gamma (||B^T B - I|| + ||A A^T - I||) over its layers         Wang et al., ICLR 2025, equations 9 to 11
    MonteCLoRA    the mean over its layers of the distance of its distributions from their priors       Seth et al. 2024; as peft sums it,
                  which can fall below 0: logarithms of single gamma functions have the other sign there than in the distance
    """
    from peft.tuners.lora import LoraModel

    found: list[Callable[[], Tensor | float]] = [partial(_orthogonality, adalora) for adalora in _adalora(model)]
    for lora in (module for module in model.modules() if isinstance(module, LoraModel)):
        configs = [lora.peft_config[name] for name in lora.active_adapters]
        if any(config.kasa_config for config in configs):
            found.append(lora._get_kasa_loss)
        if any(config.monteclora_config for config in configs):
            found.append(lora._get_monteclora_loss)
    device = next(iter(model.parameters())).device.type

    def penalty() -> Tensor | float:
        with torch.autocast(device, enabled=False):
            return sum(part() for part in found)

    return penalty if found else lambda: 0.0


def _orthogonality(adalora: Any) -> Tensor:
    gamma = adalora.peft_config[adalora.trainable_adapter_name].orth_reg_weight
    factors = [p.T if "lora_B" in name else p for name, p in adalora.named_parameters() if "lora_A" in name or "lora_B" in name]
    norms = [torch.linalg.matrix_norm(f @ f.T - torch.eye(len(f), device=f.device)) for f in factors]
    return gamma * torch.stack(norms).mean()
