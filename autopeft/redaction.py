"""Takes secrets out of texts that a study keeps: reasons of trials and what workers print.

Secrets are tokens by their form, passwords in addresses, and what environment variables with telling
names hold.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TextIO

TELLING = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL", re.IGNORECASE)
FORMS = re.compile(
    r"\b(?:hf_|sk-|ghp_|github_pat_)[A-Za-z0-9_-]{10,}"
    r"|(?<=bearer )[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
    r"|(?<=[?&](?:token)=)[^&\s]+|(?<=password=)[^&\s]+",
    re.IGNORECASE,
)
SHORTEST = 8
"""Characters that a variable must hold to count as a secret; `TOKENIZERS_PARALLELISM=false` is none."""
MARK = "[redacted]"


def redacted(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """`text` with `[redacted]` in place of secrets.

    >>> redacted("401 for https://me:pass@host with hf_abcdefghijkl", {})
    '401 for https://[redacted]@host with [redacted]'
    """
    for name, value in environ.items():
        if len(value) >= SHORTEST and TELLING.search(name):
            text = text.replace(value, MARK)
    return FORMS.sub(MARK, text)


class Redacted:
    """A text stream without the secrets of what is written to it, line by line as a log is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redacted(text))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)
