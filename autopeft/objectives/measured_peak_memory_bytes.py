"""Peak memory that training steps on the reference batch really used (see `autopeft.meters`)."""

from __future__ import annotations

from autopeft.objectives import Measured, Run, register


@register
class MeasuredPeakMemoryBytes(Measured):
    name = "measured_peak_memory_bytes"
    direction = "minimize"
    unit = "bytes"

    def measure(self, run: Run) -> float | None:
        return float(run.measure_peak()) if run.measure_peak else None
