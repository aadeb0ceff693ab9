"""What is installed of the libraries that a person's piece uses.

A library's code is not followed as the person's own is. What decides is what its installer wrote
down: the version, and the hash of every Python file. So a package of the person's own that was
installed without `-e`, changed and installed again is another one, with the same version too.

Libraries that come with jaxreg do not count: its own members would train again with each of their
releases. The versions of JAX, Flax, Optax, NumPy and SciPy are in the fingerprint.
"""

import functools
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata

from jaxreg.store.digests import json_digest

REQUIRED = (
    "array-record",
    "flax",
    "fsspec",
    "importlib-resources",
    "jax",
    "jaxtyping",
    "matplotlib",
    "ml-collections",
    "numpy",
    "optax",
    "orbax-checkpoint",
    "rich",
    "scipy",
    "tensorboardx",
    "tensorflow-datasets",
)
"""Distributions that jaxreg requires, as in pyproject.toml."""


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Distribution -> digest of what is installed of it, without those that come with jaxreg.

    Args:
      packages: names of top-level packages; those of the standard library, and those without a
        distribution, are left out.
    """
    wanted = set(packages) - sys.stdlib_module_names
    if not wanted:
        return {}
    known = _distributions(tuple(sys.path))
    names = {_normal(name) for package in wanted for name in known.get(package, ())}
    return {name: _digest(metadata.distribution(name)) for name in sorted(names - _with_jaxreg())}


@functools.cache
def _distributions(path: tuple[str, ...]) -> Mapping[str, list[str]]:
    """Top-level package -> its distributions, on an import path; reading them takes most of a
    second, and every piece asks.
    """
    return metadata.packages_distributions()


def _digest(distribution: metadata.Distribution) -> str:
    """sha256 of a distribution's version and the hashes of its Python files."""
    files = [
        [str(file), file.hash.value]
        for file in distribution.files or ()
        if file.suffix == ".py" and file.hash is not None
    ]
    return json_digest([distribution.version, sorted(files)])


@functools.cache
def _with_jaxreg() -> frozenset[str]:
    """jaxreg, the distributions that it requires, and those that they require, without extras."""
    todo, found = ["jaxreg", *REQUIRED], set()
    while todo:
        name = _normal(todo.pop())
        if name not in found:
            found.add(name)
            todo += _requirements(name)
    return frozenset(found)


def _requirements(name: str) -> list[str]:
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line]


def _normal(name: str) -> str:
    """A distribution's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()
