"""Errors a user can meet. Each knows the exit code of the command that meets it.

AutopeftError          2   usage, spec or data error; nothing was written
  SpecError            2   with file and line where known
  DataError            2
  ModelError           2   base model cannot be loaded or lacks what is asked of it
  NothingFits          3   refused before starting: no configuration is within the limits
  StudyLocked          4   another live process holds the study
  NoFeasibleTrial      1   the search ended without a trial that can be used
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AutopeftError(Exception):
    exit_code = 2


class SpecError(AutopeftError):
    pass


class DataError(AutopeftError):
    pass


class ModelError(AutopeftError):
    pass


class NothingFits(AutopeftError):
    exit_code = 3


class StudyLocked(AutopeftError):
    exit_code = 4


class NoFeasibleTrial(AutopeftError):
    exit_code = 1


MOST_NAMES = 20


def near(name: str, names: Iterable[str]) -> str:
    """The hint that ends an error about an unknown name: near names, or all that there are if few."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; there are {', '.join(known)}" if 0 < len(known) <= MOST_NAMES else ""
