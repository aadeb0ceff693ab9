"""A data set: splits of arrays, and the views that are reported; a `Source` draws and loads it."""

import dataclasses
import functools
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int32

from jaxreg.data.rows import Table
from jaxreg.data.unigram import Unigram

PAD = 0  # the token id of padding, in every data set

Answers = Literal["query", "every_position"]
"""What is asked of a row: one answer, read at its query; or the next token at every position."""


class LeakError(ValueError):
    """Something held out was found where it must not be."""


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Sentences as arrays: n rows, t positions, c named cues, g tags, f features.

    Attributes:
      tokens: token ids; 0 is padding, before and after the sentence.
      query_position: where the answer is read out; None where every position is asked.
      label: the right answer, an index into `Dataset.outputs`; where every position is asked, one
        of each position, -1 at those that have none.
      foil: the wrong answer it is compared with, likewise; -1: with all others, a hit is the
        largest of all outputs. None where every position is asked: with all others.
      template: the sentence's frame, an index into `Dataset.templates`.
      cues: the position of each cue of `Dataset.cue_names`, -1 where the sentence has none.
      tags: one column per name of `Dataset.tag_names`.
      features: what stands at each position where it is no word, such as a patch of an image; then
        every token is 1.
    """

    tokens: Int32[Table, "n t"]
    query_position: Int32[np.ndarray, " n"] | None
    label: Int32[np.ndarray, " n"] | Int32[Table, "n t"]
    foil: Int32[np.ndarray, " n"] | None
    template: Int32[np.ndarray, " n"]
    cues: Int32[np.ndarray, "n c"]
    tags: Bool[np.ndarray, "n g"]
    features: Float32[Table, "n t f"] | None = None

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.tokens)

    def arrays(self) -> dict[str, Table]:
        """The arrays by name, without those that there are none of."""
        return {name: array for name, array in vars(self).items() if array is not None}

    def take(self, rows: np.ndarray) -> "Split":
        """Some rows, by index or mask, in that order."""
        chosen = {name: array[rows] for name, array in self.arrays().items()}
        return dataclasses.replace(self, **chosen)


@dataclasses.dataclass(frozen=True)
class View:
    """One reported number: accuracy on some rows of a split, perhaps with connections cut.

    Attributes:
      name: the key in results.json.
      title: for tables and pictures.
      split: which split.
      cut: names of cues; the connection from the query to each is removed in every layer and head.
      subset: None (all rows), a tag's name, or "template:" and a template's name.
      fresh: whether the embedding rows of `Dataset.fresh_tokens` are replaced by fresh random ones.
      chance: accuracy of a guess on it; None: the data set's.
      at_chance: the reason why more than chance would show a leak; empty where it would not.
    """

    name: str
    title: str
    split: str
    cut: tuple[str, ...] = ()
    subset: str | None = None
    fresh: bool = False
    chance: float | int | None = None
    at_chance: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """All splits that one seed draws, and what is needed to read and report them.

    Attributes:
      name: the key in `jaxreg.data.SOURCES`.
      seed: what the splits were drawn from.
      splits: by name.
      views: what is reported, in the order of the columns; each has at least one row.
      tokens: the vocabulary; the index is the id, and id 0 is padding.
      outputs: the possible answers; the index is the label.
      templates: names of the sentence frames.
      cue_names: the columns of `Split.cues`.
      tag_names: the columns of `Split.tags`.
      fresh_tokens: ids that never occur in training and get fresh embeddings in views with `fresh`.
      fresh_like: ids whose trained embeddings set the scale of the fresh ones.
      content_hash: SHA-256 of everything the splits follow from: grammar, settings and seed.
      primary: the view that a comparison should judge.
      chance: accuracy of a guess, where a view does not say otherwise.
      answers: what is asked of a row.
      grid: rows and columns of the patches that a row begins with; None where it has none.
    """

    name: str
    seed: int
    splits: dict[str, Split]
    views: tuple[View, ...]
    tokens: tuple[str, ...]
    outputs: tuple[str, ...]
    templates: tuple[str, ...]
    cue_names: tuple[str, ...]
    tag_names: tuple[str, ...]
    fresh_tokens: Int32[np.ndarray, " f"]
    fresh_like: Int32[np.ndarray, " l"]
    content_hash: str
    primary: str = "validation"
    chance: float | int = 0.5
    answers: Answers = "query"
    grid: tuple[int, int] | None = None

    def view_weights(self, view: View) -> Float32[np.ndarray, " n"]:
        """1 for the rows of the view's split that the view counts, 0 for the others.

        Raises:
          ValueError: the view's subset is neither a tag nor "template:" and a known template.
        """
        split = self.splits[view.split]
        if view.subset is None:
            chosen = np.ones(len(split), bool)
        elif view.subset in self.tag_names:
            chosen = split.tags[:, self.tag_names.index(view.subset)]
        elif view.subset.startswith("template:") and view.subset[9:] in self.templates:
            chosen = split.template == self.templates.index(view.subset[9:])
        else:
            raise ValueError(
                f"view {view.name}: subset {view.subset!r} is none of the tags {self.tag_names} "
                f"and no template: of {self.templates}"
            )
        return chosen.astype(np.float32)

    def chance_of(self, view: View) -> float:
        """Accuracy of a guess on a view; of next tokens, of the most frequent one in training."""
        if self.unigram is not None and view.chance is None:
            return self._guesses_of(view)[0]
        return float(self.chance if view.chance is None else view.chance)

    def guess_loss_of(self, view: View) -> float:
        """Loss in nats of a guess on a view: uniform over the outputs, or the unigram model's."""
        if self.unigram is not None:
            return self._guesses_of(view)[1]
        return float(np.log(len(self.outputs)))

    @functools.cached_property
    def unigram(self) -> Unigram | None:
        """How often each token is the answer in training, where every position is asked."""
        if self.answers == "query":
            return None
        return Unigram.of(self.splits["train"].label, len(self.outputs))

    def _guesses_of(self, view: View) -> tuple[float, float]:
        """Accuracy and loss of the unigram model on a view; computed once."""
        if view not in self._guesses:
            assert self.unigram is not None, "every position is asked"
            labels = self.splits[view.split].label
            if view.subset is not None:
                labels = labels[self.view_weights(view) > 0]
            self._guesses[view] = self.unigram.accuracy(labels), self.unigram.loss(labels)
        return self._guesses[view]

    @functools.cached_property
    def _guesses(self) -> dict[View, tuple[float, float]]:
        return {}

    def without_empty_views(self) -> "Dataset":
        """The same without the views that count no row."""
        return dataclasses.replace(
            self, views=tuple(view for view in self.views if self.view_weights(view).any())
        )

    def sentence(self, split: str, row: int) -> str:
        """The words of one row without padding: "the cat SIT on the mat" (SIT is a stem)."""
        return self._words(self.splits[split].tokens[row])

    def check_disjoint(self) -> None:
        """Checks that no sentence with the same answer is in two splits, wherever it starts.

        Raises:
          LeakError: naming the two splits and the sentence.
        """
        names = tuple(self.splits)
        rows = np.concatenate([_content(self.splits[name]) for name in names])
        owner = np.repeat(np.arange(len(names)), [len(self.splits[name]) for name in names])
        # Rows as opaque bytes sort several times faster than np.unique(axis=0).
        keys = np.ascontiguousarray(rows).view(f"V{rows.itemsize * rows.shape[1]}").ravel()
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        leaked = np.flatnonzero(owner != owner[first][inverse])
        if leaked.size:
            row = leaked[0]
            answer = f" -> {self.outputs[rows[row, -1]]!r}" if self.answers == "query" else ""
            raise LeakError(
                f"{names[owner[first][inverse[row]]]} and {names[owner[row]]} share a sentence:"
                f" {self._words(rows[row, : self.splits[names[0]].tokens.shape[1]])!r}{answer}"
                f" ({leaked.size} shared in all)"
            )

    def _words(self, tokens: Int32[np.ndarray, " t"]) -> str:
        return " ".join(self.tokens[token] for token in tokens if token != PAD)


def _content(split: Split) -> Int32[np.ndarray, "n m"]:
    """Each row's tokens without its offset, its features and label, to tell sentences apart."""
    order = np.argsort(split.tokens == PAD, axis=1, kind="stable")
    label = split.label if split.label.ndim == 2 else split.label[:, None]
    parts = [np.take_along_axis(split.tokens, order, axis=1), label]
    if split.features is not None:
        moved = np.take_along_axis(split.features, order[..., None], axis=1)
        parts.insert(1, np.ascontiguousarray(moved).view(np.int32).reshape(len(split), -1))
    return np.concatenate(parts, axis=1)
