"""One archive for a worker: the package, the person's files, the command, and its scripts."""

import dataclasses
import gzip
import io
import shlex
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jaxreg
from jaxreg.launch.carried_files import Carried

PYTHON = "3.12"
"""The Python that workers install; their own is too old for JAX."""

_STORES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "az": "adlfs", "abfs": "adlfs"}
"""Scheme of a path -> the package that implements it."""

_SCRIPTS = Path(__file__).parent / "worker"
_SOURCE = Path(jaxreg.__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Packages:
    """What workers install.

    Attributes:
      requirement: of jaxreg for pip; None: the working tree is sent and installed.
      extras: of jaxreg, such as ("gcs",).
      others: further requirements.
    """

    requirement: str | None = None
    extras: tuple[str, ...] = ()
    others: tuple[str, ...] = ("jax[tpu]",)

    def words(self) -> list[str]:
        """As pip takes them; the working tree by its archive's name."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return [self.requirement or f"./{source_name()}.tar.gz{extras}", *self.others]


def for_stores(commands: Iterable[Sequence[str]]) -> list[str]:
    """The packages that the paths in some commands need."""
    urls = [word for words in commands for word in words if "://" in word]
    schemes = {url.partition("://")[0].rpartition("=")[2] for url in urls}
    return sorted({_STORES[scheme] for scheme in schemes if scheme in _STORES})


def has_source() -> bool:
    """Whether jaxreg runs from a source tree, which can be packed, unlike an installed package."""
    return (_SOURCE / "pyproject.toml").is_file()


def source_name() -> str:
    """Name of the source archive without its ending."""
    return f"jaxreg-{jaxreg.__version__}"


def source_archive() -> bytes:
    """The working tree as a source distribution that pip builds, committed or not."""
    names = [_SOURCE / name for name in ("pyproject.toml", "README.md", "LICENSE")]
    inside = [path for path in sorted((_SOURCE / "jaxreg").rglob("*")) if path.is_file()]
    for kind in ("configs", "experiments", "experiments/claims"):
        inside += sorted((_SOURCE / kind).glob("*.py"))
    files = [*names, *(path for path in inside if "__pycache__" not in path.parts)]
    paths = {path.relative_to(_SOURCE).as_posix(): path for path in files}
    return _archive({f"{source_name()}/{name}": path.read_bytes() for name, path in paths.items()})


def command_script(words: Sequence[str], start: str, environment: Mapping[str, str]) -> str:
    """A script that replaces itself by the command (exec), so that signals reach the command."""
    lines = [
        "#!/bin/bash",
        'echo $$ >"$1"',
        'cd "$(dirname "$0")" || exit 1',
        'export PATH="$PWD/venv/bin:$HOME/.local/bin:$PATH"',
    ]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    lines += [f"cd {shlex.quote(f'files/{start}')} || exit 1", f"exec {shlex.join(words)}"]
    return "\n".join(lines) + "\n"


def bundle(
    words: Sequence[str],
    carried: Carried,
    packages: Packages,
    *,
    environment: Mapping[str, str],
    python: str = PYTHON,
    before: str = "",
) -> bytes:
    """The archive of one command; the same content gives the same bytes.

    Args:
      words: the command.
      carried: the files.
      packages: what to install.
      environment: of the command.
      python: version to install.
      before: a shell line that each worker runs first.
    """
    quoted = " ".join(map(shlex.quote, packages.words()))
    settings = f"PYTHON={shlex.quote(python)}\nBEFORE={shlex.quote(before)}\nPACKAGES=({quoted})\n"
    content = {
        "settings.sh": settings.encode(),
        "command.sh": command_script(words, carried.start, environment).encode(),
    }
    content |= {path.name: path.read_bytes() for path in sorted(_SCRIPTS.glob("*.sh"))}
    if packages.requirement is None:
        content[f"{source_name()}.tar.gz"] = source_archive()
    content |= {f"files/{name}": file.read_bytes() for name, file in sorted(carried.files.items())}
    content[f"files/{carried.start}/.jaxreg-launch"] = b""  # so that the folder exists in any case
    return _archive(content)


def _archive(content: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
