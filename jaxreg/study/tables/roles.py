"""Which column is what: arm, seed, view, item, step and score, as asked or by its usual name."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from jaxreg.errors import UserErrors, collecting, nearest
from jaxreg.study.tables import run_names
from jaxreg.study.tables.table import FromNames, TableSource, number_of

ARM, SEED, VIEW, FILE = "{arm}", "{seed}", "{view}", "{file}"
"""Names of the columns that come from the names of runs or of folders."""

USUAL: Mapping[str, tuple[str, ...]] = {
    "arm": (
        *("arm", "method", "algorithm", "algo", "optimizer", "variant", "condition", "treatment"),
        *("agent", "model", "config", "group", "experiment", "exp_name"),
    ),
    "seed": (
        *("seed", "random_seed", "rng_seed", "seed_id", "replicate", "trial", "run_seed"),
        *("run", "run_id"),
    ),
    "view": (
        *("view", "split", "dataset", "data_set", "task", "env", "environment", "env_id", "game"),
        *("subset", "benchmark"),
    ),
    "metric": ("metric", "metric_name", "tag", "key", "measure"),
    "value": ("value", "score", "metric_value", "result"),
    "item": (
        *("item", "item_id", "question", "question_id", "episode", "episode_id", "example"),
        *("example_id", "sample_id", "instance", "instance_id", "problem", "problem_id"),
        *("prompt_id", "doc_id", "test_item"),
    ),
    "step": (
        *("step", "_step", "global_step", "trainer/global_step", "epoch", "iteration", "iter"),
        *("update", "env_steps", "timestep", "timesteps", "num_timesteps", "total_timesteps"),
    ),
    "run": ("run_name", "name", "run", "run_id", "exp_name", "experiment_name"),
    "state": ("state", "status"),
}
"""Part -> usual names of its column, the likeliest first; small letters and underscores."""
_NO_SCORES = {
    *("index", "id", "unnamed:_0", "level_0", "timestamp", "_timestamp", "time", "wall_time"),
    *("date", "created", "runtime", "_runtime", "duration", "elapsed", "wall_clock"),
}
"""Usual names of number columns that are no scores."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a person says of the columns; None: found by its usual name.

    Attributes:
      arm, view: one column, or several with commas, which together name it.
      seed, item, step, value: one column.
      metric: a column of scores, several with commas, or a value of the column that names metrics.
      run: the pattern of the names of runs or folders.
      at: of several steps of a run: the last one, the one with the best score, or this one.
      repeats: "mean": several rows of one seed are repeats, and averaged.
      baseline, primary: of the question; where no column has arms, the baseline may name a column,
        and the primary view the score.
      without: arms with commas, which are left out of the table.
      higher_is_better: which score is the best one.
      unfinished: what a run that did not end well counts as: its score, nothing (the run is left
        out), or a run that diverged.
    """

    arm: str | None = None
    seed: str | None = None
    view: str | None = None
    item: str | None = None
    step: str | None = None
    value: str | None = None
    metric: str | None = None
    run: str | None = None
    at: Literal["last", "best"] | int = "last"
    repeats: str | None = None
    baseline: str | None = None
    primary: str | None = None
    without: str | None = None
    higher_is_better: bool = True
    unfinished: Literal["keep", "drop", "diverged"] = "keep"


@dataclasses.dataclass(frozen=True)
class Roles:
    """The columns by their part.

    Attributes:
      arm, view: the columns that together name it; without a view each score is one.
      seed, item, step: columns, or None.
      metrics: the column that names metrics, or None, and the metric wanted, or None for all.
      values: columns of scores.
      run: the column of names of runs, which tells whether a seed of an arm is one run; or None.
      state: the column that says how a run ended, or None.
      guessed: what was guessed of arm and seed, in words: "arm = model"; "" where nothing was.
    """

    arm: tuple[str, ...]
    seed: str
    view: tuple[str, ...]
    item: str | None
    step: str | None
    metrics: tuple[str | None, str | None]
    values: tuple[str, ...]
    run: str | None = None
    state: str | None = None
    guessed: str = ""

    def lines(self, source: TableSource) -> list[str]:
        """How the columns are understood, for people."""
        parts = [] if self.arm == (ARM,) else [f"arm = {', '.join(self.arm)}"]  # a note says it
        parts += [] if self.seed == SEED else [f"seed = {self.seed}"]
        metrics, wanted = self.metrics
        if metrics is not None and wanted is not None:
            parts.append(f"rows with {metrics} = {wanted}")
        if self.view:
            parts += [] if self.view == (VIEW,) else [f"view = {', '.join(self.view)}"]
        elif metrics is not None and wanted is None:
            parts.append(f"view = {metrics}")
        parts.append(f"score = {', '.join(self.values)}")
        parts += [f"item = {self.item}"] if self.item else []
        parts += [f"step = {self.step}"] if self.step else []
        parts += [f"name of the run = {self.run}"] if self.run in source.columns else []
        parts += [f"state = {self.state}"] if self.state else []
        used = {*self.arm, self.seed, *self.view, self.item, self.step, metrics, *self.values}
        left = [name for name in columns_of(source) if name not in {*used, self.run, self.state}]
        lines = [f"{source.name}: {'; '.join(parts)}"]
        return lines + ([f"not used: {', '.join(left)}"] if left else [])


def plain(name: str) -> str:
    """A column's name as `USUAL` has them: "config/Random Seed" is "random_seed"."""
    text = name.strip().lower().replace(" ", "_").replace("-", "_")
    for before in ("config/", "config.", "params/", "params.", "hparams/", "hparams."):
        text = text.removeprefix(before)
    return text


