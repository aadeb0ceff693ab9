"""A log of rows, one JSON object per line, that tolerates an unfinished last line."""

import json
import os
import time
from typing import Any, ClassVar

from jaxreg.distributed import processes
from jaxreg.store.atomic import to_json, write_bytes
from jaxreg.store.paths import as_path, is_remote


class MetricsLog:
    """A log of rows, one JSON object per line.

    A line counts once its newline is written: `read` skips an unfinished last line, `append`
    removes it first. In a job of several processes only the first one writes.

    Args:
      path: of the file; its folder exists. The first `append` or `rewrite` makes the file.
    """

    _WAITING: ClassVar[dict[str, tuple[list[dict], float]]] = {}
    """Remote log -> rows that wait for the next write, and the time of the last write."""

    def __init__(self, path: str | os.PathLike):
        self.path = as_path(path)

    def append(self, rows: list[dict]) -> None:
        """Appends rows durably.

        An object store cannot append and takes about one write per second of an object: there the
        whole log is written again, and rows that could be made again from the members may wait for
        the next row about the machine, or for two seconds.
        """
        if not rows or not processes.is_first():
            return
        if is_remote(self.path):
            waiting, last = self._WAITING.get(str(self.path), ([], 0.0))
            waiting = waiting + rows
            if any("machine" in row for row in rows) or not 0 <= time.monotonic() - last < 2:
                content = self.path.read_bytes() if self.path.exists() else b""
                write_bytes(self.path, content[: content.rfind(b"\n") + 1] + _lines(waiting))
                waiting, last = [], time.monotonic()
            self._WAITING[str(self.path)] = waiting, last
            return
        with open(self.path, "ab+") as file:
            end = file.tell()
            whole = _end_of_last_line(file)
            if whole < end:
                file.truncate(whole)
            file.write(_lines(rows))
            file.flush()
            os.fsync(file.fileno())

    def rewrite(self, rows: list[dict]) -> None:
        """Replaces the whole log atomically; on resume, by the rows up to the resumed step."""
        self._WAITING.pop(str(self.path), None)
        write_bytes(self.path, _lines(rows))

    def read(self) -> list[dict]:
        """All rows; none without a file. An unfinished or unreadable last line is skipped.

        Raises:
          ValueError: another line is no JSON object; names the file and the line.
        """
        if not self.path.exists():
            return []
        # What follows the last newline is an unfinished line.
        lines = self.path.read_bytes().split(b"\n")[:-1]
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("no object")
            except ValueError:
                if number == len(lines):
                    break
                raise ValueError(f"{self.path}, line {number}: not a JSON object") from None
            rows.append(row)
        return rows


def _lines(rows: list[dict]) -> bytes:
    return "".join(to_json(row) + "\n" for row in rows).encode()


def _end_of_last_line(file: Any) -> int:
    """The position after the last newline of an open binary file; 0 without one."""
    position = file.seek(0, os.SEEK_END)
    while position > 0:
        start = max(0, position - 4096)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0
