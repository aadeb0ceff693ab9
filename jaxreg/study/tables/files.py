"""Opens files of results by their ending or their first bytes."""

import dataclasses
import glob
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.errors import UserErrors, nearest, one_line
from jaxreg.study.analysis.runs import Runs
from jaxreg.study.tables import compressed, event_files, records
from jaxreg.study.tables.delimited import Delimited
from jaxreg.study.tables.parquet import Parquet
from jaxreg.study.tables.records import Columns
from jaxreg.study.tables.table import TableSource

STANDARD_INPUT = "-"
_ENCODING = "utf-8"  # its variant with a byte order mark is decoded in Python, slowly
_MARK = "\ufeff"
_TABLE_ENDINGS = {".csv": None, ".tsv": "\t", ".tab": "\t"}
_LINES_ENDINGS = (".jsonl", ".ndjson")
_PARQUET_ENDINGS = (".parquet", ".pq")
_BINARY = {
    b"PAR1": "",
    b"PK\x03\x04": "is a zip or Excel file; export it as CSV",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; unpack it first",
    b"\x80": "is a pickle, which is not opened; export it as CSV",
    b"SQLite format 3": "is a database; export its table as CSV or Parquet",
}
"""First bytes -> what is wrong with such a file."""


@dataclasses.dataclass(frozen=True)
class Finished:
    """A results.json of `jaxreg compare`: runs that need no columns, and what was asked of them."""

    name: str
    runs: Runs
    said: Mapping[str, Any]


def expanded(paths: Sequence[str]) -> list[str]:
    """The paths, with a pattern such as "runs/*/metrics.jsonl" replaced by the files it matches.

    Raises:
      UserErrors: a pattern matches no file.
    """
    found, mistakes = [], []
    for text in paths:
        path = Path(text).expanduser()
        if not glob.has_magic(text) or path.exists():
            found.append(text)
            continue
        matched = sorted(glob.glob(str(path), recursive=True))
        found += matched
        if not matched:
            mistakes.append(f"{text}: there is no such file, and no file matches it as a pattern")
    if mistakes:
        raise UserErrors(mistakes)
    return found


def open_file(text: str) -> TableSource | Finished:
    """What a file holds.

    Args:
      text: its path, or "-" for the standard input.

    Raises:
      UserErrors: it is not there, cannot be read, or its form is wrong.
    """
    if text == STANDARD_INPUT:
        return _of_stream(sys.stdin.buffer, "standard input")
    path = Path(text).expanduser()
    if path.is_dir() and (path / "results.json").is_file():
        path = path / "results.json"
    elif path.is_dir():
        raise UserErrors([f"{text}: is a directory; name files, such as {text}/*/metrics.jsonl"])
    try:
        with open(path, "rb") as file:
            first = file.read(64)
    except FileNotFoundError as error:
        here = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest(path.name, here)
        hint = close if "did you mean" in close else ""
        raise UserErrors([f"{text}: there is no such file{hint}"]) from error
    except OSError as error:
        raise UserErrors([f"{text}: cannot be read: {error.strerror}"]) from error
    if event_files.is_event_file(path.name):
        return event_files.read(path, text)
    ending = path.suffix.lower()
    if compressed.is_compressed(first):
        inner = path.with_suffix("") if ending in compressed.ENDINGS else path
        return _of_compressed(path, text, inner.suffix.lower(), first)
    wrong = next((why for start, why in _BINARY.items() if first.startswith(start)), "")
    if wrong:
        raise UserErrors([f"{text}: {wrong}"])
    if ending in _PARQUET_ENDINGS or first.startswith(b"PAR1"):
        return Parquet(path, text)
    if ending in _TABLE_ENDINGS:
        stream = open(path, encoding=_ENCODING, newline="")  # `load` reads it
        return Delimited(stream, text, _TABLE_ENDINGS[ending])
    return _of_stream(open(path, "rb"), text, ending)


