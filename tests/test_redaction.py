"""Nothing secret stays in what a study keeps."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from autopeft.redaction import Redacted, redacted

ENVIRON = {"HF_TOKEN": "abcd1234efgh", "TOKENIZERS_PARALLELISM": "false", "PGPASSWORD": "correct horse", "HOME": "/home/somebody"}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("GET https://hub/api?token=xyzxyz&a=1 failed", "GET https://hub/api?token=[redacted]&a=1 failed"),
        ("Authorization: Bearer abc.def-123456", "Authorization: Bearer [redacted]"),
        ("hf_AbCdEfGhIjKlMnOp is not allowed", "[redacted] is not allowed"),
        ("postgresql://me:pass@host/db", "postgresql://[redacted]@host/db"),
        ("token abcd1234efgh and correct horse", "token [redacted] and [redacted]"),
        ("false alarm in /home/somebody/half_a_model at 10:30", "false alarm in /home/somebody/half_a_model at 10:30"),
        ("https://huggingface.co/org/model", "https://huggingface.co/org/model"),
    ],
)
def test_secrets_are_taken_out_and_nothing_else(text: str, kept: str) -> None:
    assert redacted(text, ENVIRON) == kept


def test_what_libraries_log_is_redacted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    under = io.StringIO()
    monkeypatch.setattr(sys, "stderr", Redacted(under))
    handler = logging.StreamHandler()
    handler.emit(logging.LogRecord("x", logging.WARNING, "", 0, "cannot use %s", ("hf_AbCdEfGhIjKlMnOp",), None))
    print("and https://a:b@c", file=sys.stderr, flush=True)
    assert under.getvalue() == "cannot use [redacted]\nand https://[redacted]@c\n"
