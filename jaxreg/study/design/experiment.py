"""An experiment: one question, its arms, seeds and prediction, written down before it runs."""

import collections
import dataclasses
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar

from jaxreg import errors
from jaxreg.errors import has_control_character
from jaxreg.study.analysis.metric import METRICS
from jaxreg.study.design import components, user_files
from jaxreg.study.design.components import Own
from jaxreg.study.design.config_fields import MAX_SEED

ARM_KINDS = ("arm", "aa", "control")
OF_CLAIMS = ("tune", "sweep", "like", "setting", "config", "copies")
"""Fields of an arm that comparisons do not have."""
_NOT_AN_EXPERIMENT = {
    "get_config": "it is a config: jaxreg train --config=FILE, or name it in an experiment file"
}


@dataclasses.dataclass(frozen=True)
class Tune:
    """An arm's tuning: the candidate with the best mean validation accuracy on the tuning seeds.

    Attributes:
      field: a config field, or several that move together.
      candidates: values of the field, or tuples with one value per field. From the weakest to the
        strongest: of equals the first is taken.
    """

    field: str | tuple[str, ...]
    candidates: tuple

    def options(self) -> list[dict[str, Any]]:
        """Each candidate as field -> value."""
        fields = (self.field,) if isinstance(self.field, str) else self.field
        rows = [
            (value,) if isinstance(self.field, str) else tuple(value) for value in self.candidates
        ]
        return [dict(zip(fields, row, strict=True)) for row in rows]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm: a named difference from the base config.

    Attributes:
      title: what people read.
      diff: config field -> value. An arm may touch model, loss, optim and stopping; a control data
        too.
      predict: accuracy points (nats where a loss is the metric) on the primary view against the
        baseline, written before running; None: no prediction. Of a claim the questions predict.
      kind: "arm"; "aa" (the baseline again at other seeds: the noise floor; the ledger makes its
        own); "control" (its outcome is known).
      seed_offset: added to every seed, so that all draws of an A/A arm differ.
      tune: what it chooses; every arm that is compared with it then has as many candidates. Only in
        a claim or a grid; what follows, only in a claim.
      sweep: one field -> values; the arm is trained at each of them, and a measure sees them all.
      like: another arm, whose tuned values it takes over instead of tuning.
      setting: fields that are conditions and no treatment, such as data and steps: effects compare
        arms of equal setting.
      config: another base config, relative to the claim file; "" is the claim's.
      copies: members per seed that share the data and nothing else (a true ensemble).
    """

    title: str
    diff: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    predict: float | int | None = None
    kind: str = "arm"
    seed_offset: int = 0
    tune: Tune | None = None
    sweep: Mapping[str, tuple] = dataclasses.field(default_factory=dict)
    like: str = ""
    setting: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config: str = ""
    copies: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractDesign:
    """What a comparison and a claim share: arms at paired seeds, on a base config.

    Attributes:
      config: path of the base config, relative to the file.
      arms: name -> arm, in the order of the tables.
      seeds: seed r fixes data, initialization, order and dropout of every arm.
      prediction: a few sentences, written before running.
      own: a data set, model or penalty that the file itself defines.
    """

    config: str
    arms: Mapping[str, Arm]
    seeds: tuple[int, ...]
    prediction: str
    own: Own = dataclasses.field(default_factory=Own)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(AbstractDesign):
    """One question and the design that answers it: every arm against one baseline.

    Attributes:
      name: short; names results.
      question: one sentence.
      baseline: the arm all others are compared with.
      primary: the view that gets verdicts.
      margin: the smallest effect that matters, a fraction of 1 (.05 is five accuracy points); in
        nats where a loss is the metric.
      alpha: of the tests, over the whole family.
      example: the sentence whose matrices the report shows.
      metric: what is judged: "accuracy"; "loss", in nats, of the parameters that are kept; or
        "best_loss", the lowest of the evaluations, for which eval.curves must have the primary
        view. Of losses lower is better.
      note: what other runs add to the numbers of this one; the report shows it with their scope. It
        may be changed at any time.
      changed: what a command changed in the base config, such as "train.num_steps=40"; prediction
        and note were not written for that. Files leave it empty.
      not_of_arms: fields that its arms do not have.
    """

    not_of_arms: ClassVar[tuple[str, ...]] = OF_CLAIMS

    name: str
    question: str
    baseline: str
    primary: str
    margin: float | int
    alpha: float | int
    example: str = "The cat sat on the mat"
    metric: str = "accuracy"
    note: str = ""
    changed: tuple[str, ...] = ()

    def predicted(self) -> str:
        """The prediction, and before it what this run changes against what it was made for."""
        if not self.changed:
            return self.prediction
        return f"(made before the command set {', '.join(self.changed)}) {self.prediction}"


def load_experiment(path: str | Path) -> Experiment:
    """The experiment of a file with `get_experiment()`.

    Raises:
      UserErrors: no such file, not Python, no `get_experiment`, or all that is wrong with the
        experiment itself.
    """
    experiment = user_files.call(path, "get_experiment", instead=_NOT_AN_EXPERIMENT)
    if not isinstance(experiment, Experiment):
        raise errors.UserErrors(
            [f"{path}: get_experiment() returns {type(experiment).__name__}, not an Experiment"]
        )
    in_own = experiment.own.mistakes()
    if not in_own:  # other mistakes are reported in the words of the pieces
        with errors.collecting(in_own):
            components.adopt(experiment.own, Path(path))
    mistakes = [*check_experiment(experiment), *in_own]
    if mistakes:
        raise errors.UserErrors([f"{path}: {mistake}" for mistake in mistakes])
    return experiment


def pieces_unknown(path: str | Path) -> bool:
    """Whether a file may have own pieces that could not be adopted: it is there, and broken."""
    path = Path(path).expanduser()
    return path.is_file() and not user_files.is_kept(path)


def config_path(experiment_path: str | Path, experiment: Experiment) -> Path:
    """Where the experiment's base config lies."""
    path = Path(experiment_path).expanduser().parent / experiment.config
    try:
        return path.resolve().relative_to(Path.cwd().resolve())  # short in messages
    except ValueError:
        return path


