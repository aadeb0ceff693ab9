"""A language model whose rows are streamed from a person's own file of ids: killed while it trains,
and its file changed under it, by the real command.
"""

import signal
import struct

import numpy as np
import pytest

from tests.helpers.place import Place, Run, same

CONFIG = '''
"""One layer of width 8 on a file of ids, read as it trains, saved after every chunk."""

from jaxreg.study.design import base_config


def get_config():
    """Returns the config."""
    config = base_config.get_config("tokens")
    config.data.path, config.data.separator, config.data.vocab_size = "mine.bin", 99, 100
    config.data.num_train, config.data.num_eval, config.data.length = 64, 16, 16
    config.model.causal = True
    config.model.num_layers, config.model.num_heads = 1, 2
    config.model.width, config.model.mlp_width = 8, 8
    config.model.attention_dropout_rate = 0.3
    config.optim.warmup_steps = 5
    config.train.num_steps, config.train.batch_size, config.train.members_per_device = 300, 8, 1
    config.train.input = "stream"
    config.eval.curves = ("validation",)
    config.eval.every_steps, config.checkpoint.every_seconds = 10, 0.0
    return config
'''
WORDS = ("train", "--config=configs/mine.py", "--devices=1")

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    pytest.importorskip("grain", reason="rows are streamed by Grain: .[stream] has it")
    made = Place(tmp_path_factory.mktemp("place"))
    (made.folder / "configs" / "mine.py").write_text(CONFIG)
    draw = np.random.default_rng(0)
    ids = [int(x) for _ in range(80) for x in (*draw.integers(0, 90, 40), 99)]
    (made.folder / "mine.bin").write_bytes(struct.pack(f"<{len(ids)}H", *ids))
    return made


@pytest.fixture(scope="module")
def undisturbed(place) -> Run:
    run = place.run("undisturbed")
    assert "waiting for data" in run.finish(*WORDS), "it is streamed"
    return run


def test_killed_twice_it_ends_with_the_same_bytes(place, undisturbed):
    run = place.run("killed")
    for _ in range(2):
        strike = run.strike(WORDS, signal.SIGKILL, run.new_save(), 0.05)
        assert strike.code == -signal.SIGKILL and strike.in_time and not strike.claimed
    run.finish(*WORDS)
    same(run, undisturbed)


def test_a_file_that_changes_ends_it_with_one_line_and_put_back_it_goes_on(place, undisturbed):
    run, file = place.run("changed"), place.folder / "mine.bin"
    content = file.read_bytes()
    process = run.start(*WORDS, marking=True)
    assert run.until(process, run.new_save())
    file.write_bytes(content + b"\1\0")
    assert process.wait(timeout=120) == 2, run.output()
    [line] = [each for each in run.output().splitlines() if each.startswith("jaxreg train: ")]
    assert "mine.bin: was changed since it was opened; what is trained is saved" in line
    assert "Traceback" not in run.output() and run.saved() and not run.members()
    file.write_bytes(content)
    run.finish(*WORDS)
    same(run, undisturbed)
