"""Who imports whom. An import that points upwards, or a heavy one in a light module, fails here.

`TYPE_CHECKING` blocks do not count: what is imported there never runs.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"autopeft": ROOT, "autopeft_searchspace": ROOT / "searchspace", "autopeft_kernels": ROOT / "kernels"}

ORDER = (
    *("errors", "files", "redaction", "statistics", "study_format"),
    *("spec", "trial", "budget", "marked_yaml", "spec_errors", "spec_file"),
    *("hub", "tables", "data", "first_look", "device", "batches", "updates", "training", "meters", "casts"),
    *("models", "tasks", "packing", "objectives", "layerwise", "applying", "adapter_files", "checks"),
    *("tracing", "memory", "baselines", "footprint", "plan", "spending"),
    *("front", "storage", "ledger", "layer_importance", "recorded", "tested", "train_result", "record", "view", "study_folder"),
    *("surrogate", "samplers", "promotion", "warm_start", "proposals", "ahead"),
    *("report", "export", "picks", "dashboard"),
    *("execute", "merged", "model_card"),
    *("coordinator", "estimate", "train", "api"),
    *("cli", "__main__"),
)
"""Modules and packages of autopeft from the bottom up: each may import what stands before it."""

COORDINATOR_SIDE = {"coordinator", "ahead", "study_folder", "record", "dashboard", "train"}
"""Who may open the ledger: the coordinator writes it, the others read."""

DRAWN = ("autopeft.cli.progress", "autopeft.cli.live")
"""What commands import where they draw."""

AT_ONCE = (
    *("errors", "files", "spec", "trial", "budget", "marked_yaml", "spec_errors", "spec_file"),
    *("tables", "data", "first_look", "checks", "cli"),
)
"""What must start at once: nothing of HEAVY when it is imported."""

WITHOUT_TORCH = ("statistics", "plan", "baselines", "front", "recorded", "record", "report", "picks", "dashboard")
"""What makes reports where no torch need be: nothing of TORCH when it is imported."""

TORCH = {"torch", "triton", "transformers", "peft", "botorch", "gpytorch", "datasets"}
HEAVY = TORCH | {"optuna", "pandas", "plotly", "sklearn", "scipy"}

LIGHT = {"numpy", "yaml"}
"""What the search space may import at the top, beside the standard library."""


@cache
def modules(package: str) -> dict[str, Path]:
    found = {}
    for path in (PACKAGES[package] / package).rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGES[package]).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path, *, inside_functions: bool) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of everything that a file imports; names of `from x import y` as `x.y`."""

    def walk(node: ast.AST) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, child.lineno) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert not child.level, f"{path}:{child.lineno}: imports are absolute here"
                yield from ((f"{child.module}.{alias.name}", child.lineno) for alias in child.names)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            elif inside_functions or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                yield from walk(child)

    yield from walk(ast.parse(path.read_text("utf-8")))


def unit(module: str) -> str:
    """`autopeft.report.html` -> `report`; the package itself is ``."""
    return module.split(".")[1] if "." in module else ""


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_every_module_has_a_place_in_the_order() -> None:
    units = {unit(name) for name in modules("autopeft")} - {""}
    assert units <= set(ORDER), f"give {sorted(units - set(ORDER))} a place in ORDER"
    assert len(set(ORDER)) == len(ORDER)


def test_arrows_inside_autopeft_point_down() -> None:
    place = {name: position for position, name in enumerate(ORDER)}
    upward = []
    for name, path in modules("autopeft").items():
        for imported, line in imports(path, inside_functions=True):
            own, other = unit(name), unit(imported)
            if not imported.startswith("autopeft.") or own in ("", other) or other not in place:
                continue
            if place[other] > place[own]:
                upward.append(f"{where(path, line)}: {own} imports {other}")
    assert not upward, "\n".join(upward)


def test_only_the_coordinator_side_opens_the_ledger() -> None:
    users = {
        unit(name)
        for name, path in modules("autopeft").items()
        for imported, _ in imports(path, inside_functions=True)
        if imported == "autopeft.ledger.Ledger"
    }
    assert users <= COORDINATOR_SIDE, sorted(users - COORDINATOR_SIDE)


@pytest.mark.parametrize("package", list(PACKAGES))
def test_no_package_imports_studies_reports_tests_or_the_command_line(package: str) -> None:
    for name, path in modules(package).items():
        for imported, line in imports(path, inside_functions=True):
            assert imported.split(".")[0] not in ("studies", "reports", "tests", "benchmarks"), where(path, line)
            assert not imported.startswith("autopeft.cli") or unit(name) in ("cli", "__main__"), where(path, line)


def test_kernels_import_torch_and_triton_only() -> None:
    allowed = {"torch", "triton", "autopeft_kernels"} | sys.stdlib_module_names
    for path in modules("autopeft_kernels").values():
        for imported, line in imports(path, inside_functions=True):
            assert imported.split(".")[0] in allowed, f"{where(path, line)}: {imported}"


def test_the_search_space_is_light_outside_building() -> None:
    light = LIGHT | {"autopeft_searchspace"} | sys.stdlib_module_names
    heavy = light | {"torch", "peft", "transformers", "safetensors", "autopeft_kernels"}
    for name, path in modules("autopeft_searchspace").items():
        builds = name.startswith(("autopeft_searchspace.tuners", "autopeft_searchspace.build"))
        for imported, line in imports(path, inside_functions=True):
            assert imported.split(".")[0] in heavy, f"{where(path, line)}: {imported}"
        for imported, line in imports(path, inside_functions=False):
            assert imported.split(".")[0] in (heavy if builds else light), f"{where(path, line)}: {imported} belongs inside a function"


@pytest.mark.parametrize(("name", "heavy"), [*((n, HEAVY) for n in AT_ONCE), *((n, TORCH) for n in WITHOUT_TORCH)])
def test_light_modules_import_nothing_heavy(name: str, heavy: set[str]) -> None:
    """Directly or through other modules of ours, when the module is imported."""
    every = {key: path for package in PACKAGES for key, path in modules(package).items()}
    todo = [key for key in every if key.startswith("autopeft.") and unit(key) == name and key not in DRAWN]
    assert todo, f"{name} is gone: take its name out of this test"
    seen: dict[str, str] = dict.fromkeys(todo, "")
    while todo:
        module = todo.pop()
        for imported, line in imports(every[module], inside_functions=False):
            place = f"{seen[module]}{where(every[module], line)}: {imported}"
            assert imported.split(".")[0] not in heavy, place
            for target in (imported, imported.rpartition(".")[0]):
                if target in every and target not in seen:
                    seen[target] = f"{place}\n"
                    todo.append(target)


def test_every_package_that_is_imported_is_declared() -> None:
    names = {"yaml": "PyYAML", "sklearn": "scikit-learn", "sqlalchemy": "SQLAlchemy"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *project["optional-dependencies"]["ray"]]
    declared = {re.split(r"[<>=\[]", text)[0].lower() for text in texts}
    lacking = set()
    for package in PACKAGES:
        for path in modules(package).values():
            for imported, line in imports(path, inside_functions=True):
                top = imported.split(".")[0]
                if top in PACKAGES or top in sys.stdlib_module_names or top == "triton":  # torch brings the triton that it needs
                    continue
                if names.get(top, top).lower().replace("_", "-") not in {d.replace("_", "-") for d in declared}:
                    lacking.add(f"{where(path, line)}: {top}")
    assert not lacking, "\n".join(sorted(lacking))
