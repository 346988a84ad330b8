"""Find the parameter-efficient configuration to train, for your model, data and budget."""

import importlib
from typing import Any

from autopeft_searchspace.tuners.register import register_with_peft

__version__ = "0.1.0"

_LAZY = {"apply": "autopeft.applying", "save": "autopeft_searchspace.build", "search": "autopeft.api", "load": "autopeft.api"}
"""Public name -> module that defines it, imported on first use, so that `import autopeft` stays light."""

register_with_peft()


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
