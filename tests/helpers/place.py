"""A folder as a user has it, run directories in it, and the real command in real processes that can
be struck at any moment.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from tests.helpers import warmed

ROOT = Path(__file__).parents[2]
CONFIG = '''
"""One layer of width 8, saved after every chunk: a kill finds something to lose at any moment."""

from configs import base


def get_config():
    """Returns the smallest config with the main job's ways to differ: a rate and a patience."""
    config = base.get_config()
    config.data.num_train, config.data.num_eval = 32, 32
    config.model.num_layers, config.model.num_heads = 1, 2
    config.model.width, config.model.mlp_width = 8, 8
    config.model.mlp_dropout_rate = None
    config.optim.learning_rate, config.optim.warmup_steps = 1e-2, 5
    config.train.num_steps, config.train.batch_size, config.train.members_per_device = 300, 8, 2
    config.eval.every_steps, config.checkpoint.every_seconds = 10, 0.0
    return config
'''
STEPS = "config.train.num_steps, config.train.batch_size, config.train.members_per_device = {},"
EXPERIMENT = '''
"""Four arms at two seeds, the losses of one arm soon NaN: two waves on two devices."""

from jaxreg.study.design.experiment import Arm, Experiment


def get_experiment():
    """Returns the design."""
    arms = {
        "none": Arm("nothing", predict=0.0),
        "drop": Arm("attention dropout", {"model.attention_dropout_rate": 0.3}, predict=1.0),
        "stop": Arm("early stopping", {"stopping.patience_evals": 2.0}, predict=1.0),
        "wild": Arm(
            "a step so large that the loss is NaN", {"optim.learning_rate": 1e30}, predict=-50.0
        ),
    }
    return Experiment(
        name="tiny",
        question="Does it survive?",
        config="../configs/tiny.py",
        baseline="none",
        primary="recombination",
        margin=0.05,
        alpha=0.05,
        seeds=(1, 2),
        prediction="Yes.",
        arms=arms,
    )
