"""Rows of data files and of Hugging Face data sets, each with the place it stands in."""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autopeft import hub
from autopeft.errors import DataError, near

Row = Mapping[str, Any]

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
"""Names that a split may have in a folder or a data set, in order of preference."""


@dataclass(frozen=True)
class Table:
    """name: of the file or split, for messages. rows: column -> value. places: where each row stands,
    e.g. `line 3`."""

    name: str
    rows: tuple[Row, ...]
    places: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that some row has, in order of appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))


def read_table(path: Path) -> Table:
    """Rows of one JSON Lines, JSON, CSV, TSV or Parquet file, told apart by the ending of its name."""
    if not path.is_file():
        raise DataError(f"data file {path} does not exist{_near_file(path)}")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"data file must end in {', '.join(READERS)}, it is {path.name!r}")
    try:
        numbered = list(reader(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error.reason}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not numbered:
        raise DataError(f"{path} has no examples")
    return Table(str(path), tuple(row for _, row in numbered), tuple(place for place, _ in numbered))


def _near_file(path: Path) -> str:
    there = path.parent.iterdir() if path.parent.is_dir() else ()
    return near(path.name, [p.name for p in there if not p.name.startswith(".")])


def _json_lines(path: Path) -> Iterator[tuple[str, Row]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield f"line {number}", _object(line, f"{path} line {number}")


def _object(text: str, place: str) -> Row:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not JSON at column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise DataError(f"{place}: JSON that is nested too deeply") from None
    if not isinstance(row, dict):
        raise DataError(f"{place}: must be a JSON object, it is {text.strip()[:60]!r}")
    return row


def _json(path: Path) -> Iterator[tuple[str, Row]]:
    """A list of objects, or else JSON Lines."""
    text = path.read_text(encoding="utf-8-sig")
    if not text.lstrip().startswith("["):
        yield from _json_lines(path)
        return
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} line {error.lineno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise DataError(f"{path}: JSON that is nested too deeply") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f"{path} item {number}: must be a JSON object, it is {json.dumps(row)[:60]!r}")
        yield f"item {number}", row


def _delimited(delimiter: str, quoting: Any) -> Callable[[Path], Iterator[tuple[str, Row]]]:
    def read(path: Path) -> Iterator[tuple[str, Row]]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=quoting == csv.QUOTE_MINIMAL)
            header: list[str] | None = None
            try:
                for cells in reader:
                    if not cells:
                        continue
                    if header is None:
                        header = [name.strip() for name in cells]
                        if len(set(header)) < len(header):
                            raise DataError(f"{path} line {reader.line_num}: the header names a column twice: {', '.join(header)}")
                    elif len(cells) != len(header):
                        raise DataError(f"{path} line {reader.line_num}: {len(cells)} cells where the header has {len(header)}")
                    else:
                        yield f"line {reader.line_num}", dict(zip(header, cells, strict=True))
            except csv.Error as error:
                raise DataError(f"{path} line {reader.line_num}: {error}") from None

    return read


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from None
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row


READERS: dict[str, Callable[[Path], Iterator[tuple[str, Row]]]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _delimited(",", csv.QUOTE_MINIMAL),
    ".tsv": _delimited("\t", csv.QUOTE_NONE),
    ".parquet": _parquet,
}
"""File ending -> reader. TSV is read as GLUE writes it: quotes mean nothing."""


def find_splits(source: str, subset: str, folder: Path) -> dict[str, Table]:
    """Tables of a folder, of one file (all of it training data) or of a Hugging Face data set.

    Keys are those of `SPLIT_NAMES`; only splits that exist.
    """
    path = folder / Path(source).expanduser()
    if path.is_dir():
        return _folder_splits(path)
    if path.is_file() or path.suffix.lower() in READERS:
        return {"train": read_table(path)}
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", source):
        raise DataError(f"data.source {source!r} is neither a folder, nor a file, nor a Hugging Face id{_near_file(path)}")
    return _hub_splits(source, subset, path)


def _folder_splits(path: Path) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    for split, names in SPLIT_NAMES.items():
        found = [path / f"{name}{ending}" for name in names for ending in READERS if (path / f"{name}{ending}").is_file()]
        if len(found) > 1:
            raise DataError(f"{path} has more than one {split} file: {', '.join(p.name for p in found)}; keep one")
        if found:
            tables[split] = read_table(found[0])
    if "train" not in tables:
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:10]) or "nothing"
        raise DataError(f"{path} must have a file train{{{','.join(READERS)}}}; it has {inside}")
    return tables


def _hub_splits(source: str, subset: str, path: Path) -> dict[str, Table]:
    """Tables of a data set from the hub, or from the cache where the hub cannot be reached."""
    import datasets

    what = f"data set {source!r}{f' ({subset})' if subset else ''}"
    cached = Path(datasets.config.HF_DATASETS_CACHE) / source.replace("/", "___")
    if not cached.exists() and not hub.is_reachable():
        hint = _near_file(path) if difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")]) else ""
        raise DataError(f"{what}: there is no folder {path}{hint}; the Hugging Face hub cannot be reached")
    try:
        splits = datasets.load_dataset(source, subset or None)
    except (OSError, ValueError) as error:  # not found, unreachable, unknown subset
        raise DataError(f"{what} cannot be had from the Hugging Face hub: {' '.join(str(error).split())[:300]}") from None
    tables: dict[str, Table] = {}
    for split, names in SPLIT_NAMES.items():
        name = next((n for n in names if n in splits), None)
        if name is not None:
            rows = tuple(_with_label_names(splits[name]))
            tables[split] = Table(f"{source} {name}", rows, tuple(f"row {i}" for i in range(1, len(rows) + 1)))
    if "train" not in tables:
        raise DataError(f"data set {source!r} has no train split{near('train', splits)}")
    return tables


def _with_label_names(rows: Any) -> Iterator[Row]:
    """Rows of a `datasets.Dataset`, coded class labels replaced by their names (-1, unknown, by None)."""
    names = {column: feature.names for column, feature in rows.features.items() if hasattr(feature, "int2str")}
    for row in rows:
        yield {k: (names[k][v] if v is not None and v >= 0 else None) if k in names else v for k, v in row.items()}
