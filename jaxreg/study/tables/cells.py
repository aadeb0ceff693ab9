"""From a table and the part of each column to one score for each arm, seed and view."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64

from jaxreg.errors import nearest
from jaxreg.study.analysis.runs import Runs, Seed
from jaxreg.study.tables import leaving_out, unfinished
from jaxreg.study.tables.roles import Asked, Roles
from jaxreg.study.tables.table import MOST_SHOWN, Numbers, Table, Words

_FINISHED = ("finished", "completed", "complete", "done", "success", "succeeded", "ok")
MOST_NAMES = 10_000
"""Arms, and views: a column with more different names is something else."""


def runs_of(
    table: Table, roles: Roles, asked: Asked, mistakes: list[str], *, in_order: bool = False
) -> Runs | None:
    """One score for each arm, seed and view; None, with lines in `mistakes`, where there is none.

    Args:
      table: the columns of the roles.
      roles: what each column is.
      asked: which step counts, and what repeated seeds are.
      mistakes: gets the lines.
      in_order: the rows of a run follow one another in time: without a column of steps the last
        one counts.
    """
    return _Cells(table, roles, asked, mistakes, in_order).runs()


@dataclasses.dataclass(frozen=True)
class _Index:
    """The run of every row.

    Attributes:
      run: [rows], its place among the runs, which stand by arm, and then in order of the file.
      arm: [runs], its place in `arms`. seeds: of the runs.
      arms: names.
    """

    run: Int64[np.ndarray, " n"]
    arm: Int64[np.ndarray, " r"]
    seeds: tuple[Seed, ...]
    arms: tuple[str, ...]

    def name(self, run: int) -> str:
        """A run, for people."""
        return f"{self.arms[self.arm[run]]} seed {self.seeds[run]}"


class _Cells:
    def __init__(
        self, table: Table, roles: Roles, asked: Asked, mistakes: list[str], in_order: bool
    ):
        self._table, self._roles, self._asked = table, roles, asked
        self._mistakes, self._in_order = mistakes, in_order
        self._lines: list[str] = []
        self._has_two_runs = self._has_repeats = False
        self._last_steps: Float64[np.ndarray, " r"] | None = None

    def runs(self) -> Runs | None:
        """See `runs_of`."""
        before = len(self._mistakes)
        kept = self._wanted_rows()
        arms = _joined([self._table.words[name] for name in self._roles.arm], kept)
        seeds = _seeds(_picked(self._table.words[self._roles.seed], kept))
        self._check_names("arm", self._roles.arm, arms)
        self._check_names("seed", (self._roles.seed,), Words(seeds[0], tuple(map(str, seeds[1]))))
        named = len(self._mistakes) == before
        self._check_texts()
        step = self._roles.step
        if not named or (step is not None and self._table.numbers[step].num_texts):
            return None
        index = _index(arms, *seeds)  # with text among the scores, too: repeats are said besides
        names = self._view_names(kept)
        views = None if names is None else names.codes.astype(np.int64)
        if names is not None and len(names.words) > MOST_NAMES:
            self._mistakes.append(
                f"--view={','.join(self._roles.view)}: has {len(names.words):,} different names"
            )
            return None
        found: dict[str, Float64[np.ndarray, " r"]] = {}
        present: dict[str, Bool[np.ndarray, " r"]] = {}
        for column in self._roles.values:
            wanted = self._roles.metrics[1] or column
            words = (wanted,) if names is None else names.words
            numbers = _picked_numbers(self._table.numbers[column], kept)
            values, counts = self._cells(index, views, words, numbers, kept)
            found |= dict(zip(words, values.T, strict=True))
            present |= dict(zip(words, counts.T > 0, strict=True))
        if len(self._mistakes) > before:
            return None
        return self._ended(index, kept, self._of_arms(index, found, present))

    def _check_texts(self) -> None:
        """Text where numbers belong."""
        columns = [*self._roles.values, *([self._roles.step] if self._roles.step else [])]
        for name in columns:
            column = self._table.numbers[name]
            if column.num_texts:
                rows = [row for row, _ in column.texts]
                texts = ", ".join(repr(text[:30]) for _, text in column.texts[:3])
                where = self._table.where(rows, column.num_texts - len(rows))
                self._mistakes.append(
                    f"column {name}: has text where numbers belong: {texts} ({where})"
                    f"{_hint([text for _, text in column.texts])}"
                )

    def _wanted_rows(self) -> Int64[np.ndarray, " k"] | None:
        """The rows with the metric wanted; None for all."""
        column, wanted = self._roles.metrics
        if column is None or wanted is None:
            return None
        names = self._table.words[column]
        if wanted not in names.words:
            self._mistakes.append(
                f"--metric={wanted}: neither a column nor in column"
                f" {column}{nearest(wanted, names.words)}"
            )
            return None
        return np.flatnonzero(names.codes == names.words.index(wanted))

    def _check_names(self, part: str, columns: Sequence[str], names: Words) -> None:
        """Empty names, and far too many arms."""
        if "" in names.words:
            rows = np.flatnonzero(names.codes == names.words.index(""))
            if rows.size:
                where = self._table.where(
                    rows[:MOST_SHOWN].tolist(), max(0, rows.size - MOST_SHOWN)
                )
                self._mistakes.append(f"column {', '.join(columns)}: has no {part} in {where}")
        if part == "arm" and len(names.words) > MOST_NAMES:
            self._mistakes.append(
                f"column {', '.join(columns)}: has {len(names.words):,} different arms in"
                f" {names.codes.size:,} rows; is it another column? --arm=COLUMN"
            )

    def _view_names(self, kept: Int64[np.ndarray, " k"] | None) -> Words | None:
        """The view of every row; None where each column of scores is a view."""
        metrics, wanted = self._roles.metrics
        columns = self._roles.view
        if metrics is not None and wanted is None:
            several = len(set(self._table.words[metrics].words)) > 1
            columns = (metrics,) if not columns else (*columns, metrics) if several else columns
        if not columns:
            return None
        return _joined([self._table.words[name] for name in columns], kept)

    def _cells(
        self,
        index: _Index,
        views: Int64[np.ndarray, " n"] | None,
        names: Sequence[str],
        numbers: Numbers,
        kept: Int64[np.ndarray, " k"] | None,
    ) -> tuple[Float64[np.ndarray, "r v"], Int64[np.ndarray, "r v"]]:
        """(score, number of rows) of each run and view; NaN where it has none."""
        num_runs, num_views = len(index.seeds), len(names)
        cell = index.run if views is None else index.run * num_views + views
        rows = np.arange(cell.size)
        item = self._item(kept)
        if self._last_steps is None:
            self._last_steps = np.full(num_runs, -np.inf)
        of_run = self._check_runs(index, cell, numbers, kept, names)
        chosen = self._at_step(cell, (of_run, item), numbers, kept, names)
        if chosen is not None:
            self._note_steps(cell[chosen] // num_views, chosen, kept)
            rows = chosen
            cell, item = cell[rows], None if item is None else item[rows]
        values = numbers.values[rows]
        counts = np.bincount(cell, minlength=num_runs * num_views)
        where = rows if kept is None else kept[rows]
        if item is not None:
            self._check_items(index, cell, item, where, names)
        elif counts.max(initial=0) > 1 and not self._has_two_runs:
            self._repeats(index, cell, counts, where, names)
        with np.errstate(invalid="ignore"):
            sums = np.bincount(cell, weights=values, minlength=num_runs * num_views)
            means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        means[~np.isfinite(means)] = np.nan
        self._say_items(item, counts)
        shape = num_runs, num_views
        return means.reshape(shape), counts.reshape(shape)

    def _check_runs(
        self,
        index: _Index,
        cell: Int64[np.ndarray, " n"],
        numbers: Numbers,
        kept: Int64[np.ndarray, " k"] | None,
        names: Sequence[str],
    ) -> Int64[np.ndarray, " n"] | None:
        """The name of every row's run where one seed may be several runs, else None.

        Two runs of other names at one seed of an arm are a mistake, unless they are repeats.
        """
        if self._roles.run is None:
            return None
        column = _picked(self._table.words[self._roles.run], kept)
        code, held = column.codes.astype(np.int64), np.flatnonzero(~numbers.empty)
        first = np.full(len(index.seeds) * len(names), -1)
        first[cell[held[::-1]]] = code[held[::-1]]  # the last assignment holds
        others = held[code[held] != first[cell[held]]]
        if others.size and self._asked.repeats != "mean" and not self._has_two_runs:
            self._has_two_runs = True
            at = int(cell[others[0]])
            run, view = divmod(at, len(names))
            own = [column.words[i] for i in dict.fromkeys(code[held[cell[held] == at]].tolist())]
            on = f" on {names[view]}" if len(names) > 1 else ""
            more = np.unique(cell[others]).size - 1
            self._mistakes.append(
                f"{index.name(run)}{on} is {len(own)} runs of different names:"
                f" {_quoted(own)}{f', and so are {more:,} others' if more else ''}"
                f"{self._guess()}: say what tells them apart by --arm=COLUMN, --seed=COLUMN,"
                " --view=COLUMN or --run=PATTERN, or --repeats=mean where they are repeats"
            )
        return code if self._asked.repeats == "mean" else None  # else each seed is one run

    def _guess(self) -> str:
        return f" [{self._roles.guessed}]" if self._roles.guessed else ""

    def _note_steps(
        self,
        run: Int64[np.ndarray, " m"],
        chosen: Int64[np.ndarray, " m"],
        kept: Int64[np.ndarray, " k"] | None,
    ) -> None:
        """The last step of each run, to see which stopped early."""
        if self._roles.step is None or self._asked.at != "last":
            return
        assert self._last_steps is not None, "made before"
        steps = _picked_numbers(self._table.numbers[self._roles.step], kept).values[chosen]
        np.fmax.at(self._last_steps, run, steps)

    def _item(self, kept: Int64[np.ndarray, " k"] | None) -> Int64[np.ndarray, " n"] | None:
        if self._roles.item is None:
            return None
        return _picked(self._table.words[self._roles.item], kept).codes.astype(np.int64)

    def _at_step(
        self,
        cell: Int64[np.ndarray, " n"],
        parts: Sequence[Int64[np.ndarray, " n"] | None],
        numbers: Numbers,
        kept: Int64[np.ndarray, " k"] | None,
        names: Sequence[str],
    ) -> Int64[np.ndarray, " m"] | None:
        """The rows of the steps that count; None where every run has one row.

        Args:
          parts: what else has steps of its own: runs of other names at one seed, and items.
        """
        if self._roles.step is None and not self._in_order:
            if self._asked.at != "last":
                why = f"--at={self._asked.at}: there is no column of steps; --step=COLUMN"
                self._mistakes += [] if why in self._mistakes else [why]
            return None
        key = cell
        for part in parts:
            if part is not None and part.size:
                key = key * (int(part.max()) + 1) + part
        if not _repeated(key):
            if self._asked.at not in ("last", "best"):
                self._mistakes.append(f"--at={self._asked.at}: each run has one row, without steps")
            return None
        held = np.flatnonzero(~numbers.empty)
        if self._roles.step is None:
            steps = np.arange(cell.size, dtype=np.float64)
        else:
            steps = _picked_numbers(self._table.numbers[self._roles.step], kept).values
        chosen = _choose(key, steps, numbers.values, held, self._asked)
        if chosen.size == 0 and isinstance(self._asked.at, int):
            known = [f"{step:g}" for step in np.unique(steps[held])[:8]]
            self._mistakes.append(
                f"--at={self._asked.at}: no run has that step; steps: {', '.join(known)}"
            )
        self._say_steps(steps[chosen], names)
        return chosen

    def _say_steps(self, steps: Float64[np.ndarray, " k"], names: Sequence[str]) -> None:
        """How the steps were chosen."""
        of = f" ({names[0]})" if len(self._roles.values) > 1 else ""
        at = self._asked.at
        if self._roles.step is None:
            self._lines.append("several rows a run: the last one counts")
        elif isinstance(at, int):
            self._lines.append(f"several steps a run{of}: step {at:,} counts")
        elif at == "best":
            self._lines.append(
                f"several steps a run{of}: the best score counts, which is too good by chance;"
                " --at=last is not"
            )
        elif steps.size:
            low, high = steps.min(), steps.max()
            which = f"{high:g}" if low == high else f"from {low:g} to {high:g}: stopped early?"
            self._lines.append(f"several steps a run{of}: the last one counts, {which}")

    def _check_items(
        self,
        index: _Index,
        cell: Int64[np.ndarray, " n"],
        item: Int64[np.ndarray, " n"],
        where: Int64[np.ndarray, " n"],
        names: Sequence[str],
    ) -> None:
        """One row for each item of a run."""
        key = cell * (int(item.max(initial=0)) + 1) + item
        if self._asked.repeats == "mean" or not _repeated(key):
            return
        order = np.argsort(key, kind="stable")
        twice = np.sort(order[1:][key[order[1:]] == key[order[:-1]]])
        shown, more = where[twice[:MOST_SHOWN]].tolist(), max(0, twice.size - MOST_SHOWN)
        self._mistakes.append(
            f"column {self._roles.item}: an item stands twice in a run,"
            f" {index.name(int(cell[twice[0]]) // len(names))} ({self._table.where(shown, more)});"
            " --repeats=mean averages them"
        )

    def _say_items(
        self, item: Int64[np.ndarray, " n"] | None, counts: Int64[np.ndarray, " k"]
    ) -> None:
        used = counts[counts > 0]
        if item is None or not used.size:
            return
        self._lines.append(
            f"items are no runs: the {_span(used)} rows of each run and view are averaged first"
            f" ({self._roles.item})"
        )

    def _repeats(
        self,
        index: _Index,
        cell: Int64[np.ndarray, " n"],
        counts: Int64[np.ndarray, " k"],
        where: Int64[np.ndarray, " n"],
        names: Sequence[str],
    ) -> None:
        """Several rows of a seed: a mistake, unless they are repeats of one run."""
        several = np.flatnonzero(counts > 1)
        if self._asked.repeats == "mean":
            self._lines.append(
                f"repeats of a seed are averaged, {_span(counts[several])} rows each"
            )
            return
        if self._has_repeats:  # of another column of scores: once is enough
            return
        self._has_repeats = True
        first = int(several[0])
        run, view = divmod(first, len(names))
        rows = np.flatnonzero(cell == first)
        lines = self._table.where(where[rows[:MOST_SHOWN]].tolist(), max(0, rows.size - MOST_SHOWN))
        on = f" on {names[view]}" if len(names) > 1 else ""
        others = f", and so do {several.size - 1:,} others" if several.size > 1 else ""
        stands = (
            f"{index.name(run)}{on} stands {rows.size:,} times ({lines}){others}{self._guess()}"
        )
        advice = (
            "a seed is one run; --repeats=mean where rows are repeats of it, --item=COLUMN where"
            " they are test items, --step=COLUMN where they are steps, --view=COLUMN where they"
            " are views"
        )
        if self._identical(where[rows]):
            advice = (
                "these rows have the same scores; if they are one row written twice, delete one"
                f" of them; else {advice}"
            )
        self._mistakes.append(f"{stands}: {advice}")

    def _identical(self, rows: Int64[np.ndarray, " k"]) -> bool:
        """Whether all scores of some rows are the same."""
        found = [self._table.numbers[name].values[rows] for name in self._roles.values]
        return all(np.array_equal(each, np.full_like(each, each[0]), True) for each in found)

    def _of_arms(
        self,
        index: _Index,
        found: Mapping[str, Float64[np.ndarray, " r"]],
        present: Mapping[str, Bool[np.ndarray, " r"]],
    ) -> Runs:
        """By arm; a view without any row of an arm is none of that arm."""
        seeds, scores = {}, {}
        starts = np.searchsorted(index.arm, np.arange(len(index.arms) + 1))
        for at, arm in enumerate(index.arms):
            part = slice(int(starts[at]), int(starts[at + 1]))
            if part.start == part.stop:
                continue
            seeds[arm] = index.seeds[part]
            scores[arm] = {
                view: values[part] for view, values in found.items() if present[view][part].any()
            }
        return Runs(seeds, scores, tuple(dict.fromkeys(self._lines)))

    def _ended(self, index: _Index, kept: Int64[np.ndarray, " k"] | None, runs: Runs) -> Runs:
        """The runs, with those that did not end well as asked, and a warning of them."""
        if self._roles.state is not None:
            how, lines = self._bad_states(index, kept)
        else:
            how, lines = self._stopped_early(index), []
        runs = dataclasses.replace(runs, understood=(*lines, *runs.understood))
        found: dict[str, dict[Seed, str]] = {}
        gone = leaving_out.named(self._asked.without, runs.arms)
        for run, word in how.items():
            if index.arms[index.arm[run]] in gone:
                continue
            found.setdefault(index.arms[index.arm[run]], {})[index.seeds[run]] = word
        return unfinished.counted(runs, found, self._asked.unfinished)

    def _bad_states(
        self, index: _Index, kept: Int64[np.ndarray, " k"] | None
    ) -> tuple[dict[int, str], list[str]]:
        """(run -> its state, where that is not a good end; a line that counts them)."""
        assert self._roles.state is not None, "asked where there is one"
        column = _picked(self._table.words[self._roles.state], kept)
        last = np.zeros(len(index.seeds), np.int64)
        last[index.run] = column.codes  # that of the last row holds
        bad = [bool(word) and word.lower() not in _FINISHED for word in column.words]
        how = {run: column.words[code] for run, code in enumerate(last.tolist()) if bad[code]}
        counts = ", ".join(f"{count} {word}" for word, count in Counter(how.values()).items())
        line = f"not every run has finished: {counts} ({self._roles.state})"
        return how, [line] if how else []

    def _stopped_early(self, index: _Index) -> dict[int, str]:
        """Run -> its last step, where other runs of its arm went further."""
        last = self._last_steps
        if last is None:
            return {}
        most = np.full(len(index.arms), -np.inf)
        np.fmax.at(most, index.arm, last)
        early = np.flatnonzero(np.isfinite(last) & (last < most[index.arm]))
        return {
            int(run): f"stopped at step {last[run]:g} of {most[index.arm[run]]:g}" for run in early
        }


def _quoted(names: Sequence[str]) -> str:
    more = f" and {len(names) - 2:,} more" if len(names) > 2 else ""
    return " and ".join(map(repr, names[:2])) + more


def _picked(column: Words, rows: Int64[np.ndarray, " k"] | None) -> Words:
    return column if rows is None else Words(column.codes[rows], column.words)


def _picked_numbers(column: Numbers, rows: Int64[np.ndarray, " k"] | None) -> Numbers:
    if rows is None:
        return column
    return Numbers(column.values[rows], column.empty[rows])


def _joined(columns: Sequence[Words], rows: Int64[np.ndarray, " k"] | None) -> Words:
    """One column of the names of several, "a, b"; in order of appearance."""
    first, *others = [_picked(column, rows) for column in columns]
    if not others:
        return first
    code = first.codes.astype(np.int64)
    for other in others:
        code = code * len(other.words) + other.codes
    known, start, codes = np.unique(code, return_index=True, return_inverse=True)
    order = np.argsort(start)
    place = np.empty(known.size, np.int32)
    place[order] = np.arange(known.size)
    parts = [
        [column.words[column.codes[row]] for row in start[order]] for column in (first, *others)
    ]
    words = tuple("" if not all(names) else ", ".join(names) for names in zip(*parts, strict=True))
    return Words(place[codes], words)


def _seeds(column: Words) -> tuple[Int[np.ndarray, " n"], tuple[Seed, ...]]:
    """(codes, seeds): whole numbers where all are, "1.0" being 1; else texts."""
    whole: list[Any] = []
    for word in column.words:
        text = word.removesuffix(".0")
        if not (text.lstrip("-").isdecimal() and text.isascii()):
            return column.codes, column.words
        whole.append(int(text))
    known: dict[int, int] = {}
    codes = np.asarray([known.setdefault(seed, len(known)) for seed in whole], np.int32)
    return codes[column.codes], tuple(known)


def _index(arms: Words, seed_codes: Int[np.ndarray, " n"], seeds: tuple[Seed, ...]) -> _Index:
    """The run of every row: its arm and seed."""
    pair = arms.codes.astype(np.int64) * max(1, len(seeds)) + seed_codes
    size = len(arms.words) * max(1, len(seeds))
    if size <= 4 * pair.size + 1_000_000:
        first = np.full(size, pair.size)
        first[pair[::-1]] = np.arange(pair.size - 1, -1, -1)  # the last assignment holds
        known = np.flatnonzero(first < pair.size)
        first, place = first[known], np.zeros(size, np.int64)
    else:
        known, first, pair = np.unique(pair, return_index=True, return_inverse=True)
        place = np.zeros(known.size, np.int64)
    arm = known // max(1, len(seeds))
    order = np.lexsort((first, arm))
    place[known[order] if place.size == size else order] = np.arange(order.size)
    found = known[order]
    return _Index(
        place[pair],
        found // max(1, len(seeds)),
        tuple(seeds[code] for code in found % max(1, len(seeds))),
        arms.words,
    )


def _repeated(key: Int64[np.ndarray, " n"]) -> bool:
    """Whether any number stands twice."""
    if key.size < 2:
        return False
    most = int(key.max())
    if most <= 4 * key.size + 1_000_000:
        return bool(np.bincount(key, minlength=1).max() > 1)
    ordered = np.sort(key)
    return bool((ordered[1:] == ordered[:-1]).any())


def _choose(
    key: Int64[np.ndarray, " n"],
    steps: Float64[np.ndarray, " n"],
    values: Float64[np.ndarray, " n"],
    held: Int64[np.ndarray, " k"],
    asked: Asked,
) -> Int64[np.ndarray, " m"]:
    """The row that counts for each key, in the order of the file."""
    if isinstance(asked.at, int):
        held = held[steps[held] == asked.at]
        by = held.astype(np.float64)  # the last of equal steps
    elif asked.at == "best":
        by = values[held] if asked.higher_is_better else -values[held]
        by = np.where(np.isnan(by), -np.inf, by)
    else:
        by = steps[held]
    order = held[np.lexsort((by, key[held]))]
    last = np.ones(order.size, bool)
    last[:-1] = key[order[1:]] != key[order[:-1]]
    return np.sort(order[last])


def _span(counts: Int64[np.ndarray, " k"]) -> str:
    """ "3", or "3 to 5"."""
    low, high = int(counts.min()), int(counts.max())
    return f"{high:,}" if low == high else f"{low:,} to {high:,}"


def _hint(texts: Sequence[str]) -> str:
    """What the texts may be."""
    if any(text.endswith("%") for text in texts):
        return "; leave the percent signs out"
    if any("," in text and text.replace(",", "", 1).lstrip("+-").isdecimal() for text in texts):
        return "; write decimals with a point"
    return "; for a run that diverged write nan"
