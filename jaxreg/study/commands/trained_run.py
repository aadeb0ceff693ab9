"""The trained models of a run directory: `jaxreg.load_run`, and what `inspect` and `sample` use."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from jaxreg.data import Dataset
from jaxreg.data.tokens.spelling import Spelling
from jaxreg.errors import UserErrors, nearest
from jaxreg.store.member_store import Record, Records
from jaxreg.store.paths import as_path
from jaxreg.study.design.components import SOURCES
from jaxreg.study.design.experiment import Arm, Experiment
from jaxreg.study.engine import member_scores, run_directory
from jaxreg.study.engine.dataset_loader import Library
from jaxreg.study.engine.members import Spec, make_specs
from jaxreg.study.report.example_sentence import trained_model
from jaxreg.typing import Array, Int


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedMember:
    """A trained model: an arm of a run at a seed.

    Attributes:
      arm: its description in the experiment.
      spec: arm, seed, config and address.
      record: what was stored: parameters, scores and curves.
      dataset: the draw that it was trained on.
    """

    arm: Arm
    spec: Spec
    record: Record
    dataset: Dataset

    @functools.cached_property
    def model(self) -> Any:
        """The Flax module, in evaluation mode unless it is asked to train."""
        return trained_model(self.spec, self.record, self.dataset)[0]

    @functools.cached_property
    def params(self) -> Any:
        """Its parameters: nested dicts of numpy arrays."""
        return self.record.params()

    @property
    def config(self) -> Mapping[str, Mapping[str, Any]]:
        """The settings that it was trained with: section -> field -> value."""
        return self.spec.config

    @functools.cached_property
    def spelling(self) -> Spelling:
        """How its tokens are typed and read."""
        data = self.config["data"]
        own = data["tokenizer"] if self.dataset.name == "tokens" else ""
        return Spelling.of(self.dataset.tokens, own)

    @property
    def window(self) -> int:
        """The tokens of a row, which is the most that the model reads."""
        return self.dataset.splits["train"].tokens.shape[1]

    @property
    def keeps_best(self) -> bool:
        """Whether its parameters are those of its best evaluation, not of its last step."""
        return member_scores.keeps_best(self.config)

    def encode(self, text: str) -> Int32[np.ndarray, " p"]:
        """The token ids of a text, [P].

        Raises:
          ValueError: one line: no token, or one that the data set has not.
        """
        return self.spelling.encode(text)

    def decode(self, ids: Int[Array | np.ndarray, "p"] | Sequence[int]) -> str:
        """The text of token ids [P]; what is no text is replaced."""
        return self.spelling.decode(np.asarray(ids))

    def parameters_in_words(self) -> str:
        """Which parameters these are, such as "parameters of step 300, the last"."""
        kept, last = self.record.meta["kept_step"], self.record.meta["last_step"]
        if self.keeps_best:
            return f"parameters of step {kept} of {last}, the best evaluation"
        return f"parameters of step {kept}, the last"


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run directory that was read: what it trained, and its models.

    Attributes:
      workdir: the directory.
      experiment: its design; of `jaxreg train` one with the arm "run".
      resolved: the config of each arm.
      seeds: of the run.
    """

    workdir: Path
    experiment: Experiment
    resolved: Mapping[str, Mapping]
    seeds: tuple[int, ...]

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of its arms."""
        return tuple(self.experiment.arms)

    def model(self, arm: str | None = None, seed: int | None = None) -> tuple[Any, Any]:
        """(model, parameters) of an arm at a seed; see `member`.

        Raises:
          UserErrors: as `member`.
        """
        found = self.member(arm, seed)
        return found.model, found.params

    def member(self, arm: str | None = None, seed: int | None = None) -> TrainedMember:
        """The trained member of an arm at a seed, with its data.

        Args:
          arm: None: the baseline, which of `jaxreg train` is the only arm.
          seed: None: the first one.

        Raises:
          UserErrors: one line for each: no such arm or seed, a member that is not trained, or files
            of data that are gone or were changed.
        """
        arm = self.experiment.baseline if arm is None else arm
        seed = self.seeds[0] if seed is None else seed
        mistakes = []
        if arm not in self.experiment.arms:
            mistakes.append(f"arm {arm!r}: the run has no such arm{nearest(arm, self.arms)}")
        if seed not in self.seeds:
            has = ", ".join(map(str, self.seeds))
            mistakes.append(f"seed {seed}: the run has no such seed; it has {has}")
        if mistakes:
            raise UserErrors(mistakes)
        design, code = self.experiment.arms[arm], run_directory.code_of(self.workdir)
        library = Library()
        try:
            [spec] = make_specs({arm: design}, self.resolved, [seed], library.request, code)
            dataset = library[spec.data]
        finally:
            library.close()
        record = Records(self.workdir / "members").get(spec.hash)
        if record is None:
            raise UserErrors([self._not_trained(spec)])
        return TrainedMember(design, spec, record, dataset)

    def _not_trained(self, spec: Spec) -> str:
        data, changed = spec.config["data"], ""
        if SOURCES[data["dataset"]].in_files and "path" in data:
            changed = f", or data.path={data['path']} was changed since"
        subject = f"{self.workdir}: arm {spec.arm!r} at seed {spec.seed}"
        return f"{subject} is not trained{changed}; run it again"


def load_run(
    directory: str | os.PathLike, experiment: str | os.PathLike | None = None
) -> TrainedRun:
    """Reads a run directory of `jaxreg train` or `jaxreg compare`, to use its trained models.

    Args:
      directory: the --workdir of the run; its data's files, such as your text, are read too.
      experiment: the experiment file, where the run has a data set, model or penalty of its own:
        the code of a run directory is never run unasked.

    Returns:
      The run: its `arms` and `seeds`, `model(arm, seed)` and `member(arm, seed)`.

    Raises:
      UserErrors: one line for each mistake: no run is there, or its own pieces or files are not.

    Example:
      >>> import subprocess, sys, tempfile, jax.numpy as jnp, jaxreg
      >>> folder = tempfile.mkdtemp()
      >>> words = "train --config=language_model --config.train.num_steps=31 --workdir=" + folder
      >>> program = [sys.executable, "-m", "jaxreg.cli.main", *words.split()]
      >>> subprocess.run(program, capture_output=True).returncode
      0
      >>> run = jaxreg.load_run(folder)
      >>> run.arms, run.seeds
      (('run',), (0,))
      >>> model, params = run.model("run", 0)
      >>> tokens = run.member().encode("the cat")
      >>> model.apply({"params": params}, jnp.asarray(tokens)[None]).shape
      (1, 7, 258)
    """
    workdir = as_path(directory)
    workdir = workdir.expanduser().absolute() if type(workdir) is type(Path()) else workdir
    run_directory.confirm(workdir, None if experiment is None else os.fspath(experiment))
    return read(workdir)


def read(workdir: Path) -> TrainedRun:
    """A run directory whose own pieces are there already (`run_directory.confirm`).

    Raises:
      UserErrors: as `load_run`.
    """
    design, _, resolved, seeds = run_directory.read(workdir)
    return TrainedRun(workdir, design, resolved, tuple(seeds))
