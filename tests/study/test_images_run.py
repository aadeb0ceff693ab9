"""A vision transformer on a set of TFDS, the whole way: streamed, killed and gone on with, it ends
with the bytes of the tables.
"""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxreg.cli.live_display import Silent
from jaxreg.store.member_store import Records
from jaxreg.study.commands import compare
from jaxreg.study.design import config as configs
from jaxreg.study.design.experiment import Arm, Experiment
from jaxreg.study.engine import off_values
from jaxreg.study.engine.dataset_loader import Library
from jaxreg.study.engine.members import make_specs, plain
from jaxreg.train import stream
from jaxreg.train.loop import Wave
from tests.helpers import tiny
from tests.helpers.prepared_sets import prepare

pytestmark = pytest.mark.system

ARMS = {"none": Arm("none", predict=0.0), "mixed": Arm("m", {"augment.cutmix_strength": 1.0})}
DESIGN = Experiment(
    name="shapes",
    question="Which?",
    config="c.py",
    baseline="none",
    arms=ARMS,
    seeds=(1,),
    primary="validation",
    margin=0.05,
    alpha=0.05,
    prediction="none",
)
CHANGES = {
    "data.path": "tfds:shapes",
    "data.length": 7,
    "data.num_train": 24,
    "data.num_eval": 8,
    "model.num_layers": 1,
    "model.width": 8,
    "model.num_heads": 2,
    "model.mlp_width": 8,
    "optim.warmup_steps": 2,
    "train.num_steps": 12,
    "train.batch_size": 4,
    "eval.every_steps": 6,
    "checkpoint.every_seconds": 0.0,
}


class Killed(Exception):
    """In the place of a signal."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A prepared set, caches of its own, no test of off values; streams of two steps a chunk."""
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 6, 1), dtype=np.uint8)
    features = {"image": tfds.features.Tensor(shape=(4, 6, 1), dtype=np.uint8), "label": np.int64}
    rows = [{"image": x, "label": i % 2} for i, x in enumerate(images)]
    prepare(tmp_path / "tfds", "shapes", features, {"train": rows})
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("JAXREG_DATA", str(tmp_path / "data"))
    passed = {"passed": True, "what": "w", "detail": "d"}
    monkeypatch.setattr(off_values, "off_value", lambda *_: passed)  # has its own tests
    monkeypatch.setattr(stream, "chunk_steps", lambda tables, batch_size: 2)
    return tmp_path


def compared(workdir, choice):
    """The arrays of all members of a comparison, by arm."""
    file = configs.load_config(tiny.ROOT / "configs" / "images.py")
    base = configs.with_changes(file, CHANGES | {"train.input": choice})
    arms = {name: plain(own) for name, own in configs.resolve_arms(DESIGN, base).items()}
    assert compare.compare(DESIGN, plain(base), arms, (1,), workdir, display=Silent()) == 0
    library = Library()
    specs = make_specs(ARMS, arms, (1,), library.request)
    library.close()
    return {spec.arm: Records(workdir / "members").get(spec.hash).arrays for spec in specs}


def test_streamed_and_killed_it_ends_with_the_bytes_of_tables(place, monkeypatch):
    pytest.importorskip("grain")
    # Members of a neighboring run directory would be found.
    wanted = compared(place / "a" / "table", "table")
    advance, restore, calls, resumed = Wave.advance, Wave.restore, [], []

    def dying(wave, steps, then):
        calls.append(wave.step)
        if len(calls) == 4:
            raise Killed
        return advance(wave, steps, then)

    def restored(wave, kept, step):
        resumed.append(step)
        return restore(wave, kept, step)

    monkeypatch.setattr(Wave, "advance", dying)
    monkeypatch.setattr(Wave, "restore", restored)
    with pytest.raises(Killed):
        compared(place / "b" / "stream", "stream")
    assert not resumed
    found = compared(place / "b" / "stream", "stream")
    assert resumed and resumed[0] > 0
    for arm in ARMS:
        assert set(found[arm]) == set(wanted[arm])
        for name, array in wanted[arm].items():
            np.testing.assert_array_equal(found[arm][name], array, err_msg=f"{arm}: {name}")