def check_experiment(experiment: Experiment) -> list[str]:
    """Mistakes in the design itself, one line each; `config.resolve_arms` checks arms' fields."""
    mistakes = []
    for name in ("name", "question", "config", "prediction", "primary", "example"):
        value = vars(experiment)[name]
        if not isinstance(value, str) or not value.strip():
            mistakes.append(f"{name} is {value!r}; it must be a text")
    if not isinstance(experiment.note, str):
        mistakes.append(f"note is {experiment.note!r}; it must be a text")
    mistakes += check_metric(experiment.metric)
    in_nats = experiment.metric != "accuracy"
    for name in ("margin", "alpha"):
        value = vars(experiment)[name]
        if name == "margin" and in_nats:
            if not (is_number(value) and value > 0):
                mistakes.append(f"margin is {value!r}; it must be a number of nats above 0")
        elif not (is_number(value) and 0 < value < 1):
            mistakes.append(f"{name} is {value!r}; it must be a fraction between 0 and 1")
    mistakes += check_design(experiment)
    if experiment.arms and experiment.baseline not in experiment.arms:
        near = errors.nearest(str(experiment.baseline), experiment.arms)
        mistakes.append(f"baseline: there is no arm {experiment.baseline!r}{near}")
    for name, arm in experiment.arms.items():
        if isinstance(arm, Arm):
            found = _check_compared(name, arm, experiment.not_of_arms)
            mistakes += [f"arm {name!r}: {mistake}" for mistake in found]
    return mistakes


def check_metric(metric: object) -> list[str]:
    """What is wrong with the name of a metric."""
    if metric in METRICS:
        return []
    return [f"metric is {metric!r}; it must be one of: {', '.join(METRICS)}"]


def check_design(design: AbstractDesign) -> list[str]:
    """What is wrong with the part that a comparison and a claim share."""
    mistakes = [f"seeds: {mistake}" for mistake in check_seeds(design.seeds)]
    if not design.arms:
        mistakes.append("arms: there are none")
    for name, arm in design.arms.items():
        if not isinstance(name, str) or has_control_character(name):
            mistakes.append(f"arm {name!r}: a name is text without control characters")
        mistakes += [f"arm {name!r}: {mistake}" for mistake in _check_arm(arm)]
    return mistakes


