"""Any file of the newest checkpoint flipped, cut or gone: the older one is used and both are named,
or the file did not matter; the bytes stay.
"""

import shutil
import warnings

import pytest

from jaxreg.store.checkpoint import CheckpointWarning
from jaxreg.study.design.experiment import Arm
from jaxreg.study.engine import members
from jaxreg.study.engine.trainer import Trainer, Watch
from jaxreg.train.loop import Interrupted
from tests.helpers import damage, tiny

ARMS = {
    "none": Arm("none"),
    "drop": Arm("drop", {"model.attention_dropout_rate": 0.3, "model.residual_dropout_rate": 0.3}),
}
DATASETS = {}


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    tiny.use_compiled(monkeypatch)


def draw(settings, seed):
    data = tiny.dataset(seed, {f"data.{name}": value for name, value in settings.items()})
    DATASETS[data.content_hash] = data
    return data.content_hash


def trainer_of(workdir, watch=None, every_seconds=0.0):
    workdir.mkdir(parents=True, exist_ok=True)
    configs = {
        name: tiny.config({"checkpoint.every_seconds": every_seconds} | dict(arm.diff))
        for name, arm in ARMS.items()
    }
    return Trainer(
        workdir,
        members.make_specs(ARMS, configs, (1, 2, 3), draw),
        DATASETS,
        {"devices": 2},
        watch or Watch(),
    )


def trained(workdir):
    return {path.name: path.read_bytes() for path in (workdir / "members").iterdir()}


@pytest.mark.system
def test_every_file_of_the_newest_checkpoint(tmp_path):
    trainer_of(tmp_path / "whole" / "own").run()
    expected, chunks = trained(tmp_path / "whole" / "own"), []
    stopped = tmp_path / "stopped" / "own"
    with pytest.raises(Interrupted):
        trainer_of(stopped, Watch(stop=lambda: chunks.append(1) or len(chunks) == 4)).run()
    older, newest = sorted((stopped / "checkpoints").iterdir())[-2:]
    files = [path.relative_to(stopped) for path in damage.files_of(newest)]
    assert len(files) >= 8
    fell_back, place = set(), tmp_path / "damaged" / "own"
    for file in files:
        for harm in (damage.flip, damage.cut, lambda path: path.unlink()):
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(stopped, place)
            harm(place / file)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                trainer_of(place, every_seconds=1e6).run()
            assert trained(place) == expected, file
            told = [
                str(each.message) for each in caught if issubclass(each.category, CheckpointWarning)
            ]
            if told:
                assert all(
                    f"{newest.name} (" in line
                    and f"Using step {int(older.name)} ({older.name})" in line
                    for line in told
                ), told
                fell_back.add(file)
    assert len(fell_back) >= 4, "the others say only that the step was completed"