def usual(part: str, columns: Iterable[str]) -> str | None:
    """The column with the likeliest usual name of a part; None where no name is usual."""
    known: dict[str, str] = {}
    for name in columns:
        known.setdefault(plain(name), name)
    return next((known[name] for name in USUAL[part] if name in known), None)


def no_score(name: str) -> bool:
    """Whether a column of numbers is no score by its usual name, as an index or a time is."""
    return plain(name) in _NO_SCORES


def columns_of(source: TableSource) -> list[str]:
    """The columns of the file itself, as people know them."""
    made = (ARM, SEED, VIEW, FILE)
    named = [source.name_column] if isinstance(source, FromNames) else []
    return [name for name in dict.fromkeys((*named, *source.columns)) if name not in made]


def usual_arm(source: TableSource, columns: Iterable[str]) -> str | None:
    """The likeliest column of arms. One of dicts or lists, as trackers write configs, is none."""
    return usual("arm", [name for name in columns if not _structured(source.sample[name])])


def _structured(texts: Sequence[str]) -> bool:
    held = [text for text in texts if text]
    return bool(held) and all(text[0] + text[-1] in ("{}", "[]") for text in held)


def numeric(texts: Sequence[str]) -> bool:
    """Whether a column has numbers: at least half of what the sample holds."""
    held = [text for text in texts if text.strip()]
    return bool(held) and 2 * sum(number_of(text) is not None for text in held) >= len(held)


def assign(
    source: TableSource, asked: Asked, mistakes: list[str], or_arms: str = ""
) -> Roles | None:
    """The part of every column that matters; None, with lines in `mistakes`, where it is unclear.

    Args:
      source: its columns and first rows are looked at.
      asked: what a person says.
      mistakes: gets the lines.
      or_arms: follows the mistake that no column has arms.
    """
    before = len(mistakes)
    found = _Columns(source, asked, mistakes)
    arm = (ARM,) if ARM in source.columns else found.several("arm")
    seed = SEED if SEED in source.columns else found.one("seed")
    view = (VIEW,) if VIEW in source.columns else found.several("view")
    item, step = found.one("item"), found.one("step")
    if not arm and asked.arm is None:
        mistakes.append(found.missing("arm") + or_arms)
    if seed is None and asked.seed is None:
        mistakes.append(found.missing("seed"))
    metrics, values = found.scores(bool(view))
    if len(mistakes) > before or seed is None:
        return None
    used = {*arm, seed, *view, item, step, metrics[0], *values}
    run, state = found.names_of_runs(item, used), found.state(used)
    guessed = _guessed(source, asked, arm, seed)
    return Roles(arm, seed, view, item, step, metrics, values, run, state, guessed)


