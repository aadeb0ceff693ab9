"""`jaxreg grid`: one comparison at every cell of a grid of conditions: a phase diagram."""

from jaxreg.cli import arguments
from jaxreg.cli.arguments import Arguments, Flag, Usage
from jaxreg.errors import UserErrors, collecting

USAGE = Usage(
    command="grid",
    what="compare arms at every cell of a grid of conditions, and draw the map",
    position="EXPERIMENT",
    position_help="a file whose experiment has axes, or the name of one that ships with jaxreg",
    flags={
        "--workdir": Flag(
            "DIR", "where the map is kept; the same command goes on with it", required=True
        ),
        "--quick": Flag("", "two cells at the size of a smoke test, without verdicts"),
        "--minutes": Flag(
            "N", "stop cleanly after so many; the same command goes on", default="60"
        ),
        "--law": Flag("DIR", "a complete grid, whose law is tested on every cell of this one"),
        "--devices": arguments.DEVICES,
        "--distributed": arguments.DISTRIBUTED,
        "--dry_run": Flag("", "say what would run and how long it takes, and stop"),
    },
    takes_config=True,
    examples=(
        "jaxreg grid phase_diagram --workdir=runs/phase_diagram --dry_run",
        "jaxreg grid phase_diagram --workdir=runs/phase_diagram --minutes=30",
        "jaxreg grid phase_diagram --quick --workdir=runs/quick_map",
        "jaxreg grid phase_diagram_tokens --workdir=runs/mine --config.data.path=my.txt",
    ),
)


def run(given: Arguments) -> int:
    """Checks the grid and all its cells, runs what is missing, and returns the exit code.

    Raises:
      UserErrors: all mistakes, before a device starts.
    """
    from jaxreg.study.design import recipes

    mistakes = list(given.mistakes)
    num_devices = arguments.whole(given.flags, "--devices", mistakes, minimum=1)
    minutes = arguments.whole(given.flags, "--minutes", mistakes, minimum=1)
    quick = bool(given.flags["--quick"])
    workdir = arguments.output_directory(given.flags["--workdir"], mistakes)
    loaded, other = None, None
    if given.position is not None:
        with collecting(mistakes):
            from jaxreg.study.claims import grid_cells

            path = recipes.path_of(given.position, "experiments")
            loaded = grid_cells.load_grid(path, quick=quick, overrides=given.overrides)
    if given.flags["--law"] and quick:
        mistakes.append("--law: a quick run tests no law")
    elif given.flags["--law"] and loaded is not None:
        with collecting(mistakes):
            from jaxreg.study.claims import grid_law

            other = grid_law.read(arguments.expanded(given.flags["--law"]), loaded.grid)
    if mistakes:
        raise UserErrors(mistakes)
    assert workdir is not None and minutes is not None and loaded is not None
    found, law = loaded, other

    from jaxreg.cli import jax_startup

    def work(display) -> int:
        from jaxreg.study.claims import grid_run

        if given.flags["--dry_run"]:
            return grid_run.plan(found, workdir, display=display)
        return grid_run.run(found, workdir, law, quick=quick, minutes=minutes, display=display)

    return jax_startup.run(work, num_devices, bool(given.flags["--distributed"]))
