"""The members that claims need, each once, and which of them are trained."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from jaxreg.distributed import processes
from jaxreg.store import member_store
from jaxreg.store.member_store import Records
from jaxreg.study.claims.design import Design, Request
from jaxreg.study.engine import program
from jaxreg.study.engine.members import Spec


def tuning_specs(designs: Iterable[Design], request: Request) -> list[Spec]:
    """Every candidate's members."""
    return unique(
        spec
        for design in designs
        for name in design.tunes()
        for option in design.candidates(name, request)
        for spec in option
    )


def evaluation_specs(
    designs: Iterable[Design], chosen: Mapping[str, Mapping[str, int]], request: Request
) -> list[Spec]:
    """Members of every arm on the verdict seeds; the first candidate where none is chosen yet."""
    return unique(
        run.spec
        for design in designs
        for by_seed in design.members(chosen.get(design.claim.id, {}), request).values()
        for runs in by_seed.values()
        for run in runs
    )


def unique(specs: Iterable[Spec]) -> list[Spec]:
    """Each member once."""
    return list({spec.hash: spec for spec in specs}.values())


def steps(specs: Iterable[Spec]) -> int:
    """Model-steps of members."""
    return sum(spec.config["train"]["num_steps"] for spec in specs)


def structures(specs: Iterable[Spec]) -> int:
    """How many programs members need."""
    return len(
        {member_store.content_hash(repr(program.structure_of(spec.config))) for spec in specs}
    )


class Stored:
    """Trained members of a run directory and its neighbours (None: none); each is verified once."""

    def __init__(self, workdir: Path | None):
        neighbours = (
            []
            if workdir is None
            else sorted(path for path in workdir.parent.glob("*/members") if path.parent != workdir)
        )
        self.records = None if workdir is None else Records(workdir / "members", neighbours)
        self._known: set[str] = set()

    def missing(self, specs: Iterable[Spec]) -> list[Spec]:
        """Those that must be trained."""
        lacking = []
        for spec in specs:
            if (
                self.records is not None
                and spec.hash not in self._known
                and spec.hash in self.records
            ):
                self._known.add(spec.hash)
            if spec.hash not in self._known:
                lacking.append(spec)
        return lacking

    def missing_for_all(self, specs: Iterable[Spec]) -> list[Spec]:
        """Members that a job must train, as process 0 sees it; a collective call."""
        specs = list(specs)
        wanted = set(processes.agree([spec.hash for spec in self.missing(specs)]))
        return [spec for spec in specs if spec.hash in wanted]

    def record_of(self, hash: str) -> member_store.Record:
        """A member's record.

        Raises:
          KeyError: it is not trained, or its file is damaged.
        """
        found = None if self.records is None else self.records.get(hash)
        if found is None:
            raise KeyError(f"member {hash} is not trained")
        return found
