"""Several launches at once, one thread each, with common stop requests; and their dry run."""

import shlex
import threading
from collections.abc import Sequence
from functools import partial

from jaxreg.errors import BROKEN, DONE
from jaxreg.launch.tpu import gcloud
from jaxreg.launch.tpu.lifecycle import Launch, LaunchJob, fetch_command
from jaxreg.launch.tpu.machine import LaunchOptions
from jaxreg.launch.tpu.stop_requests import Stop


def launch(jobs: Sequence[LaunchJob], options: LaunchOptions) -> int:
    """Runs all jobs; returns 0 if all are done, else BROKEN or the first failed job's exit code."""
    codes: list[int] = [BROKEN] * len(jobs)
    failures: list[BaseException] = []
    several = len(jobs) > 1

    def one(index: int, job: LaunchJob) -> None:
        name = job.request.name
        try:
            codes[index] = Launch(
                job,
                options,
                stop,
                notify=lambda line: _print(f"{name}: {line}"),
                show=lambda line: _print(f"{name} | {line}" if several else line),
            ).run()
        except BaseException as failure:  # raised again in the main thread
            failures.append(failure)

    with Stop(_print) as stop:
        each = partial(threading.Thread, target=one)
        threads = [each(args=(index, job)) for index, job in enumerate(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # a join without timeout would block signal handlers
                thread.join(0.1)
    if failures:
        raise failures[0]
    return BROKEN if BROKEN in codes else next((code for code in codes if code != DONE), DONE)


def dry_run(jobs: Sequence[LaunchJob], options: LaunchOptions) -> list[str]:
    """The gcloud commands of the jobs when nothing fails, in order, each with its purpose."""
    lines = []
    for job in jobs:
        request = job.request
        waits = [("until it is ACTIVE", gcloud.describe_queued(request))] * request.queued
        describe = gcloud.describe_queued if request.queued else gcloud.describe
        workers = range(job.hosts)
        delete, fetch = gcloud.delete(request), fetch_command(job)
        steps = [
            ("is the name free?", describe(request)),
            ("create", gcloud.create(request)),
            *waits,
            ("until it is READY", gcloud.describe(request)),
            ("copy the package and your files", gcloud.upload(request, str(job.archive))),
            ("install", gcloud.set_up(request)),
            *((f"run, worker {worker}", gcloud.run(request, worker, 1)) for worker in workers),
        ]
        if fetch:
            steps.append(("fetch the results", fetch))
        if not options.keep:
            steps.append(("delete; also after a failure, and on Ctrl-C", delete))
        for what, words in steps:
            lines += [f"# {request.name}: {what}", shlex.join(words)]
        if options.keep:
            kept = f"stays, and costs money, until you run: {shlex.join(delete)}"
            lines.append(f"# {request.name}: {kept}")
    return lines


def _print(line: str) -> None:
    print(f"{line}\n", end="", flush=True)  # one call, as several threads print
