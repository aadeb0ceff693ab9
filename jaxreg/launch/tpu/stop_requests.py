"""Ctrl-C, SIGTERM and SIGHUP as stop requests.

The first saves and ends, the second ends at once, the third skips any deletion.
"""

import contextlib
import signal
import threading
from collections.abc import Callable
from typing import Any

SAVE, END_NOW, GIVE_UP = 1, 2, 3
_NOTICES = {
    SAVE: "stopping: the command may save first; again: stop at once",
    END_NOW: "stopping at once; again: leave the deletion to you",
    GIVE_UP: "leaving the deletion to you",
}


class LaunchInterrupted(Exception):
    """A request to stop, by a signal."""


class Stop(contextlib.AbstractContextManager):
    """Counts requests to stop; all slices of a launch share one.

    Args:
      notify: called with one line at each request.
    """

    def __init__(self, notify: Callable[[str], Any] = print):
        self.count = 0
        self._notify = notify
        self._event = threading.Event()
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)

    def request(self) -> None:
        """One more request."""
        self.count += 1
        self._event.set()

    def check(self) -> None:
        """Raises LaunchInterrupted if there was a request."""
        if self.count:
            raise LaunchInterrupted

    def wait(self, seconds: float) -> None:
        """Sleeps; raises LaunchInterrupted at the first request."""
        self._event.wait(seconds)
        self.check()

    def _handle(self, number: int, frame: Any) -> None:
        self.request()
        with contextlib.suppress(Exception):  # a handler may run inside a print
            self._notify(_NOTICES[min(self.count, GIVE_UP)])
