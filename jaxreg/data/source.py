"""A data set as one object: its settings, how it is drawn, and what its numbers mean.

A new one is one file and one line of `jaxreg.data.SOURCES`.

    @dataclasses.dataclass(frozen=True)
    class Settings:
        seed: int
        num_train: int = setting(256, "sentences", minimum=1)
        noise_rate: float | int = setting(0.0, "a share of labels", maximum=1.0)

        def __post_init__(self):
            check_settings(self)

    SOURCE = Source(name="mine", what="one line", settings=Settings, splits=("train", "validation"),
                    views=VIEWS, primary="validation", draw=draw_splits, legend=lambda settings:
                    Legend(...), check=check_leaks)

The config's data section has the settings as its fields; files, content hash, checks and
`jaxreg list` follow from the source. A source in a person's own file works the same; see `version`.
"""

import dataclasses
import functools
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from jaxreg.data.dataset import Answers, Dataset, Split, View
from jaxreg.data.row import Encoded, encode_row
from jaxreg.syntax import source_digest

_NONE = np.zeros(0, np.int32)

Variants = tuple[Int32[np.ndarray, "n k t"], Int32[np.ndarray, "n k"]]
"""Rewritten training sentences: tokens and query_position; 0 and -1 without a variant."""


def setting(
    default: object,
    unit: str,
    *,
    minimum: float | int = 0,
    maximum: float | int | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A field of a settings class: its default, unit and range.

    A bool is a flag, an int a whole number, a float a real one, a str one of `choices` or, without
    choices, any text; both ends of the range are allowed.
    """
    return dataclasses.field(
        default=default,
        metadata={"unit": unit, "minimum": minimum, "maximum": maximum, "choices": choices},
    )


def fields_of(settings: type) -> dict[str, dataclasses.Field]:
    """The settings by name, without the seed."""
    return {field.name: field for field in dataclasses.fields(settings) if field.name != "seed"}


def check_settings(settings: Any, *more: str) -> None:
    """Checks that each setting lies in the range that its field declares.

    Args:
      settings: an instance of a settings class.
      more: further mistakes, one line each; empty ones do not count.

    Raises:
      ValueError: one line per mistake, naming the config field.
    """
    mistakes = [] if settings.seed >= 0 else [f"seed is {settings.seed!r}; it must be at least 0"]
    for name, field in fields_of(type(settings)).items():
        wanted = _wanted(field, getattr(settings, name))
        if wanted:
            mistakes.append(f"data.{name} is {getattr(settings, name)!r}; it must be {wanted}")
    mistakes += [line for line in more if line]
    if mistakes:
        raise ValueError("\n".join(mistakes))


def _wanted(field: dataclasses.Field, value: object) -> str:
    """What the value should be; "" if it is right."""
    rule = field.metadata
    if rule["choices"] is not None:
        return "" if value in rule["choices"] else f"one of: {', '.join(rule['choices'])}"
    if isinstance(field.default, str):
        return "" if isinstance(value, str) else "a text"
    if isinstance(field.default, bool):
        return "" if isinstance(value, bool) else "True or False"
    kinds = int if isinstance(field.default, int) else (int, float)
    low, high = rule["minimum"], rule["maximum"]
    is_number = isinstance(value, kinds) and not isinstance(value, bool) and isfinite(value)
    if is_number and low <= value and (high is None or value <= high):
        return ""
    return f"at least {low}" if high is None else f"from {low} to {high}"


@dataclasses.dataclass(frozen=True, eq=False)
class Legend:
    """What the numbers of the splits mean, as in `Dataset`. With a foil chance is one half."""

    tokens: tuple[str, ...]
    outputs: tuple[str, ...]
    templates: tuple[str, ...]
    cue_names: tuple[str, ...] = ()
    tag_names: tuple[str, ...] = ()
    fresh_tokens: np.ndarray = dataclasses.field(default_factory=lambda: _NONE)
    fresh_like: np.ndarray = dataclasses.field(default_factory=lambda: _NONE)
    chance: float | int = 0.5
    grid: tuple[int, int] | None = None


def nothing_to_check(splits: dict[str, Split], settings: Any) -> None:
    """No check besides the one that splits are disjoint."""


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One data set.

    Attributes:
      name: the value of config.data.dataset.
      what: one line for `jaxreg list`.
      settings: a frozen dataclass; the first field is seed, the others are made by `setting`,
        num_train (rows of the training split), num_eval and length (positions of a row) among them.
      splits: names of the splits that `draw` gives, "train" and "validation" among them.
      views: what is reported, in order, "train" and "validation" among them; those without rows are
        left out.
      primary: the view that a comparison should judge.
      draw: settings -> splits by name, a pure function. Raises ValueError, one line per mistake,
        where nothing can be drawn.
      legend: settings -> what the numbers mean; does not draw.
      check: (splits, settings) -> None; raises LeakError where something held out is found where it
        must not be.
      version: raise it with anything that changes what a seed draws. None: the syntax tree of the
        file of `draw` is used, so that files of an older draw are never read; right for a person's
        own file.
      content: word lists and the like that a draw follows from besides its settings, JSON-able, for
        the content hash.
      address: settings -> content hash, instead of the usual one.
      encode: (text, positions of a row) -> the text as a row; raises ValueError for unknown words.
        None: word by word, as `row.encode_row` does.
      example: the default sentence of `inspect`; None: the first training row.
      rewritings: kinds of rewritten training sentences that there are, such as "synonym".
      rewrite: (dataset, kinds, number for each sentence) -> kind -> tokens [n, K, T] and
        query_position [n, K]; there where `rewritings` is not empty.
      pathways: name of a cut -> view, for the report's section on several pathways.
      same_shape: settings that change which rows are drawn, but neither sizes nor words. Draws that
        differ in others are trained by separate programs.
      answers: "query": a row has one answer, read at its query; "every_position": a row is asked
        for the next token at every position (`jaxreg.data.next_token`), its outputs are its tokens,
        it has no cues, and its chance and loss of a guess are computed from the training split.
      in_files: the rows stay in a person's own files and are read when they are asked for
        (`jaxreg.data.rows`): `draw` is cheap, nothing is kept in `cache_dir`, and `check` alone
        looks for rows in two splits. `address` has the files' content in it.
      located: settings that say where those files are. They are no part of a member's address.
      used: settings -> one line on how much of a person's own files a draw takes.
      cause: settings -> one line that says why nothing can be drawn, better than `draw` does; None
        where it knows no better. Raises ValueError as `draw` does.
    """

    name: str
    what: str
    settings: type
    splits: tuple[str, ...]
    views: tuple[View, ...]
    primary: str
    draw: Callable[[Any], dict[str, Split]]
    legend: Callable[[Any], Legend]
    check: Callable[[dict[str, Split], Any], None] = nothing_to_check
    version: int | None = None
    content: Callable[[], Any] = dict
    address: Callable[[Any], str] | None = None
    same_shape: tuple[str, ...] = ()
    encode: Callable[[str, int], Encoded] | None = None
    example: str | None = None
    rewritings: tuple[str, ...] = ()
    rewrite: Callable[[Dataset, Sequence[str], int], Mapping[str, Variants]] | None = None
    pathways: Mapping[str, str] = dataclasses.field(default_factory=dict)
    answers: Answers = "query"
    in_files: bool = False
    located: tuple[str, ...] = ()
    used: Callable[[Any], str] | None = None
    cause: Callable[[Any], str | None] | None = None

    def __post_init__(self):
        """Raises ValueError where the parts do not fit."""
        names = [view.name for view in self.views]
        wanted = (
            (("num_train", "num_eval", "length"), fields_of(self.settings)),
            (("train", "validation", self.primary), names),
            (("train", "validation", *(view.split for view in self.views)), self.splits),
        )
        missing = [name for needed, there in wanted for name in needed if name not in there]
        if missing:
            raise ValueError(
                f"data set {self.name}: there is no setting, view or split {missing[0]!r}"
            )
        cut = [view.name for view in self.views if view.cut or view.fresh]
        if self.answers == "every_position" and (cut or self.rewritings):
            which = f"view {cut[0]!r} cuts or renews" if cut else "it rewrites"
            raise ValueError(
                f"data set {self.name}: {which} what one query reads, and every position is asked"
            )

    def load(self, *, seed: int, cache_dir: str | os.PathLike, **settings: Any) -> Dataset:
        """The data set as one seed draws it, from files in `cache_dir` that are made if missing.

        Raises:
          ValueError: impossible settings, one line each, naming the field; or a `cache_dir` that is
            not local.
          LeakError: a sentence in two splits, or something held out in training.
        """
        own = self.settings(seed=seed, **settings)
        if self.in_files:
            return self.dataset(self.draw(own), own)
        # Imported here: importing tensorflow_datasets takes half a second.
        from jaxreg.data import cache

        return self.dataset(cache.load(self, own, cache_dir), own)

    def preview(self, **settings: Any) -> Dataset:
        """The draw of seed 0 without files, to check settings and views, which no seed changes."""
        own = self.settings(seed=0, **settings)
        return self.dataset(self.draw(own), own)

    def dataset(self, splits: dict[str, Split], settings: Any) -> Dataset:
        """Splits with all that is needed to read and report them, checked.

        Raises:
          LeakError: a sentence in two splits, or something held out in training.
        """
        dataset = Dataset(
            name=self.name,
            seed=settings.seed,
            splits=splits,
            views=self.views,
            primary=self.primary,
            answers=self.answers,
            content_hash=self.content_hash(settings),
            **vars(self.legend(settings)),
        )
        if not self.in_files:  # that would read every row
            dataset.check_disjoint()
        self.check(splits, settings)
        return dataset.without_empty_views()

    def content_hash(self, settings: Any) -> str:
        """SHA-256 of everything that the splits follow from, in hexadecimal."""
        if self.address is not None:
            return self.address(settings)
        own = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
        for name, field in fields_of(self.settings).items():
            if isinstance(field.default, float):
                own[name] = float(own[name])
        content = {"dataset": self.name, "version": self._version, "content": self.content()}
        content["settings"] = own
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def row_of(self, text: str | None, dataset: Dataset) -> tuple[tuple[str, ...], Encoded]:
        """(the words to show, as they were typed; the sentence as a row of tokens).

        Args:
          text: a sentence; None: the data set's example.
          dataset: a draw of this source.

        Raises:
          ValueError: words that are not known.
        """
        text = self.example if text is None else text
        if self.encode is None or text is None:
            row = encode_row(text, dataset)
            return row.words, row
        typed = (word.strip(".,;:!?\"'()") for word in text.split())
        shown = tuple(word for word in typed if word)
        return shown, self.encode(text, dataset.splits["train"].tokens.shape[1])

    def defaults(self) -> dict[str, Any]:
        """The settings without the seed: name -> default."""
        return {name: field.default for name, field in fields_of(self.settings).items()}

    @functools.cached_property
    def _version(self) -> int | str:
        if self.version is not None:
            return self.version
        return source_digest(Path(inspect.getfile(inspect.unwrap(self.draw))).read_bytes())


def generator(dataset: str, seed: int, *names: object) -> np.random.Generator:
    """The random numbers of one purpose, from (data set, seed, names), independent of others."""
    text = "/".join(map(str, (dataset, seed, *names)))
    words = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], "<u8")
    return np.random.Generator(np.random.Philox(key=words.astype(np.uint64)))


Sources = Mapping[str, Source]
"""Name -> data set."""
