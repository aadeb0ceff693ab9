"""A gcloud that keeps TPUs in a folder, and whose workers are processes of this machine; and what a
test may do to them.

Run as a program it is `gcloud`. FAKE_GCLOUD names the folder: nodes/NAME/node.json and its workers'
homes, requests/NAME.json, calls.jsonl with every argument list, and plan.json, by which a test says
what shall happen:

    workers        how many a node has
    create         what the next creations end in, one after the other: "ok", "quota", "no room",
      "exists"; "ok" when used up
    creating       seconds that a creation takes; late: nobody sees the node before they are over
    waiting        looks at a queued request before it is active; -1: it expires
    delete         how many deletions fail
    upload         how many copies fail
    environment    of the workers, "{worker}" and "{port}" filled in
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

NODE_ERROR = "ERROR: (gcloud.compute.tpus.tpu-vm.{verb}) {text}\n"
TOKEN = "FAKE_TPU_NODE"


class Cloud:
    """The folder of a fake cloud."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "nodes").mkdir(parents=True, exist_ok=True)
        (folder / "requests").mkdir(exist_ok=True)

    def plan(self, **changes) -> dict:
        """The plan, with changes."""
        path = self.folder / "plan.json"
        plan = {
            "workers": 1,
            "create": [],
            "creating": 0.2,
            "late": False,
            "waiting": 0,
            "delete": 0,
            "upload": 0,
            "environment": {},
        }
        plan |= json.loads(path.read_text()) if path.exists() else {}
        if changes:
            plan |= changes
            new = path.with_name(f"plan.{os.getpid()}")  # several may do this at once
            new.write_text(json.dumps(plan))
            new.replace(path)
        return plan

    def calls(self) -> list[list[str]]:
        """Every argument list so far."""
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def verbs(self) -> list[str]:
        """What was called: "create", "describe", ..., looks at states left out."""
        return [
            " ".join(call[2:4] if call[1] == "tpus" else call[:2])
            for call in self.calls()
            if "describe" not in call
        ]

    def node(self, name: str) -> dict | None:
        """A node, None where there is none."""
        try:
            return json.loads((self.folder / "nodes" / name / "node.json").read_text())
        except FileNotFoundError:
            return None

    def put(self, name: str, **changes) -> None:
        """Changes a node, or makes one."""
        path = self.folder / "nodes" / name / "node.json"
        path.parent.mkdir(exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps((self.node(name) or {}) | changes))
        new.replace(path)

    def nodes(self) -> list[str]:
        """Names of the nodes there are: each costs money."""
        return sorted(path.parent.name for path in self.folder.glob("nodes/*/node.json"))

    def home(self, name: str, worker: int) -> Path:
        """A worker's home."""
        return self.folder / "nodes" / name / f"worker-{worker}"

    def processes(self, name: str) -> list[int]:
        """Processes that run on a node."""
        token, found = f"{TOKEN}={self.folder}/{name}\0".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if token in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                pass
        return found

    def shut_down(self, name: str, *, patience: float = 60.0) -> bool:
        """Ends all processes of a node, as a machine does: asked first, killed afterwards. Its
        disks are gone. Whether asking was enough.
        """
        asked = True
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
            told: set[int] = set()
            deadline = time.monotonic() + seconds
            while (running := set(self.processes(name))) and time.monotonic() < deadline:
                for pid in running - told:  # one may have begun meanwhile
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
                told |= running
                time.sleep(0.05)
            asked = asked and not self.processes(name)
        for worker in range((self.node(name) or {"workers": 0})["workers"]):
            shutil.rmtree(self.home(name, worker), ignore_errors=True)
        return asked

    def preempt(self, name: str, *, state_first: bool = True) -> bool:
        """Takes a spot node away: its state says so before or after its processes were asked to
        end. Whether they did.
        """
        if state_first:
            self.put(name, state="PREEMPTED")
        asked = self.shut_down(name)
        if self.node(name):
            self.put(name, state="PREEMPTED")
        return asked

    def delete(self, name: str) -> None:
        """Deletes a node; one that is being preempted ends its processes as it would."""
        node = self.node(name)
        self.shut_down(name, patience=60.0 if node and node["state"] == "PREEMPTED" else 0.2)
        shutil.rmtree(self.folder / "nodes" / name, ignore_errors=True)


def main(words: list[str]) -> int:
    """What gcloud would do, as far as a launch needs it."""
    cloud = Cloud(Path(os.environ["FAKE_GCLOUD"]))
    with (cloud.folder / "calls.jsonl").open("a") as file:
        file.write(json.dumps(words) + "\n")
    flags = dict(
        word.removeprefix("--").split("=", 1) if "=" in word else (word.removeprefix("--"), "")
        for word in words
        if word.startswith("--")
    )
    plain = [word for word in words if not word.startswith("--")]
    if plain[0] == "storage":
        return _sync(Path(plain[2].replace("gs:/", str(cloud.folder / "buckets"))), Path(plain[3]))
    assert plain[:2] == ["compute", "tpus"] and flags["zone"] and "quiet" in flags, words
    group, verb, name = plain[2:5]
    if group == "queued-resources":
        return {"create": _queue, "describe": _describe_queued, "delete": _delete}[verb](
            cloud, name, flags
        )
    if verb == "scp":
        return _copy(cloud, plain[4:], flags)
    return {"create": _create, "describe": _describe, "delete": _delete, "ssh": _ssh}[verb](
        cloud, name, flags
    )


def _error(text: str, code: int = 1) -> int:
    sys.stderr.write(f"ERROR: (gcloud.compute.tpus) {text}\n")
    return code


