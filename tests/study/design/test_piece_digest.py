"""The digest of a person's own piece: what changes it, what does not, what is refused."""

import base64
import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from jaxreg.errors import UserErrors
from jaxreg.study.design import components, experiment, libraries

ROOT = Path(__file__).parents[3]

HEAD = """
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.study.design.components import Own
from jaxreg.study.design.experiment import Arm, Experiment
"""

TAIL = """

def get_experiment():
    {inside}
    return Experiment(
        name="own", question="Which?", config="config.py", baseline="none", primary="validation",
        margin=0.05, alpha=0.05, seeds=(1, 2), prediction="None.",
        own=Own(penalties={{"mine": {piece}}}, files={files}), arms={{"none": Arm("{title}")}},
    )
"""

PENALTY = """
class {name}:
    what = "squared norm"
    source = "mine"

    def __call__(self, seen):
        return {value}
"""

A = PENALTY.format(name="A", value="seen.logits")
B = PENALTY.format(name="B", value="2 * seen.logits")


@pytest.fixture(autouse=True)
def ours_only_afterwards():
    yield
    components.forget()


def digest(
    folder: Path, body: str, piece: str, *, inside="pass", files=(), title="nothing", name="own.py"
) -> str:
    """The digest of the piece that is bound to the penalty "mine"."""
    components.forget()
    folder.mkdir(exist_ok=True)
    tail = TAIL.format(inside=inside, piece=piece, files=tuple(files), title=title)
    (folder / name).write_text(HEAD + body + tail)
    experiment.load_experiment(folder / name)
    [found] = components.adopted().values()
    return found.pieces["penalties"]["mine"]


def indented(text: str) -> str:
    return text.strip().replace("\n", "\n    ")


READS = PENALTY.format(name="A", value="{}")

