"""A lease on a run directory in an object store, which has no lock that a dying process releases.

The owner writes a lease, an object with its identity, the time of its last refresh, and the length
of the lease; a thread refreshes it. A second process is refused while the lease is refreshed. It
takes a lease over when the owner's process is dead on this machine, or when the lease has expired
and is not refreshed while the second process watches: clocks of two machines need not agree.

Two that take over at the same moment: each writes, waits, and reads back whose it is; the other is
refused. An owner who was cut off so long that another took over finds out by reading before its
next write, and writes nothing more. On a store with conditional writes (S3, GCS) the store itself
decides who gets the first lease of a directory. What remains is an owner that stops for a whole
lease inside one write; its write may then come after the other's first.
"""

import datetime
import hashlib
import json
import os
import pathlib
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxreg.store.remote_path import RemotePath

SECONDS = 45.0
"""How long a lease holds without a refresh."""

_HELD: list["Lease"] = []


class RunDirectoryInUse(RuntimeError):
    """Another process works in this run directory."""


class Lease:
    """A lease on a remote run directory.

    Args:
      path: of the object.
      seconds: how long it holds unrefreshed; it is refreshed four times in that time.
      settle: seconds between writing over a stale lease and reading back whose it is; more than a
        write takes.
    """

    def __init__(
        self, path: "RemotePath", *, seconds: float | int = SECONDS, settle: float | int = 1.0
    ):
        self.path, self.seconds, self.settle = path, seconds, settle
        self._own = signature() | {"seconds": seconds, "token": secrets.token_hex(8)}
        self._refreshed_at = 0.0
        self._lost: dict[str, Any] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> str | None:
        """Makes this process the owner; returns a note where it took over from another.

        Raises:
          RunDirectoryInUse: it has another owner; one line.
          OSError: the store cannot be read or written.
        """
        note, acquired = None, False
        while not acquired:
            found = read(self.path)
            if found is None:
                # False: another process was first; the next reading shows which.
                note, acquired = None, self._write(self.path.create)
                continue
            note = self._stale_reason(found)
            if note is None:
                raise self._in_use(found)
            if read(self.path) == found:  # nobody else has taken it over meanwhile
                self._write(self.path.write_bytes)
                time.sleep(self.settle)
                acquired = (read(self.path) or {}).get("token") == self._own["token"]
        _HELD.append(self)
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return note

    def release(self, *, ask: bool = True) -> None:
        """Releases the lease. Without `ask` it contacts no store: the lease expires by itself."""
        self._stop.set()
        if self._thread is None:
            return
        _HELD.remove(self)
        thread, self._thread = self._thread, None
        if not ask:
            return
        thread.join()
        try:
            found = read(self.path)
            if found is not None and found.get("token") == self._own["token"]:
                self.path.unlink(missing_ok=True)
        except OSError:  # it expires by itself
            pass

    def check(self) -> None:
        """Does nothing for the owner; reads the store if no refresh succeeded for a whole lease.

        Raises:
          RunDirectoryInUse: another took over meanwhile.
        """
        if self._lost is None and time.time() - self._refreshed_at > self.seconds:
            self._refresh()
        if self._lost is not None:
            raise RunDirectoryInUse(
                f"{self.path.parent} was taken over by {describe(self._lost)} while this process"
                " was out of touch: nothing more is written here"
            )

    def covers(self, path: Any) -> bool:
        """Whether a path is in the directory of this lease."""
        return f"{path}/".startswith(f"{self.path.parent}/")

    def _write(self, put: Callable[[bytes], Any]) -> Any:
        now = time.time()
        done = put(json.dumps(self._own | {"time": round(now, 3)}).encode())
        self._refreshed_at = now
        return done

    def _stale_reason(self, found: dict[str, Any]) -> str | None:
        """Why a lease that was found may be taken over, None where its owner is alive."""
        owner = describe(found)
        if is_dead(found):
            return f"took over {self.path.parent} from {owner}, which is dead"
        seconds = _number(found.get("seconds"), self.seconds)
        age = time.time() - _number(found.get("time"), 0.0)
        if age <= seconds:
            return None
        deadline = time.monotonic() + seconds / 2  # two refreshes
        while time.monotonic() < deadline:
            time.sleep(seconds / 16)
            if read(self.path) != found:
                return None
        silence = f"was not heard for {age:,.0f} s" if found else "says nothing readable"
        return f"took over {self.path.parent} from {owner}, which {silence}"

    def _in_use(self, found: dict[str, Any]) -> RunDirectoryInUse:
        seconds = _number(found.get("seconds"), self.seconds)
        left = _number(found.get("time"), 0.0) + seconds - time.time()
        soon = 0 < left <= 10 * self.seconds
        hint = f" (if it is dead, its lease runs out in {left:.0f} s)" if soon else ""
        return RunDirectoryInUse(
            f"{self.path.parent} is in use by {describe(found)}; wait for it or choose another"
            f" directory{hint}"
        )

    def _keep(self) -> None:
        # Without conditional writes a store may have accepted two owners, so check again soon.
        wait = self.settle
        while not self._stop.wait(wait) and self._lost is None:
            wait = self.seconds / 4
            try:
                self._refresh()
            # The store is unreachable for now; `check` reads it before the next write.
            except OSError:
                continue

    def _refresh(self) -> None:
        found = read(self.path)
        if found is not None and found.get("token") != self._own["token"]:
            self._lost = found
        else:
            self._write(self.path.write_bytes)


def guard(path: Any) -> None:
    """Called before every write: refuses where the lease on the directory is lost.

    Raises:
      RunDirectoryInUse: another process took the directory over.
    """
    for lease in _HELD:
        if lease.covers(path):
            lease.check()


def read(path: pathlib.Path) -> dict[str, Any] | None:
    """The content of a lease; None without one, {} if it cannot be read."""
    try:
        found = json.loads(path.read_bytes())
        return found if isinstance(found, dict) else {}
    except FileNotFoundError:
        return None
    except ValueError:
        return {}


def signature() -> dict[str, Any]:
    """The identity of this process: pid, host, machine, start."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "machine": _machine(), "start": now}


def describe(found: dict[str, Any]) -> str:
    """The holder of a lock or a lease, for messages."""
    try:
        return f"process {found['pid']} on {found['host']} since {found['start']}"
    except (KeyError, TypeError):
        return "another process"


def is_dead(found: dict[str, Any]) -> bool:
    """Whether a holder was a process of this machine and container, now dead; False if unknown."""
    pid = found.get("pid")
    machine = found.get("machine")
    if not isinstance(pid, int) or machine is None or machine != _machine():
        return False
    try:
        line = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        state = line.rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return not pathlib.Path(f"/proc/{pid}").exists()
    return state in "ZX"


def _machine() -> str | None:
    """This machine's boot id and process namespace; None if the system does not report them."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        identity = f"{boot} {os.readlink('/proc/self/ns/pid')}"
        return hashlib.sha256(identity.encode()).hexdigest()[:16]
    except OSError:
        return None


def _number(value: Any, otherwise: float | int) -> float | int:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
