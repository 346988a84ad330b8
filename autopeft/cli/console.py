"""What all commands share: --json, --quiet and -v, results on stdout, the rest on stderr, exit codes."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from autopeft.errors import AutopeftError

INTERRUPTED = 130
BUG = 70


@dataclass(frozen=True)
class Output:
    """json: results are one JSON document. quiet: nothing but results and errors."""

    json: bool = False
    quiet: bool = False

    def result(self, data: Any, text: str) -> None:
        """The command's result, for programs or for people."""
        self.text(json.dumps(data, indent=2, ensure_ascii=False) if self.json else printable(text))

    def text(self, text: str) -> None:
        """A result that is the same for programs and for people."""
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        if not self.quiet:
            sys.stderr.write(printable(text) + "\n")


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """Make `function(out, ...)` a command: its first parameter is filled from --json, --quiet and -v,
    errors become one block on stderr and an exit code."""

    @functools.wraps(function)
    def command(*, json_output: bool, quiet: bool, verbose: int, **given: Any) -> None:
        _set_up_logging(verbose, quiet)
        try:
            function(Output(json_output, quiet), **given)
        except typer.Exit:
            raise
        except AutopeftError as error:
            _fail(str(error), verbose)
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has seen enough
        except OSError as error:
            _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", verbose)
            raise typer.Exit(AutopeftError.exit_code) from None
        except KeyboardInterrupt:
            _fail("interrupted; the same command goes on where it stood", verbose)
            raise typer.Exit(INTERRUPTED) from None
        except Exception:
            traceback.print_exc()
            _fail("this is a bug in autopeft: please report it with the lines above", 0)
            raise typer.Exit(BUG) from None

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + _COMMON
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _common(
    *,
    json_output: Annotated[bool, typer.Option("--json", help="Results as one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results and errors.")] = False,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say more; -vv with tracebacks.")] = 0,
) -> None:
    """Holds the options that every command has."""


_COMMON = list(inspect.signature(_common, eval_str=True).parameters.values())


def _fail(text: str, verbose: int) -> None:
    if verbose >= 2:
        traceback.print_exc()
    first, *rest = printable(text).splitlines() or [""]
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    head = "\033[1;31merror:\033[0m" if colour else "error:"
    sys.stderr.write("\n".join([f"{head} {first}", *(f"       {line}" for line in rest)]) + "\n")


def _set_up_logging(verbose: int, quiet: bool) -> None:
    if not verbose:
        warnings.simplefilter("ignore")  # of libraries, for their programmers; ours go to the log
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # asks for a kernel that is not needed when peft imports it
    logger = logging.getLogger("autopeft")
    logger.setLevel(logging.DEBUG if verbose >= 2 else logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        logger.addHandler(handler)


def printable(text: str) -> str:
    """`text` with what could drive the terminal, such as escape sequences, written out."""
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns side by side; numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    right = [bool(rows) and all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(headings))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()

    return "\n".join([line(headings), line(["-" * width for width in widths]), *map(line, cells)])


def pairs(content: Mapping[str, object]) -> str:
    """`name  value` lines, values in one column."""
    width = max(map(len, content), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in content.items())
