"""`autopeft transfer`: try the front of an earlier study on other data or another model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autopeft.cli import options
from autopeft.cli.console import Output, verb
from autopeft.cli.search import Fresh, StudyFolder, run_search

Earlier = Annotated[Path, typer.Argument(metavar="EARLIER", help="Folder of the study whose front is tried.")]


@verb
def transfer(
    out: Output,
    earlier: Earlier,
    spec: options.Spec = None,
    study: StudyFolder = None,
    model: options.Model = None,
    data: options.Data = None,
    task: options.Task = None,
    name: options.Name = None,
    budget: options.Budget = None,
    device: options.Device = None,
    set_: options.Set = None,
    fresh: Fresh = False,
) -> None:
    """Try a found front elsewhere: baselines, then every configuration of it, and no search.

    Layers keep their relative depth, sizes and learning rate are rounded to the grid of the new model; the space is that of
    the earlier study, unless a SPEC file says another.
    """
    from autopeft.record import read

    space = read(earlier).spec.space  # an earlier study that is none is told before model and data are looked at
    if spec is None:
        set_ = [f"space={space.model_dump_json(exclude_defaults=True)}", *(set_ or ())]
    flags = {
        **{"--model": model, "--data": data, "--task": task, "--name": name, "--budget": budget, "--device": device},
        **{"--sampler": "transfer", "--warm-start": [str(earlier.resolve())]},
    }
    found, folder = options.given_spec(spec, set_, flags)
    run_search(out, found, folder, study or Path("studies", f"{found.name}-transfer"), fresh)
