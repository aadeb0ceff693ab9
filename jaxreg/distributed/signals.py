"""Ctrl-C and SIGTERM as requests: the first finishes and saves, the second stops at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

NOTICE = "finishing this chunk, saving; press again to stop at once"


class Interrupts(contextlib.AbstractContextManager):
    """Turns the first SIGINT or SIGTERM into `requested`, which a loop checks between chunks.

        with Interrupts(notify=print) as interrupts:
            while not done and not interrupts.requested:
                ...

    The second signal goes to the handler that was there before: KeyboardInterrupt for SIGINT, the
    end of the process for SIGTERM. Old handlers are back on leaving. A signal that was ignored
    (nohup) or belongs to C code (preemption under jax.distributed) keeps its handler. Outside the
    main thread, where Python allows no handlers, `requested` stays False.

    Args:
      notify: called once, with one line, when the first signal arrives.
    """

    def __init__(self, notify: Callable[[str], Any] | None = None):
        self._notify = notify
        self._old: dict[int, Any] = {}
        self.signal_name: str | None = None  # "SIGINT" or "SIGTERM", once requested

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal_name is not None

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                old = signal.getsignal(signum)
                if old not in (None, signal.SIG_IGN):
                    self._old[signum] = old
                    signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        self._restore()

    def _restore(self) -> None:
        while self._old:
            signum, old = self._old.popitem()
            signal.signal(signum, old)

    def _handle(self, signum: int, frame: Any) -> None:
        if self.requested:
            old = self._old[signum]
            self._restore()
            if callable(old):
                old(signum, frame)
            else:
                os.kill(os.getpid(), signum)
            return
        self.signal_name = signal.Signals(signum).name
        if self._notify is not None:
            # A handler may run inside a print; a failing notice must not prevent the checkpoint.
            with contextlib.suppress(Exception):
                self._notify(NOTICE)