CHANGES = {
    "the name is bound to another class": ({"body": A + B, "piece": "A"}, {"piece": "B"}),
    "the body of a class": ({"body": A, "piece": "A"}, {"body": A.replace("logits", "loss")}),
    "a class defined inside get_experiment": (
        {"body": "", "piece": "A", "inside": indented(A)},
        {"inside": indented(A.replace("logits", "loss"))},
    ),
    "a closure value": (
        {
            "body": "def make(s):"
            + PENALTY.format(name="A", value="s * seen.loss").replace("\n", "\n    ")
            + "return A\n",
            "piece": "make(1.0)",
        },
        {"piece": "make(2.0)"},
    ),
    "a default argument": (
        {"body": A.replace("(self, seen)", "(self, seen, s=1)"), "piece": "A"},
        {"body": A.replace("(self, seen)", "(self, seen, s=2)")},
    ),
    "a default that is computed": (
        {"body": "S = 1\n" + A.replace("(self, seen)", "(self, seen, s=S + 1)"), "piece": "A"},
        {"body": "S = 2\n" + A.replace("(self, seen)", "(self, seen, s=S + 1)")},
    ),
    "a module global": (
        {"body": "SCALE = 1.0\n" + READS.format("SCALE * seen.loss"), "piece": "A"},
        {"body": "SCALE = 2.0\n" + READS.format("SCALE * seen.loss")},
    ),
    "a global array": (
        {"body": "W = np.ones(3)\n" + READS.format("W * seen.loss"), "piece": "A"},
        {"body": "W = np.zeros(3)\n" + READS.format("W * seen.loss")},
    ),
    "an element of a global table": (
        {"body": "T = {'a': [1, {2}]}\n" + READS.format("T * seen.loss"), "piece": "A"},
        {"body": "T = {'a': [1, {3}]}\n" + READS.format("T * seen.loss")},
    ),
    "a function that a method calls": (
        {"body": "def f(x):\n    return x\n" + READS.format("f(seen)"), "piece": "A"},
        {"body": "def f(x):\n    return -x\n" + READS.format("f(seen)")},
    ),
    "a jitted function's inner one": (
        {
            "body": "def g(x):\n    return x\nf = jax.jit(lambda x: g(x))\n"
            + READS.format("f(seen)"),
            "piece": "A",
        },
        {
            "body": "def g(x):\n    return -x\nf = jax.jit(lambda x: g(x))\n"
            + READS.format("f(seen)")
        },
    ),
    "a cached function": (
        {
            "body": "@functools.lru_cache\ndef f(x):\n    return x\n" + READS.format("f(seen)"),
            "piece": "A",
        },
        {"body": "@functools.lru_cache\ndef f(x):\n    return -x\n" + READS.format("f(seen)")},
    ),
    "the argument of a partial": (
        {
            "body": "def f(x, s):\n    return x\nh = functools.partial(f, s=1)\n"
            + READS.format("h(seen)"),
            "piece": "A",
        },
        {
            "body": "def f(x, s):\n    return x\nh = functools.partial(f, s=2)\n"
            + READS.format("h(seen)")
        },
    ),
    "a base class": (
        {"body": "class Base:\n    s = 1\n" + A.replace("class A", "class A(Base)"), "piece": "A"},
        {"body": "class Base:\n    s = 2\n" + A.replace("class A", "class A(Base)")},
    ),
    "an attribute set afterwards": (
        {"body": A + "A.s = 1\n", "piece": "A"},
        {"body": A + "A.s = 2\n"},
    ),
    "a method replaced afterwards": (
        {"body": A + B, "piece": "A"},
        {"body": A + B + "A.__call__ = B.__call__\n"},
    ),
    "a cached property": (
        {
            "body": A + "    @functools.cached_property\n    def s(self):\n        return 1\n",
            "piece": "A",
        },
        {"body": A + "    @functools.cached_property\n    def s(self):\n        return 2\n"},
    ),
    "one lambda of two in a line": (
        {"body": "f, g = (lambda x: x), (lambda x: -x)\n" + READS.format("f(seen)"), "piece": "A"},
        {"body": "f, g = (lambda x: -x), (lambda x: x)\n" + READS.format("f(seen)")},
    ),
    "the state of an instance": (
        {
            "body": "@dataclasses.dataclass(frozen=True)\nclass P:\n    s: float = 1.0\n"
            "p = P(1.0)\n" + READS.format("p.s * seen.loss"),
            "piece": "A",
        },
        {
            "body": "@dataclasses.dataclass(frozen=True)\nclass P:\n    s: float = 1.0\n"
            "p = P(2.0)\n" + READS.format("p.s * seen.loss")
        },
    ),
    "a key": (
        {"body": "KEY = jax.random.key(0)\n" + READS.format("KEY"), "piece": "A"},
        {"body": "KEY = jax.random.key(1)\n" + READS.format("KEY")},
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_changes_the_digest(what, tmp_path):
    before, changes = CHANGES[what]
    after = before | changes
    assert digest(tmp_path / "own", **before) != digest(tmp_path / "own", **after)
    assert digest(tmp_path / "next", **before) == digest(tmp_path / "own", **before)


SAME = {
    "formatting": A.replace("return seen.logits", "return (\n            seen.logits\n        )"),
    "comments": A.replace("return seen.logits", "return seen.logits  # the logits"),
    "docstrings": A.replace("class A:", 'class A:\n    """Norm."""\n').replace(
        "(self, seen):", '(self, seen):\n        """Returns it."""'
    ),
    "other code in the file": A + B + "OTHER = 1\n",
    "another place in the file": "\n\n\nimport os\n\n\n" + A,
}


@pytest.mark.parametrize("what", SAME)
def test_what_computes_nothing_changes_nothing(what, tmp_path):
    assert digest(tmp_path, A, "A") == digest(tmp_path, SAME[what], "A")


def test_the_docstring_of_a_cached_property_changes_nothing(tmp_path):
    cached = A + "    @functools.cached_property\n    def s(self):{}\n        return 1\n"
    documented = cached.format('\n        """One."""')
    assert digest(tmp_path, cached.format(""), "A") == digest(tmp_path, documented, "A")


def test_title_and_file_name_and_folder_change_nothing(tmp_path):
    first = digest(tmp_path / "a", A, "A")
    assert first == digest(tmp_path / "a", A, "A", title="another")
    assert first == digest(tmp_path / "b", A, "A", name="other.py")


def test_a_path_of_the_folder_is_relative_to_it(tmp_path):
    body = "import pathlib\nHERE = pathlib.Path(__file__).parent / 'data.txt'\n"
    body += READS.format("HERE.read_text() and seen.loss")
    assert digest(tmp_path / "a", body, "A") == digest(tmp_path / "b", body, "A")


# --- files of theirs


def test_a_sibling_module_can_be_imported_and_its_code_is_in_the_digest(tmp_path):
    def with_helper(helper: str, body: str, piece: str) -> str:
        (tmp_path / "helper.py").write_text(helper)
        return digest(tmp_path, body, piece)

    other = A.replace("logits", "loss")
    assert with_helper(A, "from helper import A\n", "A") != with_helper(
        other, "from helper import A\n", "A"
    )
    lazy = PENALTY.format(name="P", value="__import_helper").replace(
        "return __import_helper", "import helper\n\n        return helper.f(seen)"
    )
    one, two = (
        with_helper(f"def f(seen):\n    return {n} * seen.loss\n", lazy, "P") for n in (1, 2)
    )
    assert one != two
    deep = "from helper import f\n" + READS.format("f(seen)")
    (tmp_path / "deeper.py").write_text("S = 1\n")
    module = "import deeper\n\n\ndef f(seen):\n    return deeper.S * seen.loss\n"
    first = with_helper(module, deep, "A")
    (tmp_path / "deeper.py").write_text("S = 2\n")
    assert first != with_helper(module, deep, "A")


def test_modules_of_one_name_in_two_folders_do_not_mix(tmp_path, monkeypatch):
    for folder, value in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "helper.py").write_text(f"S = {value}\n")
    monkeypatch.chdir(tmp_path / "a")
    monkeypatch.syspath_prepend(str(tmp_path / "a"))
    body = "import helper\n" + READS.format("helper.S * seen.loss")
    one, two = digest(tmp_path / "a", body, "A"), digest(tmp_path / "b", body, "A")
    assert one != two and sys.modules["helper"].S == 2, "as long as the second is in use"
    components.forget()
    assert "helper" not in sys.modules and str(tmp_path / "b") not in sys.path
    experiment.load_experiment(tmp_path / "a" / "own.py")
    with pytest.raises(UserErrors, match="another helper from its own; rename one"):
        experiment.load_experiment(tmp_path / "b" / "own.py")


def test_a_package_named_configs_elsewhere_on_the_path_disturbs_nothing(tmp_path, monkeypatch):
    (tmp_path / "site" / "configs").mkdir(parents=True)
    (tmp_path / "site" / "configs" / "__init__.py").write_text("")
    (tmp_path / "own" / "configs").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    import configs as theirs

    body = "from configs import base\n" + A
    assert digest(tmp_path / "own", body, "A") == digest(tmp_path / "own", A, "A")
    assert sys.modules["configs"] is theirs
    del sys.modules["configs"]


def test_a_declared_file_is_in_the_digest_by_its_bytes(tmp_path):
    def with_file(text: str) -> str:
        (tmp_path / "data.txt").write_text(text)
        return digest(tmp_path, A, "A", files=("data.txt",))

    assert with_file("one") != with_file("two") and with_file("one") == with_file("one")
    (tmp_path / "data.txt").unlink()
    with pytest.raises(UserErrors, match="files: 'data.txt' cannot be read") as raised:
        digest(tmp_path, A, "A", files=("data.txt",))
    assert len(raised.value.mistakes) == 1


# --- libraries


def install(site: Path, version: str, body: str) -> None:
    """A package of the person's own as `pip install .` leaves it: the source, and its record."""
    shutil.rmtree(site, ignore_errors=True)
    (site / "theirlib").mkdir(parents=True)
    (site / "theirlib" / "__init__.py").write_text(body)
    info = site / f"theirlib-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: theirlib\nVersion: {version}\nRequires-Dist: jax\n"
    )
    found = base64.urlsafe_b64encode(hashlib.sha256(body.encode()).digest()).rstrip(b"=").decode()
    (info / "RECORD").write_text(f"theirlib/__init__.py,sha256={found},{len(body)}\n")
    sys.modules.pop("theirlib", None)
    importlib.invalidate_caches()


