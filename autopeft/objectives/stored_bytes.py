"""Size on disk of what a user keeps: adapter and task head."""

from __future__ import annotations

from autopeft.objectives import Measured, Run, register


@register
class StoredBytes(Measured):
    name = "stored_bytes"
    direction = "minimize"
    unit = "bytes"

    def measure(self, run: Run) -> float | None:
        return None if run.stored_bytes is None else float(run.stored_bytes)
