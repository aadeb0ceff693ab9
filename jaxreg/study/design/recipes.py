"""The configs, experiments and claims that ship with jaxreg, found by name or by path.

`jaxreg compare cat_sat` means the experiment of this name; `jaxreg compare mine/cat_sat.py` means
the file. An installed wheel holds them in `jaxreg/_recipes`; in a clone they stand beside the
package.
"""

from pathlib import Path
from typing import Literal

import jaxreg
from jaxreg.errors import UserErrors, nearest

Kind = Literal["configs", "experiments", "experiments/claims"]


def folder(kind: Kind) -> Path:
    """Where the files of a kind are."""
    package = Path(jaxreg.__file__).parent
    shipped = package / "_recipes"
    return (shipped if shipped.is_dir() else package.parent) / kind


def names(kind: Kind) -> list[str]:
    """The names of the files of a kind, sorted."""
    return sorted(path.stem for path in folder(kind).glob("*.py"))


def is_name(given: str, kind: Kind) -> bool:
    """Whether `given` is the name of a shipped file, and no file of this name lies here."""
    return given in names(kind) and not Path(given).is_file()


def path_of(given: str, kind: Kind) -> Path:
    """The file that `given` names: a path, or the name of a shipped one.

    Raises:
      UserErrors: a bare word that is neither.
    """
    if is_name(given, kind):
        return folder(kind) / f"{given}.py"
    path = Path(given).expanduser()
    if path == Path(kind, f"{path.stem}.py") and not path.exists() and is_name(path.stem, kind):
        raise UserErrors(
            [f"{given}: no such file; one of that name ships with jaxreg: {path.stem}"]
        )
    is_bare = path.name == given and not path.suffix
    if is_bare and not path.exists() and names(kind):
        raise UserErrors(
            [f"{given}: no such file, and no name of {kind}{nearest(given, names(kind))}"]
        )
    return path