@pytest.mark.parametrize("imports", ["from theirlib import f", "import theirlib"])
def test_a_library_that_is_installed_anew_is_another_one(imports, tmp_path, monkeypatch):
    site = tmp_path / "lib" / "site-packages"
    monkeypatch.syspath_prepend(str(site))
    call = "f(seen)" if imports.startswith("from") else "theirlib.f(seen)"

    def with_library(body: str, version: str = "1.0") -> str:
        install(site, version, body)
        try:
            return digest(tmp_path / "own", f"{imports}\n" + READS.format(call), "A")
        finally:
            del sys.modules["theirlib"]

    one, two = (f"def f(seen):\n    return {n} * seen.loss\n" for n in (1, 2))
    first = with_library(one)
    assert first == with_library(one)
    assert first != with_library(two), "the same version, another body"
    assert first != with_library(one, version="1.1")


def test_what_comes_with_jaxreg_is_no_part_of_an_address():
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[^\w-]", line, maxsplit=1)[0].lower() for line in required}
    assert set(libraries.REQUIRED) == names
    assert libraries.installed(["jax", "flax", "numpy", "ml_dtypes", "chex", "os", "nowhere"]) == {}
    [name] = libraries.installed(["pytest"])
    assert name == "pytest"


# --- what cannot be followed