def check_seeds(seeds: object) -> list[str]:
    """What is wrong with a list of seeds: empty, no whole numbers, negative, repeated."""
    if not isinstance(seeds, tuple | list | range) or not seeds:
        return [f"{seeds!r} is no list of at least one seed"]
    is_whole = {
        seed: isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= MAX_SEED
        for seed in seeds
    }
    mistakes = [
        f"{seed!r} is not a whole number from 0 to {MAX_SEED}"
        for seed, whole in is_whole.items()
        if not whole
    ]
    repeated = [seed for seed, count in collections.Counter(seeds).items() if count > 1]
    if repeated:
        mistakes.append(f"repeated: {', '.join(map(str, repeated))}; paired seeds must differ")
    return mistakes


def _check_arm(arm: object) -> list[str]:
    if not isinstance(arm, Arm):
        return [f"is {type(arm).__name__}, not an Arm"]
    mistakes = []
    if arm.kind not in ARM_KINDS:
        mistakes.append(f"kind is {arm.kind!r}; it must be one of: {', '.join(ARM_KINDS)}")
    if arm.predict is not None and not is_number(arm.predict):
        mistakes.append(
            f"predict is {arm.predict!r}; it must be a number of accuracy points, or None"
        )
    if (
        isinstance(arm.seed_offset, bool)
        or not isinstance(arm.seed_offset, int)
        or arm.seed_offset < 0
    ):
        mistakes.append(f"seed_offset is {arm.seed_offset!r}; it must be a whole number, 0 or more")
    elif arm.kind == "aa" and arm.seed_offset == 0:
        mistakes.append("an A/A arm needs a seed_offset, or it is the baseline itself")
    return mistakes


def _check_compared(name: str, arm: Arm, without: tuple[str, ...]) -> list[str]:
    """What is wrong with an arm of a comparison alone: its name, and what only claims have."""
    mistakes = []
    if not name or "," in name or "/" in name or name != name.strip():
        mistakes.append("its name must be a text without commas and slashes")
    plain = Arm(arm.title)
    return mistakes + [
        f"{field} is for claims (jaxreg claims); a comparison has none"
        for field in without
        if getattr(arm, field) != getattr(plain, field)
    ]


def is_number(value: object) -> bool:
    """Whether a value is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def choose_seeds(text: str, seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds of `--seeds`: a number n means n seeds, the experiment's first; a list, those.

    "20" -> 20 seeds; "100,101" -> these two; "100," -> this one.

    Raises:
      UserErrors: empty, repeated, negative, or no numbers.
    """
    if "," not in text:
        if not text.strip().isdecimal() or int(text) == 0:
            raise errors.UserErrors(
                [f"--seeds={text}: must be how many seeds, 1 or more, or a list such as 100,101"]
            )
        count = int(text)
        further = range(max(seeds) + 1, max(seeds) + 1 + max(0, count - len(seeds)))
        return (*seeds, *further)[:count]
    parts = [part.strip() for part in text.rstrip().removesuffix(",").split(",")]
    wrong = [part for part in parts if not part.isdecimal()]
    if wrong:
        shown = ", ".join(repr(part) for part in wrong)
        raise errors.UserErrors(
            [f"--seeds={text}: {shown} is no seed; seeds are whole numbers, 0 or more"]
        )
    chosen = tuple(int(part) for part in parts)
    mistakes = check_seeds(chosen)
    if mistakes:
        raise errors.UserErrors([f"--seeds={text}: {mistake}" for mistake in mistakes])
    return chosen


def choose_arms(text: str, experiment: Experiment) -> tuple[str, ...]:
    """The arms `--arms` asks for, in the experiment's order; the baseline always belongs to them.

    Raises:
      UserErrors: empty, repeated, or unknown names.
    """
    asked = [name.strip() for name in text.split(",")]
    mistakes = [
        f"--arms={text}: {name} is repeated"
        for name in dict.fromkeys(asked)
        if name and asked.count(name) > 1
    ]
    if "" in asked:
        mistakes.append(f"--arms={text}: an arm's name is empty")
    for name in dict.fromkeys(asked):
        if name and name not in experiment.arms:
            mistakes.append(
                f"--arms={text}: there is no arm {name!r}{errors.nearest(name, experiment.arms)}"
            )
    if mistakes:
        raise errors.UserErrors(mistakes)
    return tuple(name for name in experiment.arms if name in asked or name == experiment.baseline)
