"""Golden figures of the shipped configs: parameters, and FLOP of a training step.

Nothing is compiled. `test_accelerator_plan.py` has the memory of the shipped comparison.
"""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.study.design import config as configs
from jaxreg.study.engine import program
from jaxreg.study.engine.members import plain
from jaxreg.study.engine.step_flop import step_flop
from jaxreg.train.step import init_state

CONFIGS = Path(__file__).parents[3] / "configs"
GOLDEN = {
    "agree": (32_722, 30_234_624),
    "base": (29_496, 30_154_752),
    "cat_sat": (29_496, 30_154_752),
    "cat_sat_literal": (29_496, 30_154_752),
    "cat_sat_one_pass": (29_496, 60_309_504),
    "cat_sat_underfitted": (29_496, 60_309_504),
    "cat_sat_usual_positions": (29_496, 30_154_752),
    "cues": (27_948, 30_117_888),
    "digits": (26_506, 43_829_248),
    "gpt_small": (85_152_000, 537_551_437_824),
    "images": (25_962, 43_829_248),
    "labelled_text": (36_172, 201_363_456),
    "language_model": (137_474, 806_092_800),
    "modn": (27_807, 19_458_048),
    "recall": (27_720, 17_141_760),
    "short_data": (234_304, 377_683_968),
    "short_data_base": (151_905_792, 139_234_853_781_504),
    "short_data_small": (29_365_248, 7_420_998_844_416),
    "text": (29_395, 87_631_872),
    "tokens": (43_266, 113_442_816),
    "vit_digits": (38_666, 131_317_760),
}
"""Config -> (parameters, FLOP of a step of one member)."""


@pytest.fixture
def own_tokens(tmp_path):
    """Files of ids, for configs that need the user's own."""
    for name, count in {"train": 400_000, "val": 4_000}.items():
        ids = np.random.default_rng(0).integers(0, 8192, count, np.uint16)
        (tmp_path / f"{name}.bin").write_bytes(ids.tobytes())
    return str(tmp_path)


def shipped(name, path):
    """A config and a draw of its data; of study 2 a shorter text, so that a file of ids has it."""
    config = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]()
    if name.startswith("short_data"):
        batch = config.train.batch_size
        config.data.update(path=path, num_train=batch, num_eval=2)
    if name == "short_data":
        config.data.update(path="sample")
    resolved = plain(config)
    return resolved, configs.preview(resolved)


@pytest.mark.parametrize("name", GOLDEN)
def test_parameters_and_products_of_a_step(name, own_tokens):
    config, data = shipped(name, own_tokens)
    make = program.problem_of(program.structure_of(config), program.Vocabulary.of(data))
    problem = make(program.strengths_of(config))
    state = jax.eval_shape(lambda: init_state(problem, jnp.int32(0)))
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    assert (parameters, step_flop(config, data)) == GOLDEN[name]


def test_every_shipped_config_has_golden_figures():
    shipped = {path.stem for path in CONFIGS.glob("*.py")}
    assert shipped == set(GOLDEN)
