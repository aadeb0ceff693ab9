"""From files, or a table in memory, to runs: the whole way, with all mistakes."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from jaxreg.errors import UserErrors, collecting
from jaxreg.study.analysis.runs import Runs
from jaxreg.study.tables import cells, event_files, records, roles, run_columns, run_names, wide
from jaxreg.study.tables.files import Finished, finished, open_file
from jaxreg.study.tables.roles import Asked
from jaxreg.study.tables.run_names import Pattern
from jaxreg.study.tables.table import MOST_SHOWN, Table, TableSource, concatenate, constant


@dataclasses.dataclass(frozen=True)
class Reading:
    """Runs, and what the input itself says of the question: baseline, margin, ..."""

    runs: Runs
    said: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_files(paths: Sequence[str], asked: Asked, mistakes: list[str]) -> Reading | None:
    """The runs of files; None, with lines in `mistakes`, where something is wrong with them.

    Args:
      paths: of one table, of tables with the same columns, or of one file per run; "-" is the
        standard input.
      asked: what is known of the columns.
      mistakes: gets the lines.
    """
    before = len(mistakes)
    opened: list[tuple[str, TableSource | Finished]] = []
    for path in dict.fromkeys(paths):
        with collecting(mistakes):
            opened.append((path, open_file(path)))
    if len(mistakes) > before or not opened:
        return None
    whole = [source for _, source in opened if isinstance(source, Finished)]
    if whole:
        if len(opened) > 1:
            mistakes.append(f"{whole[0].name}: is a results.json; it is judged alone")
            return None
        return Reading(whole[0].runs, whole[0].said)
    sources = [(path, source) for path, source in opened if not isinstance(source, Finished)]
    if len(sources) == 1:
        return _read(sources[0][1], asked, mistakes)
    with collecting(mistakes):
        joined = _Joined(sources, asked)
        return _read(joined, asked, mistakes, in_order=joined.one_run_each)
    return None


def read_table(table: Any, asked: Asked, mistakes: list[str]) -> Reading | None:
    """The same of a table in memory.

    Args:
      table: a data frame, a mapping of columns, a list of mappings; arm -> scores, or arm -> view
        -> scores; a results.json as it was loaded.
      asked: what is known of the columns.
      mistakes: gets the lines.
    """
    if isinstance(table, Mapping) and {"arms", "seeds", "comparisons"} <= table.keys():
        with collecting(mistakes):
            found = finished(table, "the results")
            return Reading(found.runs, found.said)
        return None
    with collecting(mistakes):
        by_arm = _by_arm(table, asked)
        if by_arm is not None:
            return Reading(by_arm, {"paired": False})
        return _read(records.of_object(table), asked, mistakes)
    return None


def _by_arm(table: Any, asked: Asked) -> Runs | None:
    """Runs of arm -> scores or arm -> view -> scores; None where the table has columns."""
    if not isinstance(table, Mapping) or not table or asked.arm or asked.seed or asked.metric:
        return None
    rows = {
        str(arm): dict(row) if isinstance(row, Mapping) else {"score": row}
        for arm, row in table.items()
    }
    if roles.usual("arm", rows) or roles.usual("seed", rows):
        return None
    scores = {}
    for arm, row in rows.items():
        try:
            scores[arm] = {str(view): np.asarray(x, np.float64) for view, x in row.items()}
        except (TypeError, ValueError) as error:
            raise UserErrors([f"arm {arm}: has something else than numbers"]) from error
        sizes = {values.shape for values in scores[arm].values()}
        if len(sizes) != 1 or len(next(iter(sizes))) != 1:
            raise UserErrors([f"arm {arm}: must be one list of scores for each view, equally long"])
    seeds = {arm: tuple(range(len(next(iter(row.values()))))) for arm, row in scores.items()}
    lines = ("a list of scores for each arm; without seeds nothing is paired",)
    return Runs(seeds, scores, lines)


def _read(
    source: TableSource, asked: Asked, mistakes: list[str], *, in_order: bool = False
) -> Reading | None:
    """The runs of one table."""
    if run_columns.is_chart(source) and asked.arm is None:
        source = run_columns.RunColumns(source)
    before = len(mistakes)
    with collecting(mistakes):
        source = _named_runs(source, asked)
    if len(mistakes) > before:  # which arms there are is not known
        return None
    not_wide = wide.why_not(source, asked)
    with collecting(mistakes):
        source, asked = wide.by_arm(source, asked)
    if len(mistakes) > before:
        return None
    found = roles.assign(source, asked, mistakes, not_wide)
    if found is None:
        return None
    words = [*found.arm, found.seed, *found.view, found.item, found.metrics[0]]
    words += [found.run, found.state]
    numbers = [*found.values, found.step]
    table: Table | None = None
    with collecting(mistakes):
        table = source.load(
            list(dict.fromkeys(name for name in words if name is not None)),
            list(dict.fromkeys(name for name in numbers if name is not None)),
        )
    if table is None:
        return None
    if not table.num_rows:
        mistakes.append(f"{source.name}: has a header and no rows")
        return None
    runs = cells.runs_of(table, found, asked, mistakes, in_order=in_order)
    if runs is None:
        return None
    lines = (*source.notes, *found.lines(source), *runs.understood)
    said = {"scores": _scores_of(found)} | ({"guessed": found.guessed} if found.guessed else {})
    said |= {"not_wide": not_wide} if asked.baseline in source.columns else {}
    return Reading(dataclasses.replace(runs, understood=lines), said)


def _scores_of(found: roles.Roles) -> tuple[str, ...]:
    """The names of what is scored, where views do not name it."""
    wanted = found.metrics[1]
    return found.values if wanted is None else (wanted,)


def _named_runs(source: TableSource, asked: Asked) -> TableSource:
    """The source with arm and seed from its column of run names, by the pattern asked or a guess.

    Raises:
      UserErrors: there is no such column, or another flag names what the pattern names.
    """
    if roles.ARM in source.columns or roles.SEED in source.columns:
        return source
    if asked.run is None:
        return _guessed_runs(source, asked)
    pattern = Pattern(asked.run)
    column = _column_of_names(source, asked, pattern)
    if column is None:
        raise UserErrors([f"--run={asked.run}: {source.name} has no column of names of runs"])
    _check_not_twice(asked, pattern, column)
    return _Named(source, column, pattern, pattern.fields, guessed=False)


def _column_of_names(source: TableSource, asked: Asked, pattern: Pattern) -> str | None:
    """The column that the pattern is of: that of --arm or --seed where it has such names."""
    by_name = {name.lower(): name for name in source.columns}
    for text in [vars(asked)[field] for field in pattern.fields if field in ("arm", "seed")]:
        column = text if text in source.columns else by_name.get((text or "").lower())
        if column is not None and any(map(pattern.of_name, source.sample[column])):
            return column
    others = [name for name in source.columns if name not in (asked.arm, asked.seed)]
    return roles.usual("run", others)


def _check_not_twice(asked: Asked, pattern: Pattern, column: str | None) -> None:
    """Refuses a flag for what the pattern says already, but for that of the names themselves."""
    flags = {field: vars(asked)[field] for field in pattern.fields}
    twice = [
        f"--{field}={text}: --run={pattern.text} names the {field} too; leave one of them out, or"
        f" write * in place of {{{field}}}"
        for field, text in flags.items()
        if text is not None and (column is None or text.lower() != column.lower())
    ]
    if twice:
        raise UserErrors(twice)


def _guessed_runs(source: TableSource, asked: Asked) -> TableSource:
    """The source with what its own columns do not say, by a usual pattern of its runs' names."""
    columns = source.columns
    column = roles.usual("run", [name for name in columns if name not in (asked.arm, asked.seed)])
    if column is None:
        return source
    others = [name for name in columns if roles.plain(name) not in roles.USUAL["run"]]
    arm = asked.arm or roles.usual_arm(source, others)
    seed = asked.seed or roles.usual("seed", others)
    if seed is not None or (arm is not None and roles.plain(column) in roles.USUAL["seed"]):
        return source  # seeds, or runs that are numbered
    names = source.sample[column]
    pattern = run_names.guess([name for name in names if name])
    if pattern is None:
        if isinstance(source, run_columns.RunColumns):
            raise UserErrors([_no_pattern(source)])
        return source
    by_column = asked.arm is not None or (
        arm is not None and _tells_apart(source.sample[arm], names, pattern)
    )
    fields = [field for field in pattern.fields if not (field == "arm" and by_column)]
    return _Named(source, column, pattern, fields, guessed=True)


