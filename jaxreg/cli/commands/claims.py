"""`jaxreg claims`: the ledger, every sentence of the essay with its verdict."""

import sys
from pathlib import Path

from jaxreg.cli import arguments
from jaxreg.cli.arguments import Arguments, Flag, Usage
from jaxreg.errors import UserErrors, collecting, nearest

USAGE = Usage(
    command="claims",
    what="run the claims of the essay that are not done yet, and judge them as one family",
    position="CLAIM",
    position_help="ids such as C1 D6; none means all",
    flags={
        "--workdir": Flag(
            "DIR", "where the ledger is kept; the same command goes on with it", required=True
        ),
        "--claims": Flag("FOLDER", "the claim files; default: those that ship with jaxreg"),
        "--quick": Flag("", "everything at the size of a smoke test, without verdicts"),
        "--seeds": Flag(
            "N", "how many verdict seeds each claim gets; default: what its file says (20)"
        ),
        "--minutes": Flag(
            "N", "stop cleanly after so many; the same command goes on", default="60"
        ),
        "--devices": arguments.DEVICES,
        "--distributed": arguments.DISTRIBUTED,
        "--dry_run": Flag("", "say what would run, by claim, and stop"),
        "--again": Flag("", "judge the ledger anew from its stored values; nothing is trained"),
    },
    many=True,
    examples=(
        "jaxreg claims --workdir=runs/ledger --dry_run",
        "jaxreg claims C1 C1a --workdir=runs/ledger",
        "jaxreg claims --workdir=runs/ledger --minutes=30",
        "jaxreg claims --workdir=runs/ledger --again",
    ),
)


def run(given: Arguments) -> int:
    """Checks every claim file, runs what is missing, and returns the exit code.

    Raises:
      UserErrors: all mistakes, before a device starts.
    """
    mistakes = list(given.mistakes)
    num_devices = arguments.whole(given.flags, "--devices", mistakes, minimum=1)
    num_seeds = arguments.whole(given.flags, "--seeds", mistakes, minimum=1)
    minutes = arguments.whole(given.flags, "--minutes", mistakes, minimum=1)
    quick = bool(given.flags["--quick"])
    if quick and num_seeds is not None:
        mistakes.append(f"--seeds={num_seeds}: a quick run has two seeds; give one of the two")
    workdir = arguments.output_directory(given.flags["--workdir"], mistakes)
    designs = _load(given, quick, num_seeds, mistakes)
    chosen = _choose(given.positions, designs, mistakes)
    if given.flags["--again"] and given.positions:
        mistakes.append("--again: the whole ledger is judged; name no claims")
    if mistakes:
        raise UserErrors(mistakes)
    assert workdir is not None and minutes is not None  # required; has a default
    if given.flags["--again"]:
        return _again(workdir)

    from jaxreg.cli import jax_startup

    def work(display) -> int:
        from jaxreg.study.claims import ledger

        if given.flags["--dry_run"]:
            return ledger.plan(designs, chosen, workdir, quick=quick, display=display)
        return ledger.run(designs, chosen, workdir, quick=quick, minutes=minutes, display=display)

    return jax_startup.run(work, num_devices, bool(given.flags["--distributed"]))


def _again(workdir: Path) -> int:
    from jaxreg.cli import live_display
    from jaxreg.study.analysis import summary_text
    from jaxreg.study.claims import again

    with live_display.open_display() as display:
        return again.run(workdir, summary_text.command(sys.argv), display)


def _load(given: Arguments, quick: bool, num_seeds: int | None, mistakes: list[str]):
    """All claims of the folder; {}, with lines in `mistakes`, where something is wrong with one."""
    from jaxreg.study.claims import design
    from jaxreg.study.design import recipes

    folder = given.flags["--claims"] or recipes.folder("experiments/claims")
    with collecting(mistakes):
        return design.load_folder(Path(folder), quick=quick, num_seeds=num_seeds)
    return {}


def _choose(asked: tuple[str, ...], designs, mistakes: list[str]) -> list[str]:
    """The chosen ids in the ledger's order: all where none is given."""
    if designs:
        mistakes += [
            f"{name}: there is no such claim{nearest(name, designs)}"
            for name in dict.fromkeys(asked)
            if name not in designs
        ]
    mistakes += [
        f"{name}: is given {asked.count(name)} times"
        for name in dict.fromkeys(asked)
        if asked.count(name) > 1
    ]
    return [name for name in designs if not asked or name in asked]
