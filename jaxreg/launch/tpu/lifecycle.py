"""One launch: create a TPU, set up, run, resume after preemptions, fetch results, always delete."""

import contextlib
import dataclasses
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from jaxreg.errors import BROKEN, DONE, INTERRUPTED, MISTAKE
from jaxreg.launch.tpu import child_process, gcloud
from jaxreg.launch.tpu.child_process import Follower, Log
from jaxreg.launch.tpu.gcloud import REMOTE, Request
from jaxreg.launch.tpu.machine import (
    ENDED,
    TRIES,
    LaunchOptions,
    Machine,
    MachineLost,
    RequestFailed,
)
from jaxreg.launch.tpu.stop_requests import END_NOW, SAVE, LaunchInterrupted, Stop

# Seconds between two attempts; a run that lasted longer was no quick failure.
_LONGEST_PAUSE = 300.0
_LOST_CONNECTIONS = 10


@dataclasses.dataclass(frozen=True)
class LaunchJob:
    """One TPU and the command that it runs.

    Attributes:
      request: the TPU.
      hosts: its number of workers.
      archive: the local file that `bundle` made.
      start: the workers' folder in which the command starts.
      workdir: the command's --workdir as typed; None without one.
      results: the local folder for fetched results.
      logs: the local folder for the command's output and gcloud's.
    """

    request: Request
    hosts: int
    archive: Path
    start: str
    workdir: str | None
    results: Path
    logs: Path

    @property
    def fetched(self) -> Path | None:
        """The local path of the fetched run directory."""
        return None if self.workdir is None else self.results / Path(self.workdir).name

    @property
    def in_bucket(self) -> bool:
        """Whether the run directory is in a bucket, and so outlives the TPU."""
        return self.workdir is not None and "://" in self.workdir


def fetch_command(job: LaunchJob) -> list[str] | None:
    """The command that fetches the run directory; None without one or if gcloud cannot reach it."""
    if job.workdir is None or (job.in_bucket and not job.workdir.startswith(("gs://", "s3://"))):
        return None
    if job.in_bucket:
        return gcloud.fetch_bucket(job.request, job.workdir, str(job.fetched))
    is_absolute = job.workdir.startswith(("/", "~"))
    remote = job.workdir if is_absolute else f"{REMOTE}/files/{job.start}/{job.workdir}"
    return gcloud.fetch(job.request, remote, str(job.results))


def missing() -> list[str]:
    """What is missing on this machine, one line each."""
    hint = "see https://cloud.google.com/sdk/docs/install; --dry_run works without it"
    return [] if shutil.which("gcloud") else [f"gcloud is not installed here: {hint}"]


