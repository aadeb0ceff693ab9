"""One TPU in Cloud TPU: its name claimed, created, awaited, its state asked, verified deletion."""

import dataclasses
import json
import shlex
import time
from collections.abc import Callable

from jaxreg.errors import BROKEN, INTERRUPTED, MISTAKE
from jaxreg.launch.tpu import child_process, gcloud
from jaxreg.launch.tpu.child_process import Answer, Child, Log
from jaxreg.launch.tpu.gcloud import Request
from jaxreg.launch.tpu.stop_requests import GIVE_UP, LaunchInterrupted, Stop

ENDED = frozenset(
    "GONE PREEMPTED TERMINATED STOPPED STOPPING DELETING HIDDEN HIDING SUSPENDED SUSPENDING"
    " FAILED".split()
)
"""States from which a TPU does not recover by itself."""

TRIES = 3
"""Attempts at what may fail temporarily, and queries of a state that may be out of date."""
_TRIES_WHILE_CREATING = 60
_NO_ROOM = (
    "no more capacity",
    "stockout",
    "resource_exhausted",
    "currently unavailable",
    "code 8",
    "code: 8",
    "insufficient capacity",
)


class MachineLost(Exception):
    """The TPU does not exist, or no longer; another attempt may help."""


class RequestFailed(Exception):
    """The launch cannot go on; one line of reason, and the exit code."""

    def __init__(self, reason: str, code: int = BROKEN):
        super().__init__(reason)
        self.code = code


@dataclasses.dataclass(frozen=True)
class LaunchOptions:
    """The options of a launch.

    Attributes:
      attempts: runs of the command at most.
      poll_seconds: between two queries of the state.
      keep: do not delete the TPU in the end.
      reuse: the TPU may exist already.
      grace_seconds: for the other workers after one has failed, and for saving after a Ctrl-C.
    """

    attempts: int = 10
    poll_seconds: float = 10.0
    keep: bool = False
    reuse: bool = False
    grace_seconds: float = 120.0


