"""Predicted against measured peak memory of packs.

    python benchmarks/packing/memory.py SPEC [--members 2 4 8] [--precision fp32 bf16] [--device cuda]

SPEC: a study; its model, data and recipe are used. Packs of LoRA r=8 on q,v alone, from whose peak the packed executor finds how many
trials fit, and packs of unlike configurations drawn from the study's space. predicted_bytes: `pack_room.Room`,
by which the packed executor decides. sum_bytes: the base model once, and what each member adds to it alone, by tracing.
measured_bytes: the peak of two steps of all on the longest training examples (`meters.measure_peak`).
Writes ../results/pack-memory-<device>.csv, each row once it is measured.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plain import drawn
from rows import add, write

from autopeft.baselines import REFERENCE, baselines
from autopeft.casts import Casts
from autopeft.device import find_device
from autopeft.execute.pack_room import Room
from autopeft.execute.workbench import Workbench
from autopeft.memory import MemoryPredictor
from autopeft.meters import measure_peak, storage_bytes
from autopeft.packing.pack import Pack
from autopeft.packing.views import view_of
from autopeft.spec import StudySpec
from autopeft.spec_file import read_spec
from autopeft_searchspace.build import adapt, changed_paths
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.settings import build_space

STEPS = 2


def measured(bench: Workbench, configurations: Sequence[Configuration]) -> int:
    """Bytes at the peak of a pack's steps, weights of the base model included."""
    pack = Pack(bench.model, bench.shape, bench.task, bench.device, casts=Casts(bench.device.type))
    resident = [*bench.model.parameters(), *bench.model.buffers()]
    for number, configuration in enumerate(configurations):
        model = view_of(bench.model, changed_paths(configuration, bench.shape))
        model.backbone = adapt(model.backbone, configuration, bench.shape, task_type=model.task_type).to(bench.device)
        model.open_head()
        pack.join(number, model, bench.recipe(STEPS), configuration)
        # What trains moves into the pack's buffers at the first step. A GPU's meter sees that its first place is freed, the CPU's does not.
        resident += [parameter for parameter in model.parameters() if bench.device.type == "cuda" or not parameter.requires_grad]
    batch = bench.batch(bench.longest_batch())
    gc.collect()  # earlier packs
    return measure_peak(lambda: pack.step(dict.fromkeys(range(len(configurations)), batch)), bench.device, resident)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spec", type=Path)
    parser.add_argument("--members", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--device", choices=["cpu", "cuda"], help="by default the study's")
    given = parser.parse_args()
    spec, folder = read_spec(given.spec, environ={})
    device, rows = find_device(given.device or spec.device), list[dict[str, Any]]()
    for precision in given.precision:
        wanted = StudySpec.model_validate({**spec.model_dump(mode="json"), "precision": precision})
        bench = Workbench(wanted, folder, str(device))
        space = build_space(spec.space.preset, bench.shape, spec.space.change)
        if device.type == "cuda":  # takes the workspaces of matrix products, which stay
            measured(bench, [dict(baselines(bench.shape, 0))[REFERENCE]])
        held, room = storage_bytes([*bench.model.parameters(), *bench.model.buffers()]), Room(bench)
        with tempfile.TemporaryDirectory() as cache:
            memory = MemoryPredictor(wanted, space, bench.recipe(STEPS), bench.splits.labels, Path(cache), folder)
            for members in given.members:
                packs = {"alike": [dict(baselines(bench.shape, 0))[REFERENCE]] * members, "unlike": drawn(space, members)}
                for name, configurations in packs.items():
                    predicted, found = room.predicted_bytes(configurations), measured(bench, configurations)
                    row = {"precision": precision, "trials": name, "members": members, "base_bytes": held}
                    row |= {"sum_bytes": held + sum(memory.exact(configuration).peak - held for configuration in configurations)}
                    rows.append({**row, "predicted_bytes": predicted, "measured_bytes": found, "error": predicted / found - 1})
                    (add if len(rows) > 1 else write)("pack-memory", rows[-1:], device)


if __name__ == "__main__":
    main()