'''


def config(num_steps: int) -> str:
    """CONFIG with so many steps."""
    text = CONFIG.replace(STEPS.format(300), STEPS.format(num_steps))
    assert text != CONFIG
    return text


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
os.execv(sys.argv[2], sys.argv[2:])
"""
MARKING = """
import pathlib, sys, time
from jaxreg.cli.main import main
from jaxreg.train import loop
marks = pathlib.Path(sys.argv.pop(1))
def mark(name):
    inner = getattr(loop.Wave, name)
    def method(self, *arguments):
        (marks / name).touch()
        time.sleep(0.05)
        try:
            return inner(self, *arguments)
        finally:
            (marks / name).unlink()
    setattr(loop.Wave, name, method)
mark("evaluate"), mark("finish")
sys.exit(main())
"""
COMPARE = ("compare", "experiments/tiny.py")
TRAIN = ("train", "--config=configs/tiny.py", "--config.model.attention_dropout_rate=.3")

CACHE = Path(os.environ.get("JAXREG_CACHE", Path.home() / ".cache" / "jaxreg")).expanduser()
"""Where the tests keep compiled programs: those of the test process, of commands, and of places."""


Process = subprocess.Popen | warmed.Command
"""A command that runs."""


class Place:
    """A folder as a user has it: own config and experiment, and caches that the processes share.

    Args:
      folder: where it is made.
      cache: of compiled programs; None takes one that all places of a test run share.
      forks: see `server`; False starts every command as a user does.
    """

    def __init__(self, folder: Path, cache: Path | None = None, forks: bool = True):
        self.folder, self.cache = folder, cache or CACHE / "places"
        self._forks = forks
        self._warmed: dict[tuple, warmed.Warmed] = {}
        self._lock = threading.Lock()
        files = {
            "configs/tiny.py": CONFIG,
            "experiments/tiny.py": EXPERIMENT,
            "no_torch/torch.py": "raise ImportError('not here')\n",
        }
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        for name in ("__init__.py", "base.py"):
            if (ROOT / "configs" / name).exists():
                shutil.copy(ROOT / "configs" / name, folder / "configs" / name)
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("JAX_", "XLA_"))
        } | {
            "JAXREG_CACHE": str(self.cache),
            "JAXREG_DATA": str(folder / "data"),
            "PYTHONUNBUFFERED": "1",
            # Without PyTorch, which tensorboardX would load for two seconds; and compiled fast, to
            # slow code.
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder / 'no_torch'}",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        }

    def run(self, name: str) -> "Run":
        """A run directory without neighbours."""
        return Run(self, self.folder / "runs" / name / "a run")  # a space in it, as users have

    def server(self, kind: tuple, variables: dict[str, str], **usual: str) -> warmed.Server | None:
        """The server that forks a command; None where it is started as a user does: the first of a
        kind, and one whose variables Python, JAX or a library read when they start.

        Args:
          usual: variables that all commands of this sort have; they have a server of their own.
        """
        with self._lock:
            sort = tuple(sorted(usual.items()))
            if sort not in self._warmed:
                self._warmed[sort] = warmed.Warmed(
                    self.folder, self.environment | usual, self._forks
                )
        return self._warmed[sort].server(kind, variables)


class Run:
    """One run directory and the processes that work in it, one after the other."""

    def __init__(self, place: Place, workdir: Path):
        self.place, self.workdir, self.log = place, workdir, workdir.parent / "log"
        self.workdir.parent.mkdir(parents=True)

    def start(
        self,
        *words: str,
        environment: dict[str, str] | None = None,
        largest_file: int | None = None,
        marking: bool = False,
    ) -> Process:
        """Starts the command and returns at once. The run directory is added unless the words name
        one.

        Args:
          environment: variables besides the place's. marking: it leaves a file beside the log while
            it evaluates, and while it finishes a wave whose last checkpoint is made. largest_file:
              no file of the process may grow beyond so many bytes.
        """
        given = any(word.startswith("--workdir") for word in words)
        limited = [] if largest_file is None else [sys.executable, "-c", LIMITED, str(largest_file)]
        program = ["-c", MARKING, str(self.log.parent)] if marking else ["-m", "jaxreg.cli.main"]
        program += [*words, *([] if given else [f"--workdir={self.workdir}"])]
        for mark in ("evaluate", "finish"):  # of a process that was killed
            (self.log.parent / mark).unlink(missing_ok=True)
        with self.log.open("wb") as log:
            variables = self.place.environment | (environment or {})
            server = None if limited else self.place.server((marking, bool(environment)), variables)
            if server:
                return server.start(program, variables, log.fileno())
            return subprocess.Popen(
                [*limited, sys.executable, *program],
                cwd=self.place.folder,
                env=variables,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def copy(self, name: str) -> "Run":
        """Another run directory with the same in it."""
        other = self.place.run(name)
        if self.workdir.exists():
            shutil.copytree(self.workdir, other.workdir, symlinks=True)
        return other

    def output(self) -> str:
        """What the newest process said."""
        return self.log.read_text()

    def finish(self, *words: str) -> str:
        """Runs the command to its end."""
        assert self.start(*words).wait(timeout=1200) == 0, self.output()
        return self.output()

    def saved(self) -> int:
        """The number of the newest checkpoint."""
        names = [path.name for path in self.workdir.glob("checkpoints/*")]
        return max(
            (int(name.split("-")[0]) for name in names if name.replace("-", "").isdigit()),
            default=0,
        )

    def members(self) -> dict[str, bytes]:
        """The trained members' files."""
        return {path.name: path.read_bytes() for path in sorted(self.workdir.glob("members/*.npz"))}

    def until(self, process: Process, happened) -> bool:
        """Waits until something has happened; False if the process ended first."""
        deadline = time.monotonic() + 400
        while not happened():
            if process.poll() is not None:
                return False
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.001)
        return True

    def strike(
        self,
        words,
        number: signal.Signals,
        happened,
        delay: float = 0.0,
        meanwhile=None,
        twice: bool = False,
    ) -> SimpleNamespace:
        """Starts the command, and sends it a signal `delay` seconds after something has happened;
        `twice`: and again at once.
        """
        process = self.start(*words, marking=True)
        in_time = self.until(process, happened)
        if meanwhile:
            meanwhile(process)
        time.sleep(delay)
        before = (self.workdir / "results.json").exists()
        process.send_signal(number)
        if twice:
            self.until(process, lambda: "press again" in self.output())
            process.send_signal(number)
        code = process.wait(timeout=120)
        claimed = (self.workdir / "results.json").exists()
        return SimpleNamespace(
            code=code, in_time=in_time, claimed=claimed, before=before, output=self.output()
        )

    def new_save(self):
        """A condition: a checkpoint newer than the newest one now, or than the first."""
        before = self.saved()
        return lambda: self.saved() > before

    def new_member(self):
        """A condition: one more member than now."""
        before = len(list(self.workdir.glob("members/*.npz")))
        return lambda: len(list(self.workdir.glob("members/*.npz"))) > before

    def doing(self, what: str):
        """A condition: it is at this method of the wave, "evaluate" or "finish"."""
        return (self.log.parent / what).exists

    def half_a_save(self):
        """A condition: a checkpoint that is not whole yet."""
        return lambda: any(self.workdir.glob("checkpoints/*tmp*"))


def learning(path: Path) -> bytes:
    """The rows of a metrics.jsonl that are about learning; the others hold times of the machine."""
    return b"".join(
        line
        for line in path.read_bytes().splitlines(keepends=True)
        if "machine" not in json.loads(line)
    )


def same(run: Run, other: Run) -> None:
    """Asserts that two finished runs left the same behind: the final parameters are in the members'
    files.
    """
    for name in ("results.json", "config.json"):
        assert (run.workdir / name).read_bytes() == (other.workdir / name).read_bytes(), name
    assert learning(run.workdir / "metrics.jsonl") == learning(other.workdir / "metrics.jsonl")
    assert run.members() and run.members() == other.members()
    assert not list(run.workdir.glob("checkpoints/[0-9]*")), (
        "checkpoints of a finished run stay behind"
    )
    assert not [path for path in run.workdir.rglob("*") if "jaxreg-tmp" in path.name], (
        "half-written files stay behind"
    )
