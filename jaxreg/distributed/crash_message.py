"""The error line of a process that is killed, or aborted from C++, and cannot print one itself."""

import os
import subprocess
import sys

# The helper reads until every end of the pipe is closed, which the kernel does however the process
# ends.
_HELPER = """
import sys
text = sys.stdin.buffer.read().split(b"\\0")[-1]
if text:
    sys.stderr.buffer.write(b"\\njaxreg: " + text + b"\\n")
"""


class CrashMessage:
    """A helper process that prints a line on the terminal if this process ends without `close`.

    Args:
      text: the line; `set` changes it.
    """

    def __init__(self, text: str):
        # A session of its own, which Ctrl-C and the launcher's signals do not reach.
        self._helper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _HELPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.set(text)

    def set(self, text: str) -> None:
        """Changes the line; an empty one is not printed."""
        if self._helper is not None and self._helper.stdin is not None:
            try:
                os.write(self._helper.stdin.fileno(), b"\0" + text.encode())
            except OSError:  # the helper was ended: nothing will be printed
                self._helper = None

    def close(self) -> None:
        """Ends the helper; nothing will be printed."""
        if self._helper is not None:
            self.set("")
        if self._helper is not None and self._helper.stdin is not None:
            self._helper.stdin.close()
            self._helper.wait()
            self._helper = None
