"""Probes of trained members: many members per compiled program, findings kept on disk."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxreg.data import Dataset
from jaxreg.errors import UserErrors
from jaxreg.probe import forward
from jaxreg.store import member_store
from jaxreg.store.member_store import Record, Records
from jaxreg.study.claims.measures import Probe
from jaxreg.study.design import piece_digest, user_files
from jaxreg.study.engine import program, program_cache
from jaxreg.study.engine.members import Spec, code_version
from jaxreg.syntax import source_digest

AT_ONCE = 8
"""Members per call, computed in sequence so that a member's bits do not depend on the others."""

Found = dict[str, np.ndarray]


class Prober:
    """Runs probes and remembers what they found, in a folder of records.

    Args:
      folder: what was found lies here; nothing is computed twice.
      datasets: by content hash.
    """

    def __init__(self, folder: Path, datasets: Mapping[str, Dataset]):
        self._kept, self._datasets = Records(folder), datasets

    def find(
        self, probe: Probe, specs: Sequence[Spec], records_of: Callable[[str], Record]
    ) -> dict[str, Found]:
        """{member hash: arrays by name} for all members that did not diverge; stored ones are read.

        Args:
          records_of: member hash -> its record.
        """
        found: dict[str, Found] = {}
        groups: dict[str, list[Spec]] = {}
        for spec in {spec.hash: spec for spec in specs}.values():
            kept = self._kept.get(address(probe, spec.hash))
            if kept is not None:
                found[spec.hash] = kept.arrays
            elif not records_of(spec.hash).meta["diverged"]:
                structure = program.structure_of(spec.config)
                groups.setdefault(member_store.content_hash(repr(structure)), []).append(spec)
        for group in groups.values():
            program_cache.make_room()
            for spec, arrays in self._run(probe, group, records_of):
                meta = {"probe": probe.name, "member": spec.hash}
                self._kept.put(address(probe, spec.hash), arrays, meta)
                found[spec.hash] = arrays
        return found

    def _run(self, probe: Probe, specs: Sequence[Spec], records_of: Callable[[str], Record]):
        """(spec, arrays) for members of one structure."""
        structure = program.structure_of(specs[0].config)
        by_shape: dict[tuple, list[Spec]] = {}
        batches = {spec.hash: batch_of(probe, self._datasets[spec.data]) for spec in specs}
        for spec in specs:
            shapes = tuple(x.shape for x in batches[spec.hash].values())
            by_shape.setdefault(shapes, []).append(spec)
        for same_shape in by_shape.values():
            vocabulary = program.Vocabulary.of(self._datasets[same_shape[0].data])
            run = compiled(probe, structure, vocabulary)
            for start in range(0, len(same_shape), AT_ONCE):
                part = same_shape[start : start + AT_ONCE]
                filled = [*part, *[part[0]] * (AT_ONCE - len(part))]
                stacked = program.stacked([records_of(spec.hash).params() for spec in filled])
                batch = program.stacked([batches[spec.hash] for spec in filled])
                strengths = jax.tree.map(
                    lambda *x: np.asarray(x, np.float32),
                    *[program.strengths_of(spec.config) for spec in filled],
                )
                seeds = np.asarray([spec.run_seed for spec in filled], np.int32)
                results = jax.tree.map(np.asarray, run(stacked, batch, strengths, seeds))
                for i, spec in enumerate(part):
                    yield spec, {name: x[i] for name, x in results.items()}


def compiled(
    probe: Probe, structure: Mapping, vocabulary: program.Vocabulary
) -> Callable[..., Mapping[str, Any]]:
    """The probe as one program: (params, batch, strengths, seeds), leading axis members."""

    def one(params, batch, strengths, seed):
        model = program.model_of(structure, strengths, vocabulary)
        params = program.with_fresh_rows(params, seed, vocabulary)
        return dict(probe.run(model, params, batch, seed, **probe.settings))

    return forward.over_members(one, own_batch=True, member_axis="map")


def batch_of(probe: Probe, dataset: Dataset) -> dict[str, np.ndarray]:
    """The first rows of the probe's view, with its connections cut; see `jaxreg.probe.forward`."""
    view = next(view for view in dataset.views if view.name == probe.view)
    scored = program.scored_rows(dataset, view.split)
    rows = np.flatnonzero(dataset.view_weights(view)[scored] > 0)[: probe.rows]
    batch = program.pass_batch(dataset, view.split, view.cut) | {
        "cues": dataset.splits[view.split].cues[scored]
    }
    return {name: x[rows] for name, x in batch.items()}


def address(probe: Probe, member: str) -> str:
    """The address of a probe's findings: a hash of member, probe, settings and code.

    Raises:
      UserErrors: the code of a person's own probe cannot be followed.
    """
    run = probe.run.func if isinstance(probe.run, functools.partial) else probe.run
    file = Path(inspect.unwrap(run).__code__.co_filename)
    try:
        piece = piece_digest.piece_digest(probe.run, file.parent)
    except piece_digest.Unaddressable as error:
        named = f"{file}: probe {probe.name!r}"
        raise UserErrors([f"{named}: what it computes cannot be told: {error}"]) from None
    return member_store.content_hash(
        {
            "member": member,
            "probe": probe.name,
            "view": probe.view,
            "rows": probe.rows,
            "settings": dict(probe.settings),
            "code": [piece, None if user_files.is_theirs(str(file)) else _tree(file)],
            "library": _library(),
        }
    )


def _library() -> str:
    """A digest of all code that a probe may call: the training code and `jaxreg.probe`."""
    package = Path(inspect.getfile(forward)).parent
    probes = [[path.name, _tree(path)] for path in sorted(package.glob("*.py"))]
    return member_store.content_hash([code_version(), probes, _tree(Path(__file__))])


@functools.cache
def _tree(path: Path) -> str:
    """A digest of the syntax tree of one of our files; nothing of one that is not there."""
    return source_digest(path.read_bytes()) if path.is_file() else ""
