"""No pickle is loaded anywhere: a file that somebody hands over can be wrong, but it cannot run
code.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.place import config as config_of

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ("jaxreg", "configs", "experiments")
    for path in (ROOT / folder).rglob("*.py")
)
MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "pickle5",
    "cloudpickle",
    "dill",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
    "hickle",
}
LOADERS = {"load", "read_array"}
"""Of numpy; they must say allow_pickle=False."""


def findings(source: str) -> list[str]:
    """What in a source could load a pickle, one line each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [
                f"{node.lineno}: import {alias.name}"
                for alias in node.names
                if alias.name.split(".")[0] in MODULES
            ]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [
                f"{node.lineno}: from {name}" for name in names if MODULES & set(name.split("."))
            ]
            found += [
                f"{node.lineno}: from numpy import load"
                for name in names
                if name.startswith("numpy.") and name.split(".")[-1] in LOADERS
            ]
        elif isinstance(node, ast.Call):
            found += _of_call(node)
        elif isinstance(node, ast.Attribute) and "pickle" in node.attr:
            found.append(f"{node.lineno}: .{node.attr}")
    return found


def _of_call(node: ast.Call) -> list[str]:
    name = ast.unparse(node.func)
    words = name.split(".")
    if words[-1] in ("import_module", "__import__") and any(
        isinstance(a, ast.Constant) and str(a.value).split(".")[0] in MODULES for a in node.args
    ):
        return [f"{node.lineno}: {name} of a pickle module"]
    if words[0] == "torch" and words[-1] == "load":
        return [f"{node.lineno}: torch.load"]
    if not (words[-1] in LOADERS and words[0] in ("np", "numpy", "jnp", "format")):
        return []
    said = [keyword.value for keyword in node.keywords if keyword.arg == "allow_pickle"]
    refused = bool(said) and isinstance(said[0], ast.Constant) and said[0].value is False
    return [] if refused else [f"{node.lineno}: {name} does not say allow_pickle=False"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_can_load_one(path):
    assert findings(path.read_text()) == []


@pytest.mark.parametrize("source", [
    "import pickle", "import json, joblib.numpy_pickle", "from cloudpickle import loads",
    "from multiprocessing import shelve",
    "def f():\n    import marshal",
    "import numpy as np\nnp.load('x')", "np.load('x', allow_pickle=True)",
    "np.load('x', allow_pickle=flag)", "np.lib.format.read_array(f)",
    "jnp.load('x')", "from numpy import load", "pandas.read_pickle('x')",
    "importlib.import_module('dill')", "__import__('_pickle')", "torch.load(p)",
])  # fmt: skip
def test_the_search_finds_what_it_looks_for(source):
    assert len(findings(source)) >= 1


def test_the_search_finds_nothing_else():
    assert findings("import json\njson.load(f)\nself.load(x)") == []
    assert (
        findings(
            "np.load('x', allow_pickle=False)\nnp.lib.format.write_array(f, x, allow_pickle=False)"
        )
        == []
    )


EXPERIMENT = '''
"""Two arms at two seeds."""

from jaxreg.study.design.experiment import Arm, Experiment


def get_experiment():
    """Returns the design."""
    return Experiment(
        name="trapped",
        question="Does it need a pickle?",
        config="config.py",
        baseline="none",
        primary="recombination",
        margin=0.05,
        alpha=0.05,
        seeds=(1, 2),
        prediction="No.",
        arms={
            "none": Arm("nothing", predict=0.0),
            "drop": Arm("dropout", {"model.attention_dropout_rate": 0.3}, predict=1.0),
        },
    )
'''
TRAPPED = """
import _pickle, json, pickle, signal, sys

found_classes = []


def spring(*_, **__):
    raise RuntimeError("a pickle was loaded")


def hear(event, args):
    if event == "pickle.find_class":
        found_classes.append(args)


sys.addaudithook(hear)
_pickle.loads(pickle.dumps(json.JSONDecoder))  # the hook hears of C code, too
heard = found_classes.copy()
found_classes.clear()


class Trap:
    def __init__(self, *_, **__):
        spring()


for module in (pickle, _pickle):
    for name in ("load", "loads", "_load", "_loads", "Unpickler", "_Unpickler"):
        if hasattr(module, name):
            setattr(module, name, Trap if "Unp" in name else spring)

import tensorflow_datasets as tfds

from jaxreg.cli.main import main
from jaxreg.store.checkpoint import Checkpoints

counts = {"restored": 0, "read": 0, "saved": 0}
Builder = tfds.core.DatasetBuilder
save, restore, source = Checkpoints.save, Checkpoints.restore_newest, Builder.as_data_source


def saving(self, *args, **kwargs):
    save(self, *args, **kwargs)
    counts["saved"] += 1
    if counts["saved"] == 2:
        signal.raise_signal(signal.SIGTERM)


def restoring(self, *args, **kwargs):
    found = restore(self, *args, **kwargs)
    counts["restored"] += found is not None
    return found


def reading(self, *args, **kwargs):
    counts["read"] += 1
    return source(self, *args, **kwargs)


Checkpoints.save, Checkpoints.restore_newest, Builder.as_data_source = saving, restoring, reading
compare = ["compare", "experiment.py", "--workdir=run", "--devices=1"]
inspect = ["inspect", "run", "--arm=drop", "--seed=1", "--step=3", "--text=The cat sat on the mat"]
codes = [main(words) for words in (compare, compare, compare, ["report", "run"], ["status", "run"])]
codes.append(main(inspect))
try:
    pickle.loads(b"")
    sprung = False
except RuntimeError:
    sprung = True
print()
found = {"codes": codes, "counts": counts, "heard": len(heard), "sprung": sprung}
print(json.dumps(found | {"classes": [str(each) for each in found_classes]}))
"""


@pytest.mark.system
def test_a_run_is_trained_interrupted_resumed_and_read_back_while_pickle_is_trapped(tmp_path):
    """Members, checkpoints (Orbax), data sets (TFDS), compiled programs from the cache: all that a
    run reads back.
    """
    no_torch = (
        "torch.py",
        "raise ImportError('not here')",
    )  # which tensorboardX would load for two seconds
    for name, text in (
        ("config.py", config_of(40)),
        ("experiment.py", EXPERIMENT),
        ("trapped.py", TRAPPED),
        no_torch,
    ):
        (tmp_path / name).write_text(text)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))
    } | {
        "JAXREG_CACHE": str(tmp_path / "cache"),
        "JAXREG_DATA": str(tmp_path / "data"),
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    done = subprocess.run(
        [sys.executable, "trapped.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["codes"] == [75, 0, 0, 0, 0, 0], done.stdout + done.stderr
    assert (
        told["counts"]["restored"] == 1
        and told["counts"]["read"] > 0
        and told["counts"]["saved"] > 2
    )
    assert told["heard"] == 1 and told["sprung"], "the traps work"
    assert told["classes"] == [], "nothing asked for a class by way of a pickle"
    assert (tmp_path / "run" / "report.html").exists() and len(
        list((tmp_path / "run" / "members").iterdir())
    ) == 4
