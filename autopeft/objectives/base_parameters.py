"""Weights of the base model that the trained model keeps: fewer than all where a strategy prunes it."""

from __future__ import annotations

from autopeft.objectives import MemoryFunctions, Predicted, register
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.lasting import base_parameters
from autopeft_searchspace.shape import ModelShape


@register
class BaseParameters(Predicted):
    name = "base_parameters"
    direction = "minimize"
    unit = "parameters"

    def predict(self, configuration: Configuration, shape: ModelShape, memory: MemoryFunctions) -> float:
        return base_parameters(configuration, shape)
