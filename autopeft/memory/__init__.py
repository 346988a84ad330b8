"""Predicted peak memory of training, without weights and without the device.

    predictor = MemoryPredictor(spec, space, recipe, labels, cache=study)
    predictor.exact(configuration)   MemoryEstimate of a traced step; what a trial records
    predictor.fast(configuration)    bytes within about one per cent, in under a millisecond; what the sampler ranks by
    predictor.full()                 MemoryEstimate of full fine-tuning
    predictor.pack(configurations, base_bytes)    bytes of trials that train side by side in one model

The objective `peak_memory_bytes` of a trial is the exact trace: it is a function of configuration and
recipe alone, equals the measured peak on the CPU, and does not move when the fast model is fitted
anew. The fast model is a known function for search only, since a trace takes about a second and a
sampler looks at thousands of candidates. Measured peaks never replace predictions; they make a
`Calibration` for the device and base model at hand.
"""

from autopeft.memory.calibration import Calibration, calibrate
from autopeft.memory.model import MemoryModel
from autopeft.memory.predictor import MemoryPredictor
from autopeft.tracing import MemoryEstimate

__all__ = ["Calibration", "MemoryEstimate", "MemoryModel", "MemoryPredictor", "calibrate"]
