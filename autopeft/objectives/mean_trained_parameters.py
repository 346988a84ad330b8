"""Weights that train in a step, on average over a run: fewer than all where a strategy draws or prunes layers."""

from __future__ import annotations

from autopeft.objectives import MemoryFunctions, Predicted, register
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.lasting import mean_trained_parameters
from autopeft_searchspace.shape import ModelShape


@register
class MeanTrainedParameters(Predicted):
    name = "mean_trained_parameters"
    direction = "minimize"
    unit = "parameters"

    def predict(self, configuration: Configuration, shape: ModelShape, memory: MemoryFunctions) -> float:
        return mean_trained_parameters(configuration, shape)