class Launch:
    """One TPU and the command on it.

    Args:
      job: the TPU and its command.
      options: limits and intervals.
      stop: requests to stop.
      notify: called with each message of the launch.
      show: called with each line of worker 0. Both may raise, as on a closed terminal.
    """

    def __init__(
        self,
        job: LaunchJob,
        options: LaunchOptions,
        stop: Stop,
        notify: Callable[[str], None],
        show: Callable[[str], None],
    ):
        self.job, self.options, self.stop = job, options, stop
        self.notify, self.show = _safe(notify), _safe(show)
        self.log = Log(job.logs / "launch.log")
        self.machine = Machine(job.request, options, stop, self.notify, self.log)
        self._is_set_up = False
        self._followers: list[Follower] = []
        self._attempt = 0
        # Attempts of earlier launches, whose logs are kept.
        self._earlier = len(list(job.logs.glob("attempt-*")))

    def run(self) -> int:
        """Runs the whole launch and returns the exit code.

        Afterwards nothing runs unless requested, or the output says what runs and how to delete it.
        """
        code = BROKEN
        try:
            code = self._work()
        except LaunchInterrupted:
            code = self._interrupted()
        except RequestFailed as failed:
            code = failed.code
            self.notify(str(failed))
        finally:
            self._leave()
            removed = self.machine.remove()
        return code if removed else BROKEN

    def _work(self) -> int:
        self.machine.claim_name()
        quick = 0
        for attempt in range(1, self.options.attempts + 1):
            self._attempt = attempt
            started = time.monotonic()
            try:
                code, reason = self._try()
            except MachineLost as loss:
                code, reason = INTERRUPTED, str(loss)
                self._leave()
                self.machine.forget()
                self._is_set_up = False
            if code != INTERRUPTED:
                break
            quick = 0 if time.monotonic() - started > _LONGEST_PAUSE else quick + 1
            if self._attempt == self.options.attempts:
                self.notify(
                    f"{reason}; that was attempt {self._attempt} of {self.options.attempts}: given"
                    " up (--attempts=N); the same command goes on"
                )
                break
            pause = min(self.options.poll_seconds * 2 ** (quick - 1), _LONGEST_PAUSE)
            pause = pause if quick else 0.0
            self.notify(
                f"{reason}; attempt {self._attempt + 1} of {self.options.attempts} in {pause:.0f} s"
                " goes on from the last save"
            )
            self.stop.wait(pause)
        self._fetch(required=code == DONE)
        return code

    def _try(self) -> tuple[int, str]:
        """Makes one attempt; returns the exit code, and the reason for another attempt."""
        self.machine.get_ready()
        if not self._is_set_up:
            self._set_up()
            self._is_set_up = True
        codes = self._run()
        # A mistake (2) stays one. Where one process was asked to stop, the others may end with any
        # code; a killed one may mean that the machine was shut down.
        failed = [code for code in codes if code not in (DONE, INTERRUPTED)]
        own = MISTAKE if MISTAKE in failed else min(failed, default=DONE)
        if INTERRUPTED in codes and own != MISTAKE:
            if self.machine.is_ending():
                raise MachineLost(f"{self.job.request.name} was preempted; the command has saved")
            return INTERRUPTED, "the command was interrupted and has saved (exit code 75)"
        said = self._output(0)
        is_again = own == MISTAKE and self._attempt > 1
        if is_again and "is in use by" in said.read_text(encoding="utf-8", errors="replace"):
            # The lost machine's lease in the bucket has not expired yet.
            return INTERRUPTED, "the run directory still counts as the lost machine's"
        if own > 128 and self.machine.is_ending():
            raise MachineLost(f"{self.job.request.name} was preempted")
        if own:
            worker = codes.index(own)
            self.notify(
                f"the command failed on worker {worker} with exit code {own}; its output:"
                f" {self._output(worker)}"
            )
        return own, ""

    @property
    def _number(self) -> int:
        """The attempt's number over all launches."""
        return self._earlier + self._attempt

    def _output(self, worker: int) -> Path:
        return self.job.logs / f"attempt-{self._number}" / f"worker-{worker}.log"

    def _set_up(self) -> None:
        request, hosts = self.job.request, self.job.hosts
        workers = f"{hosts} worker{'s' * (hosts > 1)}"
        self.notify(f"installing on {workers}: a newer Python, jaxreg, your files")
        copying = gcloud.upload(request, str(self.job.archive))
        for words, what in ((copying, "copying files"), (gcloud.set_up(request), "installing")):
            for attempt in range(TRIES):
                answer = child_process.call(words, self.log, self.stop)
                if answer.code == 0:
                    break
                if (state := self.machine.state()) in ENDED:
                    raise MachineLost(f"{request.name} is gone (state {state})")
                if attempt == TRIES - 1:
                    raise RequestFailed(
                        f"{what} on {request.name} failed: {answer.reason}; all that was said:"
                        f" {self.log.path}"
                    )
                self.stop.wait(self.options.poll_seconds)

    # --- the command ---
    def _run(self) -> list[int]:
        """Runs the command on all workers, checking the TPU's state; returns each exit code."""
        hosts, shown = range(self.job.hosts), self._output(0)
        shown.parent.mkdir(parents=True, exist_ok=True)
        several = f" on all {self.job.hosts} workers" if self.job.hosts > 1 else ""
        self.notify(
            f"attempt {self._attempt}: running{several}; output:"
            f" {shown.with_name('worker-N.log') if several else shown}"
        )
        self._followers = [self._connect(worker) for worker in hosts]
        next_poll, failed_at, lost = time.monotonic() + self.options.poll_seconds, None, 0
        while any(each.running() or each.code is None for each in self._followers):
            self.stop.wait(0.05)
            now = time.monotonic()
            if now >= next_poll:
                self._refuse_ended()
                next_poll = time.monotonic() + self.options.poll_seconds
            for worker in hosts:
                if not self._followers[worker].running() and self._followers[worker].code is None:
                    lost += 1
                    self._reconnect(worker, lost)
            ended = [each.code for each in self._followers if not each.running()]
            if failed_at is None and any(ended):
                failed_at = now
            if failed_at is not None and now - failed_at > self.options.grace_seconds:
                return self._give_up_others()
        return [-1 if each.code is None else each.code for each in self._followers]

    def _connect(self, worker: int) -> Follower:
        words = gcloud.run(self.job.request, worker, self._number)
        return Follower(words, self.log, self._output(worker), self.show if worker == 0 else None)

    def _reconnect(self, worker: int, lost: int) -> None:
        self._refuse_ended()
        if lost > _LOST_CONNECTIONS:
            raise RequestFailed(
                f"worker {worker} of {self.job.request.name} cannot be reached; what gcloud says:"
                f" {self.log.path}"
            )
        what = "the connection was lost; the command goes on there; connecting again"
        self.notify(f"worker {worker}: {what}")
        self.stop.wait(self.options.poll_seconds)
        self._followers[worker] = self._connect(worker)

    def _refuse_ended(self) -> None:
        state = self.machine.state(queue_first=False)
        if state in ENDED:
            raise MachineLost(f"{self.job.request.name} was preempted (state {state})")

    def _give_up_others(self) -> list[int]:
        """Ends the workers that still run after another failed, and returns each exit code."""
        self.notify("one worker has failed and others do not end by themselves: they are ended")
        child_process.call(gcloud.stop(self.job.request, self._number), self.log, self.stop)
        self._leave()
        return [each.code or DONE for each in self._followers]

    def _leave(self) -> None:
        for follower in self._followers:
            follower.kill()

    def _interrupted(self) -> int:
        """Lets a running command save, fetches its results, and returns the exit code."""
        with contextlib.suppress(LaunchInterrupted):
            if self.stop.count == SAVE and any(each.running() for each in self._followers):
                self.notify("asking the command to save")
                child_process.call(
                    gcloud.stop(self.job.request, self._number),
                    self.log,
                    self.stop,
                    patience=END_NOW,
                )
                deadline = time.monotonic() + self.options.grace_seconds
                while (
                    any(each.running() for each in self._followers)
                    and time.monotonic() < deadline
                    and self.stop.count < END_NOW
                ):
                    time.sleep(0.05)
            if self.stop.count < END_NOW and self._followers:
                self._fetch(required=False)
        return INTERRUPTED

    # --- results ---
    def _fetch(self, *, required: bool) -> None:
        """Fetches the run directory, if there is one.

        Raises:
          RequestFailed: it is required and could not be fetched.
        """
        words = fetch_command(self.job)
        if words is None or not self._is_set_up:
            return
        folder = self.job.fetched if self.job.in_bucket else self.job.results
        assert folder is not None, "there is a command to fetch it"
        folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(TRIES if required else 1):
            answer = child_process.call(words, self.log, self.stop, patience=END_NOW)
            if answer.code == 0:
                source = f", from {self.job.workdir}" if self.job.in_bucket else ""
                self.notify(f"results: {self.job.fetched}{source}")
                return
            if attempt < TRIES - 1 and required:
                time.sleep(self.options.poll_seconds)
        if required:
            again = f"; to try again: {shlex.join(words)}" if self.job.in_bucket else ""
            raise RequestFailed(f"fetching the results failed: {answer.reason}{again}")


def _safe(notify: Callable[[str], None]) -> Callable[[str], None]:
    """`notify` without its errors: a TPU is deleted though the terminal has closed."""

    def safely(line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            notify(line)

    return safely
