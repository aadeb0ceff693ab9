"""The table of faults, played with the real command: exit code, message, what is left behind."""

import re
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.table import EIGHT, FAULTS, FINISHED, REFUSED, RESUMES, SAME, STOPPED, Fault
from tests.helpers.damage import Scene
from tests.helpers.place import TRAIN, Place, Run, same

WORDS = (*TRAIN, "--config.train.num_steps=200")
"""Twenty saves: it can be stopped after four, and a small disk does not hold its rows."""

ALL = [fault for faults in FAULTS.values() for fault in faults]
IGNORED = {".lock", ".filler", "metrics.jsonl"}  # who works there now; rows about the machine


def case(devices: int, fault: Fault):
    """A fault on so many devices, with its marks."""
    marks = [] if devices == 1 and fault.name in EIGHT else [pytest.mark.system]
    if devices == 2 and not fault.pmap:
        marks.append(pytest.mark.slow)
    return pytest.param(
        devices, fault, marks=marks, id=fault.name if devices == 1 else f"pmap-{fault.name}"
    )


CASES = [case(devices, fault) for devices in (1, 2) for fault in ALL]


def stages_of(place: Place, devices: int) -> dict[str, Run]:
    """The undisturbed run on some devices, and one that was stopped after some checkpoints, to be
    copied and damaged.
    """
    words = (*WORDS, f"--devices={devices}")
    undisturbed, stopped = (
        place.run(f"undisturbed on {devices}"),
        place.run(f"stopped on {devices}"),
    )
    undisturbed.finish(*words)
    strike = stopped.strike(words, signal.SIGTERM, lambda: stopped.saved() >= 4)
    assert strike.code == 75 and not stopped.members(), strike.output
    return {STOPPED: stopped, FINISHED: undisturbed}


@pytest.fixture(scope="module")
def played(tmp_path_factory, request):
    """The outcome of a case. All that were asked for are played, two at a time: a process uses one
    core most of the time.
    """
    place = Place(tmp_path_factory.mktemp("place"))
    asked = [
        item.callspec.params
        for item in request.session.items
        if item.path == request.path and not any(item.iter_markers("skip"))
    ]
    stages = {
        devices: stages_of(place, devices)
        for devices in sorted({params["devices"] for params in asked})
    }
    with ThreadPoolExecutor(2) as pool:
        futures = {
            (p["devices"], p["fault"].name): pool.submit(
                play, stages[p["devices"]], p["devices"], p["fault"]
            )
            for p in asked
        }
        yield futures
        pool.shutdown(cancel_futures=True)


def content(folder) -> dict[str, bytes]:
    """Every file of a run directory by its path, but for those that change whenever somebody works
    there.
    """
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in IGNORED
    }


def play(stages: dict[str, Run], devices: int, fault: Fault) -> None:
    """Does it to a copy of a run, gives the command, and looks at everything that the table
    promises.
    """
    run = stages[fault.stage].copy(f"{fault.name} on {devices}")
    scene = Scene(run, [*WORDS, f"--devices={devices}", *fault.also])
    try:
        if fault.do:
            fault.do(scene)
        before = content(scene.dir)
        code = run.start(
            *scene.words, environment=scene.environment, largest_file=scene.largest_file
        ).wait(timeout=300)
        output = run.output()
        flat = re.sub(r"\s+", " ", output)
        assert code == fault.code, output
        for part in (*fault.says, *scene.says):
            assert re.sub(r"\s+", " ", part) in flat, (part, output)
        assert "Traceback" not in output
        if code:
            assert fault.stage == FINISHED or not (run.workdir / "results.json").exists(), (
                "no result is claimed before there is one"
            )
        if fault.then == REFUSED:
            assert content(scene.dir) == before
        if fault.then == RESUMES:
            scene.repair()
            assert (
                run.start(
                    *scene.words, environment=scene.environment, largest_file=scene.largest_file
                ).wait(timeout=300)
                == 0
            ), run.output()
        if fault.then in (SAME, RESUMES):
            same(run, stages[FINISHED])
    finally:
        for undo in reversed(scene.after):
            undo()


@pytest.mark.parametrize("devices, fault", CASES)
def test_fault(played, devices, fault):
    played[devices, fault.name].result()
