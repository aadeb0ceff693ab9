"""Tables with a column for each arm, a row for each seed: read as one row for each arm and seed."""

import dataclasses
from collections.abc import Sequence

from jaxreg.errors import UserErrors
from jaxreg.study.tables import roles
from jaxreg.study.tables.roles import Asked
from jaxreg.study.tables.table import SAMPLE_ROWS, Table, TableSource, concatenate, constant

SCORE = "score"
"""The name of what is scored, where nobody names it."""
_PARTS = ("seed", "view", "item", "step", "run", "state")
_MADE = (roles.SEED, roles.VIEW)
_MOST_LISTED = 8


def by_arm(source: TableSource, asked: Asked) -> tuple[TableSource, Asked]:
    """A row for each arm and seed, and what is asked of it; as given where the table is not wide.

    It is wide where no column of arms is asked for or found, and the baseline names a column of
    numbers: then each column of numbers is an arm that has no other part.

    Raises:
      UserErrors: it is wide, and no column has seeds.
    """
    arms = [] if why_not(source, asked) else _arms(source, asked)
    if not arms:
        return source, asked
    named, columns = _named(source, asked), ", ".join(source.columns)
    has_seed = roles.SEED in source.columns or roles.usual("seed", source.columns) is not None
    if asked.seed is None and not has_seed:
        raise UserErrors(
            [
                f"{source.name}: no column is called seed or similar (columns: {columns}); name it"
                " by --seed=COLUMN"
            ]
        )
    rest = [
        name
        for name in source.columns
        if name in named or not (name in arms or roles.no_score(name))
    ]
    metrics, view = roles.usual("metric", rest), asked.view or roles.usual("view", rest)
    score = SCORE if metrics or view else asked.metric or asked.primary or SCORE
    score = SCORE if score in rest else score
    asked = dataclasses.replace(asked, value=score, metric=asked.metric if metrics else None)
    return _ByArm(source, arms, rest, score), asked


def why_not(source: TableSource, asked: Asked) -> str:
    """Why a table is not read as a column for each arm, behind "; "; "" where it is."""
    named = _named(source, asked)
    free = [name for name in source.columns if name not in named]
    name, score = asked.baseline, roles.usual("value", free)
    if name not in free:
        return "; where each arm has a column, name the baseline's by --baseline=COLUMN"
    if roles.ARM in source.columns or roles.FILE in source.columns or asked.arm is not None:
        why = "arms are named otherwise"
    elif (arm := roles.usual_arm(source, free)) is not None:
        why = f"{arm} may name the arms"
    elif asked.value is not None or asked.metric in free or score is not None:
        why = f"{asked.value or (asked.metric if asked.metric in free else score)} has scores"
    elif name not in (arms := _arms(source, asked)):
        why = f"{name} has no scores"
    else:
        why = "" if len(arms) > 1 else f"only {name} has scores"
    return f"; it is not read as a column for each arm: {why}" if why else ""


def _arms(source: TableSource, asked: Asked) -> list[str]:
    """The columns of numbers that flags or usual names give no part."""
    usual = {name for part in _PARTS for name in roles.USUAL[part]}
    left = (*_named(source, asked), *_MADE)
    return [
        name
        for name in source.columns
        if name not in left
        and roles.plain(name) not in usual
        and not roles.no_score(name)
        and roles.numeric(source.sample[name])
    ]


def _named(source: TableSource, asked: Asked) -> list[str]:
    """Columns that flags name as something else than an arm."""
    view = [] if asked.view is None else [asked.view, *asked.view.split(",")]
    texts = [text.lower() for text in (asked.seed, asked.item, asked.step, *view) if text]
    return [name for name in source.columns if name.lower() in texts]


class _ByArm:
    """A source with a row for each row and arm of another, in order of the arms."""

    def __init__(self, source: TableSource, arms: Sequence[str], rest: Sequence[str], score: str):
        self.name = source.name
        self._source, self._arms, self._score = source, arms, score
        self.columns = (roles.ARM, *rest, score)
        most = max(1, SAMPLE_ROWS // len(arms))
        few = {name: list(source.sample[name][:most]) for name in (*rest, *arms)}
        self.sample = {name: few[name] * len(arms) for name in rest}
        self.sample[score] = [text for arm in arms for text in few[arm]]
        self.sample[roles.ARM] = [arm for arm in arms for _ in few[arm]]
        more = len(arms) - _MOST_LISTED
        listed = ", ".join(arms[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
        line = f"{source.name}: read as a column for each arm ({listed}) and a row for each seed"
        self.notes = (*source.notes, line)

    def load(self, words: Sequence[str], numbers: Sequence[str]) -> Table:
        """See `TableSource.load`; a mistake in a cell names the column of the arm."""
        own = [name for name in words if name != roles.ARM]
        others = [name for name in numbers if name != self._score]
        table = self._source.load(own, [*others, *self._arms])
        return concatenate([self._of_arm(table, arm, others) for arm in self._arms])

    def _of_arm(self, table: Table, arm: str, others: Sequence[str]) -> Table:
        names = {**table.words, roles.ARM: constant(arm, table.num_rows)}
        scores = {name: table.numbers[name] for name in others}
        scores[self._score] = table.numbers[arm]
        places = [
            dataclasses.replace(place, file=f"{place.file} column {arm}") for place in table.places
        ]
        return Table(names, scores, tuple(places))
