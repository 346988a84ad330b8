"""`autopeft doctor`: whether a search could start here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autopeft.cli import options
from autopeft.cli.console import Output, verb

Studies = Annotated[Path, typer.Option("--study", help="Folder that the study would be written to.")]


@verb
def doctor(
    out: Output,
    spec: options.Spec = None,
    model: options.Model = None,
    data: options.Data = None,
    task: options.Task = None,
    device: options.Device = None,
    study: Studies = Path("studies"),
) -> None:
    """Check that a search could start here.

    Versions, device, memory, disk and write access; with a SPEC, or --model and --data, these too.
    Exit code 2 where a check fails.
    """
    from autopeft.checks import Level, machine_checks, study_checks

    flags = {"--model": model, "--data": data, "--task": task, "--device": device}
    named = spec is not None or model is not None or data is not None
    found, folder = options.given_spec(spec, None, flags) if named else (None, Path())
    checks = list(machine_checks(study, found.device if found else device or "auto"))
    if found is not None:
        checks += study_checks(found, folder)
    failed = sum(check.level is Level.FAIL for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.level.value:<5} {check.name}: {check.detail}")
        if check.mend:
            lines.append(f"      mend: {check.mend}")
    lines.append(f"{failed} checks failed" if failed else "ready")
    out.result({"ready": not failed, "checks": [check.to_json() for check in checks]}, "\n".join(lines))
    if failed:
        raise typer.Exit(2)
