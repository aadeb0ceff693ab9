"""Arm and seed of a run from its name or folder, by a pattern such as "{arm}_s{seed}"."""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from jaxreg.errors import UserErrors, nearest

FIELDS = ("arm", "seed", "view")
USUAL = (
    "{arm}/seed{seed}",
    "{arm}/seed_{seed}",
    "{arm}/seed={seed}",
    "{arm}/seed-{seed}",
    "{arm}/s{seed}",
    "{arm}/{seed}",
    "{arm}_seed={seed}",
    "{arm}_seed_{seed}",
    "{arm}_seed{seed}",
    "{arm}-seed-{seed}",
    "{arm}-seed{seed}",
    "{arm}-seed_{seed}",
    "{arm} seed {seed}",
    "{arm}_s{seed}",
    "{arm}-s{seed}",
    "{arm}_{seed}",
    "{arm}-{seed}",
)
"""Tried in this order where no pattern is given."""
_LEVELS = 5
"""Places of a path that are looked at: the folder, the name, three folders above."""


class Pattern:
    """A pattern of names: {arm}, {seed} (a whole number), {view}, and * for anything.

    Raises:
      UserErrors: an unknown or repeated field, or neither arm nor seed.
    """

    def __init__(self, text: str):
        self.text = text
        parts = re.split(r"(\{[^{}]*\}|\*)", text)
        fields = [part[1:-1] for part in parts if part.startswith("{")]
        mistakes = [
            f"--run={text}: {{{field}}} is no field of a name{nearest(field, FIELDS)}"
            for field in dict.fromkeys(fields)
            if field not in FIELDS
        ]
        mistakes += [
            f"--run={text}: {{{field}}} stands {fields.count(field)} times"
            for field in dict.fromkeys(fields)
            if fields.count(field) > 1
        ]
        if not {"arm", "seed"} & set(fields) and not mistakes:
            mistakes.append(f'--run={text}: names neither; write it as "{{arm}}_s{{seed}}"')
        if mistakes:
            raise UserErrors(mistakes)
        self.fields = tuple(fields)
        self._regex = re.compile("".join(map(_regex, parts)))
        self._depth = text.count("/") + 1

    def of_name(self, name: str) -> dict[str, str] | None:
        """Field -> text, or None where the name does not match."""
        found = self._regex.fullmatch(name)
        return None if found is None else found.groupdict()

    def of_paths(self, paths: Sequence[PurePath]) -> list[dict[str, str] | None]:
        """The same of files, by what stands in the same place of all.

        Their folders come first, then their own names, then the folders above. Taken is the first
        place by which all files match and are not all one run; else folder or name, whichever
        matches more.
        """
        level = self._level(paths)
        return [self._at(path, level) for path in paths]

    def runs_of_paths(self, paths: Sequence[PurePath]) -> list[str]:
        """What stands in that place, with all above it: files of one run have the same."""
        level = self._level(paths)
        return [str(PurePath(*_parts(path, level))) for path in paths]

    def _level(self, paths: Sequence[PurePath]) -> int:
        """The place by which the files are told apart."""
        found = [[self._at(path, level) for path in paths] for level in range(_LEVELS)]
        for level, fields in enumerate(found):
            runs = {tuple(sorted(each.items())) for each in fields if each is not None}
            if None not in fields and (len(runs) > 1 or len(set(paths)) == 1):
                return level
        return max((0, 1), key=lambda level: len(paths) - found[level].count(None))

    def _at(self, path: PurePath, level: int) -> dict[str, str] | None:
        parts = _parts(path, level)
        if len(parts) < self._depth:
            return None
        return self.of_name("/".join(parts[-self._depth :]))


def _parts(path: PurePath, level: int) -> list[str]:
    """A path down to one of its places: 0 its folder, 1 its own name, 2, ... the folders above."""
    folders, name = list(path.parts[:-1]), path.name.split(".")[0]
    return [*folders, name] if level == 1 else folders[: len(folders) - max(0, level - 1)]


def _regex(part: str) -> str:
    if part == "*":
        return "[^/]*"
    if not part.startswith("{"):
        return re.escape(part)
    field = part[1:-1]
    return rf"(?P<{field}>\d+)" if field == "seed" else rf"(?P<{field}>[^/]+)"


def guess(names: Sequence[str]) -> Pattern | None:
    """The first usual pattern by which all names are different runs of at least two arms."""
    different = list(dict.fromkeys(names))
    for text in USUAL:
        pattern = Pattern(text)
        if _tells_apart([pattern.of_name(name) for name in different]):
            return pattern
    return None


def guess_paths(paths: Sequence[PurePath]) -> Pattern | None:
    """The same of files."""
    different = list(dict.fromkeys(paths))
    for text in USUAL:
        pattern = Pattern(text)
        if _tells_apart(pattern.of_paths(different)):
            return pattern
    return None


def _tells_apart(found: Sequence[dict[str, str] | None]) -> bool:
    known = [each for each in found if each is not None]
    runs = {(each["arm"], int(each["seed"])) for each in known}
    arms = {each["arm"] for each in known}
    return len(known) == len(found) == len(runs) and len(arms) > 1


def unmatched(pattern: Pattern, names: Iterable[str], what: str) -> str:
    """A mistake: names that a pattern does not match."""
    names = list(names)
    shown = ", ".join(map(repr, names[:3]))
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"--run={pattern.text}: does not match the {what} {shown}{more}"
