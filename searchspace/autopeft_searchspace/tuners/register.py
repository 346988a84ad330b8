"""Makes the composition tuner known to peft, as soon as peft is imported and not before.

peft looks up tuner types in the enum `PeftType`, which it closes to others: a member is added here at
run time. That reaches into enum internals (CPython 3.11 to 3.14), hence one small file with its test.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def register() -> None:
    """Register the composition tuner with peft; imports peft. Again does nothing."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.utils import PeftType, register_peft_method

    name = "autopeft_composition"
    if name.upper() in PeftType.__members__ and PeftType[name.upper()] in PEFT_TYPE_TO_TUNER_MAPPING:
        return
    add_member(PeftType, name.upper())
    from autopeft_searchspace.tuners.composition import CompositionConfig, CompositionModel

    register_peft_method(name=name, config_cls=CompositionConfig, model_cls=CompositionModel, prefix=CompositionModel.prefix)


def add_member(enumeration: Any, name: str) -> None:
    """Add a member whose value is its name to a class of `(str, Enum)`. Again does nothing."""
    if name in enumeration.__members__:
        return
    member = str.__new__(enumeration, name)
    member._name_ = member._value_ = name
    member._sort_order_ = len(enumeration.__members__)
    member.__objclass__ = enumeration
    enumeration._member_names_.append(name)
    enumeration._member_map_[name] = member
    enumeration._value2member_map_[name] = member
    if hasattr(enumeration, "_hashable_values_"):  # from 3.13 on
        enumeration._hashable_values_.append(name)
    type.__setattr__(enumeration, name, member)


def register_with_peft() -> None:
    """Register now if peft is imported, else right after it will have been. Imports nothing heavy."""
    if hasattr(sys.modules.get("peft"), "PeftModel"):
        register()
    elif not any(isinstance(finder, _AfterPeft) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterPeft())


class _AfterPeft(MetaPathFinder):
    """Finds nothing itself; has `register` called once the module peft has been run."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "peft":
            return None
        sys.meta_path.remove(self)
        spec = find_spec("peft")
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_register(module: ModuleType) -> None:
                run(module)
                register()

            spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec
