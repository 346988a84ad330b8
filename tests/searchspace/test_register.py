"""Registration with peft: in both orders of import, late, once, and without weight on `import autopeft`."""

from __future__ import annotations

import enum
import subprocess
import sys

from autopeft_searchspace.tuners.register import add_member


def in_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


REGISTERED = "AUTOPEFT_COMPOSITION CompositionConfig"
PRINT = "print(peft.PeftType.AUTOPEFT_COMPOSITION.value, peft.PEFT_TYPE_TO_CONFIG_MAPPING['AUTOPEFT_COMPOSITION'].__name__)"


def test_autopeft_before_peft_is_light_and_registers_once_peft_is_there() -> None:
    code = f"""
import sys, autopeft, autopeft
assert not [name for name in ("torch", "transformers", "peft", "numpy", "pandas", "optuna") if name in sys.modules]
def waiting(): return [finder for finder in sys.meta_path if type(finder).__name__ == "_AfterPeft"]
assert len(waiting()) == 1
from peft import PeftModel
import peft
assert not waiting()
assert peft.__spec__.loader.__class__.__name__ == "SourceFileLoader"
from autopeft_searchspace.tuners.register import register, register_with_peft
register(); register_with_peft()
assert not waiting()
assert list(peft.PeftType).count("AUTOPEFT_COMPOSITION") == 1
{PRINT}
"""
    assert in_new_process(code) == REGISTERED


def test_autopeft_after_peft_registers_at_once() -> None:
    assert in_new_process(f"import peft, autopeft; {PRINT}") == REGISTERED


def test_a_member_added_late_is_a_member() -> None:
    class Kind(str, enum.Enum):  # noqa: UP042 - as peft has it
        ONE = "ONE"

    for _ in range(2):
        add_member(Kind, "TWO")
    assert list(Kind) == [Kind.ONE, Kind.TWO]
    assert Kind("TWO") is Kind["TWO"] is Kind.TWO
    assert Kind.TWO == "TWO"
    assert Kind.TWO in Kind
    assert isinstance(Kind.TWO, Kind)
    assert repr(Kind.TWO) == "<Kind.TWO: 'TWO'>"
    assert {Kind.TWO: 1}["TWO"] == 1
