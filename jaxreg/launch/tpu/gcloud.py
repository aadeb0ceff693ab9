"""The argument lists of all gcloud commands of a launch; nothing is executed here."""

import dataclasses

REMOTE = "jaxreg-launch"
"""The folder in a worker's home; the archive beside it has the same name."""


@dataclasses.dataclass(frozen=True)
class Request:
    """The request for one TPU.

    Attributes:
      name, zone: of the TPU; a queued resource and its node have the same name.
      project: None leaves it to gcloud's configuration.
      accelerator_type, runtime: what to create, and the software on it.
      spot: may be preempted, and costs less.
      queued: through a queued resource.
      valid_until: how long a queued request may wait, such as "6h"; None for ever.
    """

    name: str
    zone: str
    project: str | None
    accelerator_type: str
    runtime: str
    spot: bool = False
    queued: bool = False
    valid_until: str | None = None


def create(request: Request) -> list[str]:
    """Creates the TPU and waits for it, or files the queued request."""
    accelerator = f"--accelerator-type={request.accelerator_type}"
    spot = ["--spot"] if request.spot else []
    if not request.queued:
        return _vm("create", request, accelerator, f"--version={request.runtime}", *spot)
    until = [f"--valid-until-duration={request.valid_until}"] if request.valid_until else []
    node, runtime = f"--node-id={request.name}", f"--runtime-version={request.runtime}"
    return _queue("create", request, node, accelerator, runtime, *until, *spot)


def describe(request: Request) -> list[str]:
    """Prints the TPU's state and workers."""
    return _vm("describe", request, "--format=json(state,health,networkEndpoints)")


def describe_queued(request: Request) -> list[str]:
    """Prints the queued request's state."""
    return _queue("describe", request, "--format=json(state)")


def delete(request: Request) -> list[str]:
    """Deletes the TPU; a queued request with its node."""
    return _queue("delete", request, "--force") if request.queued else _vm("delete", request)


def upload(request: Request, archive: str) -> list[str]:
    """Copies the archive to all workers; it is one file, as scp handles folders inconsistently."""
    place = f"{request.name}:{REMOTE}.tar.gz"
    return _tpus("tpu-vm", "scp", request, archive, place, "--worker=all")


def set_up(request: Request) -> list[str]:
    """Unpacks the archive on all workers, and installs."""
    command = f"mkdir -p {REMOTE} && tar -xzf {REMOTE}.tar.gz -C {REMOTE} && bash {REMOTE}/setup.sh"
    return _ssh(request, "all", command)


def run(request: Request, worker: int, attempt: int) -> list[str]:
    """Runs the command on one worker, or follows it if this attempt runs already."""
    return _ssh(request, str(worker), f"bash {REMOTE}/run.sh {attempt}")


def stop(request: Request, attempt: int) -> list[str]:
    """Asks the command to save and end, on all workers."""
    return _ssh(request, "all", f"bash {REMOTE}/stop.sh {attempt}")


def fetch(request: Request, remote: str, local: str) -> list[str]:
    """Copies a folder of worker 0 into a local folder."""
    place = f"{request.name}:{remote}"
    return _tpus("tpu-vm", "scp", request, place, local, "--worker=0", "--recurse")


def fetch_bucket(request: Request, url: str, local: str) -> list[str]:
    """Copies a run directory of a bucket, without its checkpoints, into a local folder."""
    what = ["--exclude=^checkpoints/.*", "--recursive", *_project(request), "--quiet"]
    return ["gcloud", "storage", "rsync", url, local, *what]


def _vm(verb: str, request: Request, *flags: str) -> list[str]:
    return _tpus("tpu-vm", verb, request, request.name, *flags)


def _queue(verb: str, request: Request, *flags: str) -> list[str]:
    return _tpus("queued-resources", verb, request, request.name, *flags)


def _ssh(request: Request, worker: str, command: str) -> list[str]:
    where = (f"--worker={worker}", f"--command={command}")
    return _tpus("tpu-vm", "ssh", request, request.name, *where)


def _tpus(kind: str, verb: str, request: Request, *words: str) -> list[str]:
    where = [f"--zone={request.zone}", *_project(request), "--quiet"]
    return ["gcloud", "compute", "tpus", kind, verb, *words, *where]


def _project(request: Request) -> list[str]:
    return [f"--project={request.project}"] if request.project else []