def _create(cloud: Cloud, name: str, flags: dict) -> int:
    assert flags["accelerator-type"] and flags["version"], flags
    plan = cloud.plan()
    ends = plan["create"][0] if plan["create"] else "ok"
    if plan["create"]:
        cloud.plan(create=plan["create"][1:])
    if ends == "quota":
        return _error(
            "RESOURCE_EXHAUSTED: Quota limit 'TPUV5sPreemptibleLitepodPerProjectPerZoneForTPUAPI'"
            " has been exceeded. Limit: 0 in region."
        )
    if ends == "no room":
        return _error(
            '{\n  "code": 8,\n  "message": "There is no more capacity in the zone \\"z\\"; you can'
            ' try in another zone"\n}'
        )
    if ends == "exists":
        return _error(f"ALREADY_EXISTS: Resource '{name}' already exists")
    if not plan["late"]:
        cloud.put(name, state="CREATING", workers=plan["workers"], port=_free_port())
    time.sleep(plan["creating"])
    if cloud.node(name) is None and not plan["late"]:
        return _error("the node was deleted while it was created")
    cloud.put(name, state="READY", workers=plan["workers"], port=_free_port())
    return 0


def _queue(cloud: Cloud, name: str, flags: dict) -> int:
    assert flags["node-id"] == name and flags["accelerator-type"] and flags["runtime-version"], (
        flags
    )
    (cloud.folder / "requests" / f"{name}.json").write_text(json.dumps({"looks": 0}))
    return 0


def _describe_queued(cloud: Cloud, name: str, flags: dict) -> int:
    path = cloud.folder / "requests" / f"{name}.json"
    if not path.exists():
        return _error(f"NOT_FOUND: Resource '{name}' was not found")
    looks, waiting = json.loads(path.read_text())["looks"], cloud.plan()["waiting"]
    path.write_text(json.dumps({"looks": looks + 1}))
    state = (
        "WAITING_FOR_RESOURCES"
        if looks < max(waiting, 1) and waiting
        else "PROVISIONING"
        if looks == waiting
        else "ACTIVE"
    )
    state = "FAILED" if waiting < 0 and looks else state
    node = cloud.node(name)
    if state == "ACTIVE" and node is None:
        cloud.put(name, state="READY", workers=cloud.plan()["workers"], port=_free_port())
    print(
        json.dumps(
            {"state": {"state": "SUSPENDED" if node and node["state"] == "PREEMPTED" else state}}
        )
    )
    return 0


def _describe(cloud: Cloud, name: str, flags: dict) -> int:
    node = cloud.node(name)
    if node is None:
        return _error(f"NOT_FOUND: Resource 'projects/p/locations/z/nodes/{name}' was not found")
    print(json.dumps({"state": node["state"], "networkEndpoints": [{}] * node["workers"]}))
    return 0


def _delete(cloud: Cloud, name: str, flags: dict) -> int:
    left = cloud.plan()["delete"]
    if left:
        cloud.plan(delete=left - 1)
        return _error("INTERNAL: the backend had a bad day")
    request = cloud.folder / "requests" / f"{name}.json"
    if cloud.node(name) is None and not request.exists():
        return _error(f"NOT_FOUND: Resource '{name}' was not found")
    request.unlink(missing_ok=True)
    cloud.delete(name)
    return 0


def _copy(cloud: Cloud, places: list[str], flags: dict) -> int:
    left = cloud.plan()["upload"]
    if left:
        cloud.plan(upload=left - 1)
        return _error("ssh: connect to host 10.0.0.2 port 22: Connection refused", 255)
    source, target = places
    if ":" in target:  # to all workers
        assert flags["worker"] == "all"
        name, path = target.split(":")
        for worker in range(cloud.node(name)["workers"]):
            cloud.home(name, worker).mkdir(exist_ok=True)
            shutil.copy(source, cloud.home(name, worker) / path)
        return 0
    assert flags["worker"] == "0" and "recurse" in flags
    name, path = source.split(":")
    found = cloud.home(name, 0) / path
    return _sync(found, Path(target) / found.name)


def _sync(source: Path, target: Path) -> int:
    if not source.is_dir():
        return _error(f"{source}: No such file or directory")
    shutil.copytree(source, target, dirs_exist_ok=True)
    return 0


def _ssh(cloud: Cloud, name: str, flags: dict) -> int:
    """Runs the command on workers; 255 once the machine is gone, as after a lost connection."""
    node = cloud.node(name)
    if node is None or node["state"] != "READY":
        return _error(f"TPU {name} is in state {node and node['state']}")
    workers = range(node["workers"]) if flags["worker"] == "all" else [int(flags["worker"])]
    running = [_process(cloud, name, node, worker, flags["command"]) for worker in workers]
    while any(process.poll() is None for process in running):
        time.sleep(0.02)
        now = cloud.node(name)
        if now is None or now["state"] != "READY":
            for process in running:
                process.kill()
            return 255
    return next((process.returncode for process in running if process.returncode), 0)


def _process(cloud: Cloud, name: str, node: dict, worker: int, command: str) -> subprocess.Popen:
    home = cloud.home(name, worker)
    home.mkdir(exist_ok=True)
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("JAX", "XLA", "PYTHON", "FAKE"))
    }
    filled = {
        key: value.format(worker=worker, port=node["port"])
        for key, value in cloud.plan()["environment"].items()
    }
    environment = kept | {
        "HOME": str(home),
        TOKEN: f"{cloud.folder}/{name}",
        "PATH": f"{cloud.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.Popen(["bash", "-c", command], cwd=home, env=environment | filled)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
