"""Attention of a trained model for any sentence, and what one training step dropped from it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxreg.attention import masks
from jaxreg.data import Dataset, Encoded, batch_indices
from jaxreg.errors import DONE, UserErrors, printable
from jaxreg.probe import attention as probe
from jaxreg.probe import sampling
from jaxreg.study.commands import trained_run
from jaxreg.study.commands.trained_run import TrainedMember
from jaxreg.study.design.components import SOURCES
from jaxreg.study.report import figures
from jaxreg.study.report.example_sentence import RATE, bits_of

TINY = 0.005
"""Weights below it are printed as 0.00 without having been dropped."""
WIDEST = 10_000
"""Characters of a line, more than any sentence needs."""


@dataclasses.dataclass(frozen=True)
class Matrices:
    """weights: [N, H, T, T], evaluation mode. kept: bool [N, H, T, T]. allowed: bool [T, T], False
    where a causal model may not attend. scale: of kept weights.

    words: T words as they were typed. query: the verb's position, -1 without a verb. answer: what
    the model says, or None.
    example: the position in the step's batch whose masks these are. real: whether the sentence
    really stood there.
    text: as it was typed; None: the words with blanks. following: what the model says next, where
    it was asked for the next token.
    """

    weights: np.ndarray
    kept: np.ndarray
    allowed: np.ndarray
    scale: float
    words: tuple[str, ...]
    query: int
    answer: str | None
    example: int
    real: bool
    text: str | None = None
    following: str | None = None

    @property
    def nothing_dropped(self) -> bool:
        """Whether the step left the weights as they were: a rate of 0, or no dropout."""
        return self.scale == 1.0 and bool(self.kept[:, :, self.allowed].all())

    @property
    def title(self) -> str:
        """The sentence on one line."""
        return " ".join(self.words) if self.text is None else printable(self.text)


def matrices(workdir: Path, arm: str, seed: int, step: int, text: str | None) -> Matrices:
    """A trained member's matrices for a sentence, with one step's masks computed from the seed.

    Without a text: the essay's sentence, or the first training sentence of a data set that does not
    know its words.

    Raises:
      UserErrors: the member is not trained yet, or the step was never made.
    """
    member = trained_run.read(workdir).member(arm, seed)
    spec, record, dataset = member.spec, member.record, member.dataset
    if step >= record.meta["last_step"]:
        raise UserErrors(
            [
                f"--step={step}: arm {arm!r} at seed {seed} made steps 0 to"
                f" {record.meta['last_step'] - 1}"
            ]
        )
    next_tokens = dataset.answers == "every_position"
    shown, sentence = _window(member, text) if next_tokens else encoded(dataset, text)
    model, params = member.model, member.params
    length, train = len(sentence.words), spec.config["train"]
    weights = np.asarray(probe.attention_maps(model, params, jnp.asarray(sentence.tokens[None])))[
        :, 0, :, :length, :length
    ]
    split = dataset.splits["train"]
    [batch] = batch_indices(
        seed=spec.run_seed,
        num_examples=len(split),
        batch_size=train["batch_size"],
        first_step=step,
        num_steps=1,
    )
    there = np.flatnonzero((split.tokens[batch] == sentence.tokens).all(1))
    example = int(there[0]) if there.size else 0
    rate = spec.config["model"][RATE] or 0.0
    kept = probe.replay_masks(
        rate,
        spec.run_seed,
        np.asarray([step]),
        np.asarray([example]),
        model.num_layers,
        model.num_heads,
        len(sentence.tokens),
        bits_of(spec),
    )[0, :, :, :length, :length]
    answer = None
    if sentence.query_position >= 0 and sentence.plural >= 0:
        probability = probe.choice_probability(
            model,
            params,
            jnp.asarray(sentence.tokens[None]),
            sentence.query_position,
            sentence.singular,
            sentence.plural,
        )
        singular = float(probability[0]) > 0.5
        sure = max(float(probability[0]), 1 - float(probability[0]))
        answer = (
            f"{dataset.outputs[sentence.singular if singular else sentence.plural]}"
            f" ({100 * sure:.0f}%)"
        )
    return Matrices(
        weights,
        kept,
        np.tri(length, k=0 if spec.config["model"]["causal"] else length, dtype=bool),
        float(masks.keep_scale(rate)),
        shown,
        sentence.query_position,
        answer,
        example,
        bool(there.size),
        text if next_tokens else None,
        next_in_words(member, sentence.tokens[:length]) if next_tokens else None,
    )


MOST_NEXT = 5
"""Next tokens that are named."""


def next_in_words(member: TrainedMember, ids: np.ndarray) -> str:
    """The most probable tokens after some ids with their probabilities: "'e' 41%, ' ' 12%".

    Raises:
      UserErrors: the model continues no text.
    """
    try:
        found = sampling.next_probabilities(member.model, member.params, ids, window=member.window)
    except ValueError as error:
        raise UserErrors(str(error).splitlines()) from None
    probabilities = np.asarray(found)
    most = np.argsort(-probabilities[1:], kind="stable")[:MOST_NEXT] + 1
    named = (
        f"{member.spelling.name(n)} {_percent(float(probabilities[n]))}" for n in most.tolist()
    )
    return ", ".join(named)


def _percent(probability: float) -> str:
    """Such as "41%" and "0.3%"."""
    return f"{100 * probability:.0f}%" if probability >= 0.0095 else f"{100 * probability:.1g}%"


def typed(member: TrainedMember, text: str) -> np.ndarray:
    """The ids of a text.

    Raises:
      UserErrors: no token, or one that the data set has not.
    """
    try:
        return member.encode(text)
    except ValueError as error:
        raise UserErrors([f"--text: {error}"]) from None


def _window(member: TrainedMember, text: str | None) -> tuple[tuple[str, ...], Encoded]:
    """(tokens to show, the text as a row) of data whose every position is asked.

    Raises:
      UserErrors: no text, one that is too long, or one of unknown tokens.
    """
    dataset, length = member.dataset, member.window
    if text is None:
        raise UserErrors(
            [f"--text: is missing; the rows of {dataset.name} are {length} tokens long, give a few"]
        )
    ids = typed(member, text)
    if len(ids) > length:
        raise UserErrors([f"--text: {text!r} has {len(ids)} tokens; 1 to {length} fit"])
    tokens = np.zeros(length, np.int32)
    tokens[: len(ids)] = ids
    words = tuple(dataset.tokens[token] for token in ids)
    return words, Encoded(tokens, words, -1, -1, -1, -1, ())


def encoded(dataset: Dataset, text: str | None) -> tuple[tuple[str, ...], Encoded]:
    """(words to show, the sentence as a row) in the words of a data set.

    Raises:
      UserErrors: the data set has no words, or not these.
    """
    if dataset.splits["train"].features is not None:
        raise UserErrors([f"{dataset.name} has no words: there is no sentence to look at"])
    try:
        return SOURCES[dataset.name].row_of(text, dataset)
    except ValueError as error:
        raise UserErrors([f"--text: {error}"]) from None


def inspect(
    workdir: Path,
    arm: str,
    seed: int,
    step: int,
    text: str | None,
    layer: int | None,
    head: int | None,
    output: Path | None,
    console: Console,
) -> int:
    """Prints the matrices in colour, writes a PNG if asked to, and returns the exit code."""
    found = matrices(workdir, arm, seed, step, text)
    layers = _chosen("--layer", layer, found.weights.shape[0])
    heads = _chosen("--head", head, found.weights.shape[1])
    console.print(
        Text.assemble((found.title, "bold"), f"   arm {arm}, seed {seed}, {_moment(found, step)}")
    )
    if found.answer is not None:
        console.print(f"the model says: [bold]{found.answer}[/bold]")
    if found.following is not None:
        console.print(Text.assemble("the model says next: ", (found.following, "bold")))
    console.print(_dropped_in_words(found))
    for n in layers:
        for h in heads:
            for table in _tables(found, n, h, console):
                console.print(table, crop=False)  # of a long sentence no column is left out
    later = "" if found.allowed.all() else "   [dim]·[/dim] later, not attended"
    crosses = "" if found.nothing_dropped else "[red]×[/red] dropped by this step   "
    console.print(
        f"{crosses}[dim]0.00[/dim] tiny, not dropped{later}   rows: who looks; columns: at whom"
    )
    if output is not None:
        draw(found, layers, heads, f"{arm}, seed {seed}, {_moment(found, step)}", output)
        console.print(f"picture: {output}")
    return DONE


def _moment(found: Matrices, step: int) -> str:
    return "evaluation" if found.nothing_dropped else f"masks of step {step}"


def _dropped_in_words(found: Matrices) -> str:
    """Which masks these are, and how much they dropped."""
    if found.nothing_dropped:
        return "no attention dropout: every step left the connections as they are"
    where = (
        "where the sentence stood in that step's batch"
        if found.real
        else (
            "the sentence was not in that step's batch: these are the masks of the batch's first"
            " place"
        )
    )
    dropped = 1 - found.kept[:, :, found.allowed].mean()
    return (
        f"example {found.example}: {where}; {100 * dropped:.0f}% of the connections dropped, kept"
        f" ones times {found.scale:.3f}"
    )


def _chosen(name: str, index: int | None, count: int) -> Sequence[int]:
    if index is None:
        return range(count)
    if index >= count:
        raise UserErrors([f"{name}={index}: the model has {count}, 0 to {count - 1}"])
    return [index]


def _tables(found: Matrices, layer: int, head: int, console: Console) -> list[Table]:
    """One head before dropping and after: side by side where there is room, else below."""
    name = f"layer {layer}, head {head}: trained"
    weights, kept = found.weights[layer, head], found.kept[layer, head]
    before = _cells(found, weights, np.zeros_like(kept))
    if found.nothing_dropped:
        return [_table(found, name, before)]
    after = _cells(found, weights * found.scale, ~kept)
    both = [[*left, Text("|"), *right] for left, right in zip(before, after, strict=True)]
    wide = _table(found, f"{name}, and as this step left it", both, copies=2)
    if _width(wide, console) <= console.width:
        return [wide]
    return [_table(found, name, before), _table(found, "as this step left it", after)]


def _width(table: Table, console: Console) -> int:
    """Characters that a table takes, however narrow the terminal is."""
    return console.measure(table, options=console.options.update(max_width=WIDEST)).maximum


def _table(found: Matrices, title: str, rows: Sequence[Sequence[Text]], copies: int = 1) -> Table:
    """A row for each word that looks, and a column for each that is looked at."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True, min_width=max(map(len, found.words)))
    for copy in range(copies):
        if copy:
            table.add_column(" ")
        for word in found.words:
            table.add_column(Text(word[:8]), justify="right", no_wrap=True, min_width=4)
    for index, (word, cells) in enumerate(zip(found.words, rows, strict=True)):
        table.add_row(Text(word, "bold" if index == found.query else ""), *cells)
    return table