def _tells_apart(arms: Sequence[str], names: Sequence[str], pattern: Pattern) -> bool:
    """Whether a column of arms and the seeds of the names tell all runs apart."""
    runs: dict[tuple[str, str], set[str]] = {}
    for arm, name in zip(arms, names, strict=False):
        fields = pattern.of_name(name)
        if fields is not None:
            runs.setdefault((arm, fields["seed"]), set()).add(name)
    return all(len(each) == 1 for each in runs.values())


def _no_pattern(source: run_columns.RunColumns) -> str:
    groups = [run for run in source.runs if ": " in run]
    if groups:
        return (
            f"{source.name}: {groups[0]!r} is a group, and its curve the mean of its runs: ungroup"
            " the chart and export it again"
        )
    shown = ", ".join(map(repr, source.runs[:3]))
    return f'{source.name}: which arm and seed are the runs {shown}? --run="{{arm}}_s{{seed}}"'


class _Named:
    """A source with columns of arm and seed from its column of run names."""

    def __init__(
        self,
        source: TableSource,
        column: str,
        pattern: Pattern,
        fields: Sequence[str],
        *,
        guessed: bool,
    ):
        self.name, self.name_column = source.name, column
        self._source, self._column, self._pattern = source, column, pattern
        names = {f"{{{field}}}": field for field in fields}
        self._names = names
        self.columns = (*names, *(name for name in source.columns if name != column))
        self.sample = dict(source.sample)
        texts = list(source.sample[column])
        for name, field in names.items():
            self.sample[name] = [(pattern.of_name(text) or {}).get(field, "") for text in texts]
        how = "guessed; say otherwise by --run" if guessed else "--run"
        self.notes = (*source.notes, f"runs are named {pattern.text} in column {column} ({how})")

    def load(self, words: Sequence[str], numbers: Sequence[str]) -> Table:
        """See `TableSource.load`."""
        rest = [name for name in words if name not in self._names]
        table = self._source.load(list(dict.fromkeys([*rest, self._column])), numbers)
        names = table.words[self._column]
        found = [self._pattern.of_name(word) for word in names.words]
        wrong = [word for word, each in zip(names.words, found, strict=True) if each is None]
        if wrong:
            raise UserErrors([run_names.unmatched(self._pattern, wrong, "runs")])
        made = {}
        for column, field in self._names.items():
            texts = [each[field] for each in found if each is not None]
            own = records.words_of(texts)
            made[column] = dataclasses.replace(own, codes=own.codes[names.codes])
        return dataclasses.replace(table, words={**table.words, **made})