def _of_compressed(path: Path, text: str, ending: str, first: bytes) -> TableSource | Finished:
    """What a compressed file of text holds. ending: that of the unpacked file's name."""
    binary = compressed.open_unpacked(path, first)
    try:
        start = binary.peek(512)
    except OSError as error:
        raise UserErrors([f"{text}: cannot be read: {error.strerror}"]) from error
    if start.startswith(b"PAR1") or ending == ".tar" or start[257:262] == b"ustar":
        raise UserErrors([f"{text}: is compressed and no text inside; unpack it first"])
    if ending in _TABLE_ENDINGS:
        stream = io.TextIOWrapper(binary, encoding=_ENCODING, newline="")
        return Delimited(stream, text, _TABLE_ENDINGS[ending])
    return _of_stream(binary, text, ending)


def _of_stream(binary: Any, name: str, ending: str = "") -> TableSource | Finished:
    """JSON where it begins as JSON does, else a table with delimiters."""
    if not hasattr(binary, "peek"):
        binary = io.BufferedReader(binary)
    start = binary.peek(64)[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    stream = io.TextIOWrapper(binary, encoding=_ENCODING, newline="")
    if ending in _LINES_ENDINGS or start[:1] in (b"{", b"[") or ending == ".json":
        return _of_json(stream, name, ending)
    return Delimited(stream, name)


def _of_json(stream: io.TextIOWrapper, name: str, ending: str) -> TableSource | Finished:
    """One JSON value, or one on each line."""
    try:
        text = stream.read().removeprefix(_MARK)
    except UnicodeDecodeError as error:
        raise UserErrors([f"{name}: is not UTF-8; save it as UTF-8"]) from error
    except OSError as error:
        raise UserErrors([f"{name}: cannot be read: {error.strerror}"]) from error
    if not text.strip():
        raise UserErrors([f"{name}: is empty"])
    if ending in _LINES_ENDINGS:
        return records.of_json_lines(text.splitlines(keepends=True), name)
    try:
        found = json.loads(text)
    except ValueError as error:
        first, _, rest = text.partition("\n")
        if ending != ".json" and rest.strip() and _is_json(first):
            return records.of_json_lines(text.splitlines(keepends=True), name)
        raise UserErrors([f"{name}: is not JSON: {one_line(error, 80)}"]) from error
    if isinstance(found, Mapping) and {"arms", "seeds", "comparisons"} <= found.keys():
        return finished(found, name)
    if isinstance(found, list):
        return records.of_records(found, name)
    if isinstance(found, Mapping) and all(isinstance(each, list) for each in found.values()):
        return Columns(found, name)
    if isinstance(found, Mapping):
        return records.of_records([found], name)
    raise UserErrors([f"{name}: holds no table: a list of objects, or an object of lists"])


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def finished(found: Mapping[str, Any], name: str) -> Finished:
    """The runs of a results.json, and its question; its positive controls are said to be known.

    Raises:
      UserErrors: it is damaged.
    """
    try:
        rows = found["controls"]
        aa = [arm for arm in found["arms"] if arm in rows and _is_aa(rows[arm])]
        known = tuple(arm for arm in found["arms"] if arm in rows and arm not in aa)
        scores = {
            arm: {view: _values(cell["per_seed"]) for view, cell in views.items()}
            for arm, views in found["arms"].items()
        }
        seeds = {arm: tuple(found["seeds"]) for arm in scores}
        judged = [row["split"] for row in found["comparisons"] if row["verdict"] is not None]
        said = {"baseline": found["baseline"], "margin": found["margin"], "alpha": found["alpha"]}
        said |= {"primary": judged[0]} if judged else {}
        said |= {"aa": aa[0]} if aa else {}
        said |= {"paired": True, "known": known}
        said |= {} if found.get("higher_is_better", True) else {"higher_is_better": False}
        wrong = [
            arm for arm, row in scores.items() for x in row.values() if len(x) != len(seeds[arm])
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserErrors([f"{name}: is a damaged results.json ({one_line(error, 60)})"]) from error
    if wrong:
        raise UserErrors([f"{name}: is a damaged results.json ({wrong[0]} has other seeds)"])
    lines = [f"{name}: results of jaxreg compare; seeds are paired"]
    lines += [f"controls, whose effect must be there: {', '.join(known)}"] if known else []
    return Finished(name, Runs(seeds, scores, tuple(lines)), said)


def _is_aa(control: Mapping[str, Any]) -> bool:
    return control.get("noise_floor") is not None


def _values(per_seed: Any) -> np.ndarray:
    return np.asarray([np.nan if value is None else value for value in per_seed], np.float64)