def _cells(found: Matrices, weights: np.ndarray, dropped: np.ndarray) -> list[list[Text]]:
    return [
        [_cell(*each) for each in zip(*row, strict=True)]
        for row in zip(weights.tolist(), dropped.tolist(), found.allowed.tolist(), strict=True)
    ]


def _cell(weight: float, is_dropped: bool, may_attend: bool) -> Text:
    if not may_attend:
        return Text("·", "dim")
    return Text("×", "bold red") if is_dropped else _weight(weight)


def _weight(weight: float) -> Text:
    style = "dim" if weight < TINY else "bold" if weight >= 0.5 else ""
    return Text(f"{weight:.2f}", style)


def draw(
    found: Matrices, layers: Sequence[int], heads: Sequence[int], title: str, path: Path
) -> None:
    """Writes the matrices as a PNG: trained ones above; below, one step's, drops crossed out.

    Where nothing was dropped there are only the trained ones.
    """
    copies = 1 if found.nothing_dropped else 2
    rows, columns = copies * len(layers), len(heads)
    with figures.style({}):
        figure = figures.new((2.6 * columns + 1, 2.6 * rows + 1), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        figure.suptitle(f"{found.title}\n{title}")
        for i, layer in enumerate(layers):
            for j, head in enumerate(heads):
                weights, kept = found.weights[layer, head], found.kept[layer, head]
                name = f"layer {layer}, head {head}: trained"
                _panel(axes[copies * i, j], weights, found.words, name, None)
                if found.nothing_dropped:
                    continue
                after = np.where(kept, weights * found.scale, 0)
                dropped = ~kept & found.allowed
                _panel(axes[2 * i + 1, j], after, found.words, "after this step's drops", dropped)
        path.write_bytes(figures.png(figure, dpi=120))


def _panel(
    axis: Any, weights: np.ndarray, words: Sequence[str], title: str, dropped: np.ndarray | None
) -> None:
    axis.imshow(weights, vmin=0, vmax=1, cmap="Blues")
    axis.set_title(title, fontsize=8)
    axis.set_xticks(range(len(words)), words, rotation=60, fontsize=7)
    axis.set_yticks(range(len(words)), words, fontsize=7)
    if dropped is not None:
        y, x = np.nonzero(dropped)
        axis.scatter(x, y, marker="x", color="#c0392b", s=18, linewidths=1)
