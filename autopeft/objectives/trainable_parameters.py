"""Weights that the adapter trains, without the task head."""

from __future__ import annotations

from autopeft.objectives import MemoryFunctions, Predicted, register
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.rules import trainable_parameters
from autopeft_searchspace.shape import ModelShape


@register
class TrainableParameters(Predicted):
    name = "trainable_parameters"
    direction = "minimize"
    unit = "parameters"

    def predict(self, configuration: Configuration, shape: ModelShape, memory: MemoryFunctions) -> float:
        return float(trainable_parameters(configuration, shape))