def _guessed(source: TableSource, asked: Asked, arm: Sequence[str], seed: str) -> str:
    """What was guessed of arm and seed, in words; a column that is called so is no guess."""
    parts = []
    for part, found in (("arm", ", ".join(arm)), ("seed", seed)):
        if found in (ARM, SEED) and asked.run is None and isinstance(source, FromNames):
            where = "names of files" if source.name_column == FILE else source.name_column
            parts.append(f"{part} from {where}")
        elif found not in (ARM, SEED) and getattr(asked, part) is None and plain(found) != part:
            parts.append(f"{part} = {found}")
    return ", ".join(parts) + " (guessed)" if parts else ""


class _Columns:
    """Finds columns, each for one part only."""

    def __init__(self, source: TableSource, asked: Asked, mistakes: list[str]):
        self._source, self._asked, self._mistakes = source, asked, mistakes
        made = (ARM, SEED, VIEW, FILE)
        self._free = [name for name in source.columns if name not in made]
        for part in ("arm", "seed", "view", "item", "step", "value"):
            for name in self._named(part):  # what is asked for is no guess for another part
                self._take(name)
        if asked.metric in self._free:
            self._take(asked.metric)

    def _named(self, part: str) -> list[str]:
        """The columns asked for, as they are written in the file; those that exist."""
        text = getattr(self._asked, part)
        if text is None:
            return []
        names = [text] if self._find(text) or part not in ("arm", "view") else text.split(",")
        return [name for each in names if (name := self._find(each)) is not None]

    def _find(self, name: str) -> str | None:
        columns = self._source.columns
        if name in columns:
            return name
        same = [each for each in columns if each.lower() == name.lower()]
        return same[0] if len(same) == 1 else None

    def _take(self, name: str | None) -> None:
        if name in self._free:
            self._free.remove(name)

    def _absent(self, part: str, name: str) -> str:
        hint = nearest(name, columns_of(self._source))
        return f"--{part}={name}: there is no such column in {self._source.name}{hint}"

    def several(self, part: str) -> tuple[str, ...]:
        """The columns of a part that several may name together."""
        text = getattr(self._asked, part)
        if text is None:
            if part == "arm":
                found = usual_arm(self._source, self._free)
            else:
                found = usual(part, self._free)
            self._take(found)
            return () if found is None else (found,)
        names = [text] if self._find(text) else text.split(",")
        self._mistakes += [self._absent(part, name) for name in names if not self._find(name)]
        return tuple(self._named(part))

    def one(self, part: str) -> str | None:
        """The column of a part."""
        text = getattr(self._asked, part)
        if text is None:
            candidates = self._free
            if part == "step":
                candidates = [name for name in candidates if self._numeric(name)]
            found = usual(part, candidates)
            self._take(found)
            return found
        found = self._find(text)
        if found is None:
            self._mistakes.append(self._absent(part, text))
        return found

    def _numeric(self, name: str) -> bool:
        return numeric(self._source.sample[name])

    def missing(self, part: str) -> str:
        """A mistake: no column has a usual name."""
        columns, pattern = ", ".join(columns_of(self._source)), self._pattern()
        names = f', or take it from the names of runs: --run="{pattern}"' if pattern else ""
        return (
            f"{self._source.name}: no column is called {part} or similar (columns: {columns});"
            f" name it by --{part}=COLUMN{names}"
        )

    def _pattern(self) -> str:
        """A pattern to be advised where there are names for it; "" where there are none."""
        usual_pattern = "{arm}_s{seed}"
        if isinstance(self._source, FromNames):
            return usual_pattern
        columns = self._source.columns
        column = usual("run", columns)
        if column is None and self._asked.arm is not None:
            column = self._find(self._asked.arm)
        if column is None:
            return ""
        found = run_names.guess([text for text in self._source.sample[column] if text])
        if found is not None:
            return found.text
        return usual_pattern if plain(column) in USUAL["run"] else ""

    def names_of_runs(self, item: str | None, used: Iterable[str | None]) -> str | None:
        """The column that names runs, where it is not known as something else."""
        if isinstance(self._source, FromNames):
            column = self._source.name_column
            return column if column != FILE or FILE in self._source.columns else None
        if item is not None:  # a name among items may be that of an item
            return None
        return usual("run", [name for name in self._source.columns if name not in set(used)])

    def state(self, used: Iterable[str | None]) -> str | None:
        """The column that says how a run ended."""
        texts = [name for name in self._source.columns if name not in set(used)]
        return usual("state", [name for name in texts if not self._numeric(name)])

    def scores(self, has_view: bool) -> tuple[tuple[str | None, str | None], tuple[str, ...]]:
        """((the column that names metrics, the metric wanted), columns of scores)."""
        asked = self._asked
        texts = [name for name in self._free if not self._numeric(name)]
        metrics = usual("metric", texts)
        if asked.value is not None:
            value = self.one("value")
            return self._of_value(metrics, has_view, () if value is None else (value,))
        if asked.metric is not None:
            columns = self._metric_columns(asked.metric)
            if columns:
                if has_view and len(columns) > 1:
                    self._mistakes.append(
                        f"--metric={asked.metric}: with a column of views one metric is judged"
                    )
                return (None, None), columns
            if metrics is None:
                self._mistakes.append(self._absent("metric", asked.metric))
                return (None, None), ()
        usual_value = usual("value", self._free)
        if usual_value is not None:
            values = (usual_value,)
        else:
            values = tuple(name for name in self._free if self._is_score(name))
            left = [name for name in self._free if name != metrics]
            values = values or (tuple(left) if len(left) == 1 else ())
        return self._of_value(metrics, has_view, values)

    def _metric_columns(self, text: str) -> tuple[str, ...]:
        names = [text] if self._find(text) else text.split(",")
        found = [self._find(name) for name in names]
        return tuple(name for name in found if name is not None) if all(found) else ()

    def _is_score(self, name: str) -> bool:
        steps = USUAL["step"]
        return not no_score(name) and plain(name) not in steps and self._numeric(name)

    def _of_value(
        self, metrics: str | None, has_view: bool, values: tuple[str, ...]
    ) -> tuple[tuple[str | None, str | None], tuple[str, ...]]:
        name, columns = self._source.name, ", ".join(columns_of(self._source))
        if not values and self._asked.value is None:
            self._mistakes.append(
                f"{name}: no column has scores (columns: {columns}); name it by --metric=COLUMN"
            )
        if (has_view or metrics is not None) and len(values) > 1:
            self._mistakes.append(
                f"{name}: several columns may be the score: {', '.join(values)}; choose by"
                " --metric=COLUMN"
            )
        wanted = self._asked.metric if metrics is not None else None
        return (metrics, wanted), values


def check_at(text: str | None, mistakes: list[str]) -> Literal["last", "best"] | int:
    """Which of several steps of a run counts; "last", with a line in `mistakes`, where wrong."""
    if text is None or text == "last":
        return "last"
    if text == "best":
        return "best"
    with collecting(mistakes):
        if not text.isdecimal():
            raise UserErrors([f"--at={text}: must be last, best or a step"])
        return int(text)
    return "last"
