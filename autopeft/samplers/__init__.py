"""Samplers: who proposes the next configuration. Ours is `ParetoSampler`; Optuna's go by name.

    ParetoSampler(distributions, ...)    ours, for any Optuna study or for one of our spaces
    make_sampler(name, space, seed=...)  ours or one of Optuna's, as an Optuna sampler
    initial_design(space, count, seed)   the first configurations, spread over types and sizes
    suggest.suggest(spec, space, ...)    the next configuration of a study: what the coordinator calls

Names are imported when they are first used, so that this package costs nothing to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autopeft.samplers.domain import SpaceExhausted
    from autopeft.samplers.initial import initial_design
    from autopeft.samplers.named import make_sampler
    from autopeft.samplers.pareto import ParetoSampler

__all__ = ["ParetoSampler", "SpaceExhausted", "initial_design", "make_sampler"]
_HOME = {"ParetoSampler": "pareto", "SpaceExhausted": "domain", "initial_design": "initial", "make_sampler": "named"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