REFUSED = {
    "eval": (READS.format("eval('seen.loss')"), "it uses eval"),
    "a module loaded by path": (
        "import importlib.machinery\n"
        + READS.format("importlib.machinery.SourceFileLoader('m', 'm.py').load_module().f(seen)"),
        "it uses load_module",
    ),
    "a function made from a text": (
        "space = {}\nexec('def f(x): return x', space)\nf = space['f']\n" + READS.format("f(seen)"),
        "made from a text",
    ),
    "a lock": (
        "import threading\nLOCK = threading.Lock()\n" + READS.format("LOCK and seen.loss"),
        "_thread.lock cannot be followed",
    ),
    "a list without an end": (
        "deep = []\nfor _ in range(9_999):\n    deep = [deep]\n"
        + READS.format("deep and seen.loss"),
        "nested too deeply",
    ),
    "a generator": (
        "numbers = (n for n in range(3))\n" + READS.format("next(numbers)"),
        "generator cannot be followed",
    ),
    "a ufunc of unknown origin": (
        "f = np.frompyfunc(lambda x: x, 1, 1)\n" + READS.format("f(seen)"),
        "unknown origin",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_followed_is_refused_in_one_line(what, tmp_path):
    body, words = REFUSED[what]
    with pytest.raises(UserErrors) as raised:
        digest(tmp_path, body, "A")
    [line] = raised.value.mistakes
    assert words in line and "own.penalties: 'mine'" in line and "own.py" in line


def test_two_files_with_other_pieces_of_one_name_do_not_mix(tmp_path):
    digest(tmp_path, A, "A", name="one.py")
    tail = TAIL.format(inside="pass", piece="B", files=(), title="nothing")
    (tmp_path / "two.py").write_text(HEAD + B + tail)
    with pytest.raises(UserErrors, match="'mine' is another piece than that of .*one.py"):
        experiment.load_experiment(tmp_path / "two.py")
    tail = TAIL.format(inside="pass", piece="A", files=(), title="another title")
    (tmp_path / "two.py").write_text(HEAD + A + tail)
    experiment.load_experiment(tmp_path / "two.py")
    assert len(components.adopted()) == 2, "the same piece may stand in both"


def test_the_digest_is_the_same_in_every_process(tmp_path):
    body = "T = {'b', 'a', 'c'}\nf = jax.jit(jnp.sum)\n" + READS.format("f(seen.loss) and T")
    found = {digest(tmp_path, body, "A")}
    script = (
        "import sys\n"
        "from jaxreg.study.design import components, experiment\n"
        f"experiment.load_experiment({str(tmp_path / 'own.py')!r})\n"
        "[found] = components.adopted().values()\n"
        "print(found.pieces['penalties']['mine'])"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout.strip())
    assert len(found) == 1


# --- what a file raises


@pytest.mark.parametrize(
    "statement, told",
    [
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
    ],
)
def test_whatever_a_file_raises_is_a_mistake_in_it(statement, told, tmp_path):
    with pytest.raises(UserErrors) as raised:
        digest(tmp_path, A, "A", inside=statement)
    [line] = raised.value.mistakes
    number = (HEAD + A + TAIL.split("{inside}")[0]).count("\n") + 1
    assert f"own.py, line {number}: {told}" in line


def test_ctrl_c_while_a_file_is_loaded_is_no_mistake(tmp_path):
    inside = "import signal; signal.raise_signal(signal.SIGINT)"
    with pytest.raises(KeyboardInterrupt):
        digest(tmp_path, A, "A", inside=inside)


def test_a_mistake_in_a_sibling_module_names_its_line(tmp_path):
    (tmp_path / "helper.py").write_text("x = 1\ny = 1 / 0\n")
    with pytest.raises(UserErrors, match=r"helper.py line 2: ZeroDivisionError"):
        digest(tmp_path, "import helper\n" + A, "A")
