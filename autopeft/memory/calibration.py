"""What measured peaks say about predicted ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

FEWEST_FOR_SLOPE = 8


@dataclass(frozen=True)
class Calibration:
    """measured = offset + scale * predicted, in bytes, for one device and base model.

    pairs: how many it was learnt from. median_error: what is left, in bytes.
    """

    scale: float = 1.0
    offset: float = 0.0
    pairs: int = 0
    median_error: float = 0.0

    def apply(self, predicted: float) -> float:
        return self.offset + self.scale * predicted


def calibrate(pairs: Sequence[tuple[float, float]]) -> Calibration:
    """Learnt from (predicted, measured) bytes, robust against single odd measurements.

    The slope is the median over all pairs of points (Theil 1950, Sen 1968), 1 below eight pairs or
    where predictions hardly differ; the offset is the median of what remains. The offset holds what a
    device always adds, such as cuBLAS workspaces.
    """
    if not pairs:
        return Calibration()
    scale = 1.0
    spread = max(p for p, _ in pairs) - min(p for p, _ in pairs)
    if len(pairs) >= FEWEST_FOR_SLOPE:
        slopes = [(m2 - m1) / (p2 - p1) for (p1, m1), (p2, m2) in combinations(pairs, 2) if abs(p2 - p1) > 0.01 * spread]
        scale = median(slopes) if slopes else 1.0
    offset = median(m - scale * p for p, m in pairs)
    return Calibration(scale, offset, len(pairs), median(abs(m - offset - scale * p) for p, m in pairs))