class _Joined:
    """Several files as one table, with columns of arm and seed from their folders."""

    def __init__(self, sources: Sequence[tuple[str, TableSource]], asked: Asked):
        self._sources = [source for _, source in sources]
        self.name = f"{len(sources)} files"
        paths = [_path_of(path) for path, _ in sources]
        fields, notes = _fields_of(paths, self._sources, asked)
        self._fields = fields
        self.name_column = roles.FILE
        self.one_run_each = bool(fields) and all("{seed}" in each for each in fields)
        union = dict.fromkeys(name for source in self._sources for name in source.columns)
        own = dict.fromkeys(name for each in fields for name in each)
        self.columns = (*own, *union)
        most = max(1, 1_000 // len(sources))
        self.sample = {
            name: [
                text
                for source, each in zip(self._sources, fields, strict=True)
                for text in ([each[name]] if name in each else source.sample.get(name, ())[:most])
            ]
            for name in self.columns
        }
        of_files = [note for source in self._sources for note in source.notes]
        more = len(of_files) - MOST_SHOWN
        of_files[MOST_SHOWN:] = [f"and {more:,} more files with the like"] if more > 0 else []
        self.notes = (*of_files, *notes)

    def load(self, words: Sequence[str], numbers: Sequence[str]) -> Table:
        """See `TableSource.load`; the mistakes of all files come at once."""
        tables, mistakes = [], []
        for source, fields in zip(self._sources, self._fields, strict=True):
            with collecting(mistakes):
                own = [name for name in words if name in source.columns and name not in fields]
                table = source.load(own, [name for name in numbers if name in source.columns])
                made = {name: constant(text, table.num_rows) for name, text in fields.items()}
                tables.append(dataclasses.replace(table, words={**table.words, **made}))
        if mistakes:
            raise UserErrors(mistakes)
        return concatenate(tables)


def _path_of(text: str) -> PurePath:
    """A file's path for patterns. The event files of one folder are those of one run."""
    path = PurePath(os.path.abspath(os.path.expanduser(text)))
    return path.with_name("events") if event_files.is_event_file(path.name) else path


def _fields_of(
    paths: Sequence[PurePath], sources: Sequence[TableSource], asked: Asked
) -> tuple[list[dict[str, str]], list[str]]:
    """(column -> text of each file, notes): arm and seed from folders, as far as they are needed.

    Raises:
      UserErrors: the pattern does not match.
    """
    if asked.run is not None:
        pattern = Pattern(asked.run)
        found = pattern.of_paths(paths)
        wrong = [str(path) for path, each in zip(paths, found, strict=True) if each is None]
        if wrong and (len(wrong) < len(paths) or not _have(sources, "run")):
            raise UserErrors([run_names.unmatched(pattern, wrong, "files")])
        if not wrong:
            _check_not_twice(asked, pattern, None)
            runs = pattern.runs_of_paths(paths)
            return [
                _as_columns(each) | {roles.FILE: run} for each, run in zip(found, runs, strict=True)
            ], [f"files are named {pattern.text} (--run)"]
        return [{} for _ in paths], []
    has_arm = asked.arm is not None or _have(sources, "arm")
    has_seed = asked.seed is not None or _have(sources, "seed")
    if has_arm and has_seed:
        return [{} for _ in paths], []
    pattern = run_names.guess_paths(paths)
    if pattern is not None and not has_arm and not has_seed:
        found = pattern.of_paths(paths)
        how = f"files are named {pattern.text} (guessed; say otherwise by --run)"
        return [_as_columns(each) for each in found], [how]
    names = [path.name.split(".")[0] for path in paths]
    if has_seed and len(set(names)) == len(names):
        return [{roles.ARM: name} for name in names], ["each file is an arm, by its name"]
    return [{} for _ in paths], []


def _have(sources: Sequence[TableSource], part: str) -> bool:
    return all(roles.usual(part, source.columns) is not None for source in sources)


def _as_columns(fields: Mapping[str, str] | None) -> dict[str, str]:
    return {f"{{{field}}}": text for field, text in (fields or {}).items()}
