"""Peak memory of training under the study's reference recipe, from a trace (see `autopeft.memory`)."""

from __future__ import annotations

from autopeft.objectives import MemoryFunctions, Predicted, register
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.shape import ModelShape


@register
class PeakMemoryBytes(Predicted):
    name = "peak_memory_bytes"
    direction = "minimize"
    unit = "bytes"

    def predict(self, configuration: Configuration, shape: ModelShape, memory: MemoryFunctions) -> float:
        return float(memory.exact(configuration).peak)

    def rank(self, configuration: Configuration, shape: ModelShape, memory: MemoryFunctions) -> float:
        return memory.fast(configuration)
