"""The rules of the house: layers, light imports, docstrings, and every config and experiment
builds.
"""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.own_data import overrides_of

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxreg"
SOURCES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    ("cli",),
    ("launch",),
    ("study",),
    ("train", "probe", "audit"),
    ("store",),
    ("distributed",),
    ("nn", "reg", "data", "losses", "metrics", "optim"),
    ("attention", "rng", "batch"),
    ("typing", "errors", "syntax"),
)
"""Imports go down only; parts of one layer are siblings and never import one another."""

STUDY_LAYERS = ("commands", "planning", "claims", "report", "engine", "design")
"""The same inside `jaxreg.study`; `tables` and, below it, `analysis` stand beside them."""

HEAVY = (
    "orbax",
    "tensorflow",
    "tensorflow_datasets",
    "grain",
    "matplotlib",
    "ml_collections",
    "scipy",
    "rich",
    "tensorboardX",
)


def part_of(path: Path) -> str:
    """The part of the house that a source belongs to."""
    name = path.relative_to(PACKAGE).parts[0]
    return name.removesuffix(".py")


def layer_of(part: str) -> int:
    """Its storey, counted from above."""
    return next(i for i, parts in enumerate(LAYERS) if part in parts)


def imported_parts(path: Path) -> set[str]:
    """The parts of jaxreg that a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] == "jaxreg"
        ):
            names = (
                [node.module]
                if node.module != "jaxreg"
                else [f"jaxreg.{alias.name}" for alias in node.names]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("jaxreg.")]
        found |= {name.split(".")[1] for name in names if "." in name}
    return {part for part in found if not part.startswith("_")}


@pytest.mark.parametrize(
    "path",
    [p for p in SOURCES if p.name != "__init__.py" or p.parent != PACKAGE],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_imports_go_down(path):
    own = part_of(path)
    for other in imported_parts(path) - {own}:
        assert layer_of(other) > layer_of(own), f"{own} imports {other}"


def study_rooms(path: Path) -> set[str]:
    """The rooms of `jaxreg.study` that a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "jaxreg.study":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxreg.study."):
            found.add(node.module.split(".")[2])
    return found


@pytest.mark.parametrize("room", STUDY_LAYERS)
def test_imports_go_down_inside_the_study(room):
    above = set(STUDY_LAYERS[: STUDY_LAYERS.index(room)])
    paths = sorted((PACKAGE / "study" / room).rglob("*.py"))
    assert paths
    for path in paths:
        assert not study_rooms(path) & above, path.relative_to(PACKAGE)


def test_analysis_knows_no_other_room_and_tables_only_analysis():
    for room, known in (("analysis", {"analysis"}), ("tables", {"tables", "analysis"})):
        paths = sorted((PACKAGE / "study" / room).rglob("*.py"))
        assert paths
        for path in paths:
            assert study_rooms(path) <= known, path.relative_to(PACKAGE)


def test_attention_knows_no_flax_module_and_data_no_jax():
    for path in SOURCES:
        text = path.read_text()
        if part_of(path) == "data":
            assert (
                "import jax\n" not in text and "from jax " not in text and "import jax." not in text
            ), path
    # attention may ask which Flax called it, inside the one function that hands the weights over
    users = [
        p.name
        for p in SOURCES
        if part_of(p) == "attention"
        and "flax"
        in {
            (n.module or "").split(".")[0]
            for n in ast.walk(ast.parse(p.read_text()))
            if isinstance(n, ast.ImportFrom)
        }
    ]
    assert users in ([], ["flax_attention_fn.py"])


@functools.cache
def heavy_after(modules: str) -> set[str]:
    """Which heavy modules a new process has after importing these."""
    code = f"import sys, {modules}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(ast.literal_eval(done.stdout))


@pytest.mark.parametrize("module", ["jaxreg", "jaxreg.nn", "jaxreg.attention"])
def test_imports_are_light(module):
    # flax itself loads orbax's and rich's surface; only what jaxreg adds counts
    assert not heavy_after(module) - heavy_after("jax, flax.linen, optax")
    if module == "jaxreg":
        assert not heavy_after(module)


def inherited(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> set[str]:
    """Names of the documented methods of a class's bases in the same module."""
    bases = [
        classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes
    ]
    own = {
        f.name
        for base in bases
        for f in base.body
        if isinstance(f, ast.FunctionDef) and ast.get_docstring(f)
    }
    return own.union(*(inherited(base, classes) for base in bases))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_things_have_docstrings(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "the module has no docstring"
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
            for inner in node.body if isinstance(node, ast.ClassDef) else []:
                # What overrides a documented method inherits its docstring.
                if (
                    isinstance(inner, ast.FunctionDef)
                    and not inner.name.startswith("_")
                    and inner.name not in inherited(node, classes)
                ):
                    assert ast.get_docstring(inner), f"{node.name}.{inner.name} has no docstring"


def test_no_junk_drawers_and_no_config_defaults():
    for path in SOURCES:
        assert path.name != "utils.py" and not path.stem.endswith("_lib")
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "get"
            ):
                owner = node.func.value
                assert not (isinstance(owner, ast.Name) and owner.id in ("config", "cfg")), (
                    f"{path}: config.get"
                )


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.py")), ids=lambda p: p.name)
def test_every_experiment_builds(path):
    from jaxreg.study.claims.grid_cells import load_grid
    from jaxreg.study.design import config, experiment
    from jaxreg.study.design.grid import Grid, fields_set

    design = experiment.load_experiment(path)
    base = experiment.config_path(path, design)
    if isinstance(design, Grid):
        own = fields_set(design)
        given = tuple(each for each in overrides_of(base) if each.partition("=")[0] not in own)
        cells = load_grid(path, overrides=given).designs.values()
        assert cells and all(set(design.arms) < set(cell.arms) for cell in cells)
        return
    resolved = config.resolve_arms(design, config.load_config(base))
    assert list(resolved) == list(design.arms) and design.baseline in resolved


def test_nothing_committed_names_this_machine():
    """No registry, no path of the machine on which it was written."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    forbidden = ("/" + "work/", "/ro" + "ot/", "pypi." + "org", "files.python" + "hosted")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if (
            path.suffix in {".py", ".md", ".toml", ".json", ".html", ".js", ".css", ""}
            and path.is_file()
        ):
            text = path.read_text(errors="ignore")
            assert not [word for word in forbidden if word in text], name


def test_the_architecture_page_names_files_that_exist():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/.-]+\.(?:py|js|toml))`", text))
    assert len(named) > 30
    above = ("", "jaxreg", "jaxreg/study", "jaxreg/study/design", "jaxreg/study/report")
    missing = [name for name in named if not any((ROOT / part / name).is_file() for part in above)]
    assert not [name for name in missing if name != "start.js"]


def test_the_picture_has_every_storey_and_every_room_of_the_study():
    text = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    titles = re.findall(r'y="(\d+)"[^>]* font-weight="600">([^<]+)<', text)
    storeys: dict[int, list[str]] = {}
    for height, title in titles:
        storeys.setdefault(int(height), []).extend(title.split(", "))
    shown = [set(parts) for _, parts in sorted(storeys.items())]
    rooms = {path.parent.name for path in (PACKAGE / "study").glob("*/__init__.py")}
    assert shown == [rooms if parts == ("study",) else set(parts) for parts in LAYERS]


@pytest.mark.parametrize("room", ["claims", "planning"])
def test_a_large_room_lists_its_files(room):
    folder = PACKAGE / "study" / room
    listed = re.findall(r"^(\w+)  +\S", (folder / "__init__.py").read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == sorted(path.stem for path in folder.glob("[a-z]*.py"))