class Machine:
    """One TPU, from its name to its deletion.

    Args:
      request: what to create.
      options: limits and intervals.
      stop: requests to stop.
      notify: called with one line at a time.
      log: records every command.
    """

    def __init__(
        self,
        request: Request,
        options: LaunchOptions,
        stop: Stop,
        notify: Callable[[str], None],
        log: Log,
    ):
        self.request, self.options, self.stop = request, options, stop
        self.notify, self.log = notify, log
        self._ours = False  # whether this launch may have created something to delete
        self._creation: Child | None = None
        self._last = Answer(0, "", "")

    def claim_name(self) -> None:
        """Refuses to touch a TPU that this launch did not make, unless asked to.

        Raises:
          RequestFailed: it exists, or its state is unknown.
        """
        state, name = self.state(), self.request.name
        # A TPU of that name may exist without a queued request.
        if state == "GONE" and self.request.queued:
            state = self.state(queue_first=False)
        if state == "UNKNOWN":
            what = f"gcloud cannot say whether {name} exists: {self._last.reason}"
            raise RequestFailed(what, MISTAKE)
        if state != "GONE" and not self.options.reuse:
            raise RequestFailed(
                f"{name} exists already in {self.request.zone} (state {state}): --reuse uses it and"
                " deletes it in the end, another NAME makes another; to delete it:"
                f" {shlex.join(gcloud.delete(self.request))}",
                MISTAKE,
            )
        self._ours = state != "GONE"
        if self._ours and state in ENDED:
            self.forget()

    def state(self, *, queue_first: bool = True) -> str:
        """The state of the queued request, once ACTIVE of the TPU; GONE, or UNKNOWN on errors."""
        if self.request.queued and queue_first:
            state = self._ask(gcloud.describe_queued(self.request))
            if state != "ACTIVE":
                return state
        return self._ask(gcloud.describe(self.request))

    def is_ending(self) -> bool:
        """Whether it is going away, asked a few times: READY may be reported a little too long."""
        for attempt in range(TRIES):
            if self.state() in ENDED:
                return True
            if attempt < TRIES - 1:
                self.stop.wait(self.options.poll_seconds)
        return False

    def get_ready(self) -> None:
        """Creates it if it does not exist, and waits until it is ready, reporting its state.

        Raises:
          MachineLost: no capacity now, or it failed to start.
          RequestFailed: it was refused.
          LaunchInterrupted: a request to stop.
        """
        reporter = _StateReporter(self.notify)
        if not self._ours:
            self._create(reporter)
        while (state := self.state()) != "READY":
            reporter.state(state)
            if state == "FAILED" and self.request.valid_until:
                raise RequestFailed(
                    f"the request of {self.request.name} was not served within"
                    f" --valid_until={self.request.valid_until}",
                    INTERRUPTED,
                )
            if state in ENDED:
                raise MachineLost(f"{self.request.name} did not come up (state {state})")
            self.stop.wait(self.options.poll_seconds)
        reporter.state(state)

    def _create(self, reporter: "_StateReporter") -> None:
        request, wait = self.request, self.options.poll_seconds
        kind = " ".join(["queued"] * request.queued + ["spot"] * request.spot) or "on demand"
        self.notify(
            f"creating {request.name}: {request.accelerator_type}, {kind}, in {request.zone}; costs"
            " money until this launch deletes it"
        )
        self._ours = True
        self._creation = Child(gcloud.create(request), self.log)
        next_poll = time.monotonic() + wait
        while self._creation.running():
            self.stop.wait(0.05)
            if time.monotonic() >= next_poll:
                reporter.state(self.state())
                next_poll = time.monotonic() + wait
        answer, self._creation = self._creation.answer(), None
        if answer.code == 0:
            return
        text = answer.err.lower()
        if "already_exists" in text or "already exists" in text:
            self._ours = False  # another's: it did not exist before
        elif any(word in text for word in _NO_ROOM) and "quota" not in text:
            raise MachineLost(f"no room for it now ({answer.reason})")
        raise RequestFailed(f"creating {request.name} was refused: {answer.reason}", MISTAKE)

    def forget(self) -> None:
        """Deletes what is left of it, so that it can be created again.

        Raises:
          RequestFailed: it could not be deleted.
        """
        if self._ours and not self._delete():
            raise RequestFailed(f"what is left of {self.request.name} could not be deleted")
        self._ours = False

    def remove(self) -> bool:
        """Deletes it unless it is kept; False if that failed, after printing the command."""
        if not self._ours:
            return True
        name, line = self.request.name, shlex.join(gcloud.delete(self.request))
        if self.options.keep and self._is_there():
            until = "costs money until you delete it"
            self.notify(f"{name} is kept, as --keep asks, and {until}: {line}")
            return True
        self.notify(f"deleting {name}")
        if self._delete():
            self.notify(f"{name} is deleted; nothing of it is left running")
            return True
        self.notify(
            f"{name} COULD NOT BE DELETED ({self._last.reason}) and may cost money; run this:"
            f" {line}"
        )
        return False

    def _is_there(self) -> bool:
        try:
            return self.state() != "GONE"
        except LaunchInterrupted:
            return True

    def _delete(self) -> bool:
        for attempt in range(1, _TRIES_WHILE_CREATING + 1):
            # A creation still in progress could make it after the deletion: delete again after
            # that has ended.
            under_way = self._creation is not None and self._creation.running()
            try:
                words = gcloud.delete(self.request)
                self._last = child_process.call(words, self.log, self.stop, patience=GIVE_UP)
            except LaunchInterrupted:
                return False
            deleted = self._last.code == 0 or _not_found(self._last.err)
            if deleted and not under_way:
                return True
            if attempt >= TRIES and not under_way:
                return False
            time.sleep(self.options.poll_seconds)
        if self._creation is not None:
            self._creation.kill()
        return False

    def _ask(self, words: list[str]) -> str:
        patience = self.stop.count + 1
        self._last = answer = child_process.call(words, self.log, self.stop, patience=patience)
        if answer.code:
            return "GONE" if _not_found(answer.err) else "UNKNOWN"
        try:
            found = json.loads(answer.out)["state"]
            return found["state"] if isinstance(found, dict) else found
        except (ValueError, KeyError, TypeError):
            return "UNKNOWN"


class _StateReporter:
    """Prints a state when it changes, and once a minute."""

    def __init__(self, notify: Callable[[str], None]):
        self._notify, self._state = notify, None
        self._started, self._reported_at = time.monotonic(), 0.0

    def state(self, state: str) -> None:
        """Takes the current state."""
        now = time.monotonic()
        if state != self._state or now - self._reported_at > 60:
            self._state, self._reported_at = state, now
            minutes, seconds = divmod(int(now - self._started), 60)
            after = f" ({minutes}:{seconds:02d})" if minutes or seconds else ""
            self._notify(f"state: {state}{after}")


def _not_found(text: str) -> bool:
    return "NOT_FOUND" in text or "not found" in text.lower()
