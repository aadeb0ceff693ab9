"""An installed wheel is whole: the commands of a stranger in an empty folder, without the clone."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ("--config.train.num_steps=40", "--config.eval.every_steps=40", "--config.data.num_eval=32")


def test_every_recipe_is_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert all(target == f"jaxreg/_recipes/{source}" for source, target in included.items())
    recipes = [
        *ROOT.glob("configs/*.py"),
        *ROOT.glob("experiments/*.py"),
        *ROOT.glob("experiments/claims/*.py"),
    ]
    assert len(recipes) > 40
    for path in recipes:
        name = path.relative_to(ROOT)
        assert {name.as_posix(), name.parent.as_posix()} & set(included), f"{name} is left out"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The unpacked wheel, built from this tree without a network."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel: pip install hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def run(installed, tmp_path_factory, data_dir):
    """Runs the wheel's command in an empty folder, with another package `configs` on the path."""
    folder = tmp_path_factory.mktemp("empty")
    decoy = tmp_path_factory.mktemp("decoy")
    (decoy / "configs").mkdir()
    (decoy / "configs" / "__init__.py").write_text("raise RuntimeError('another configs')")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(installed), str(decoy)]),
        "JAXREG_DATA": str(data_dir),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiled fast, to slow code
    }

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "jaxreg.cli.main", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    command.folder = folder
    return command


def test_it_lists_what_it_has(run):
    shown = run("list")
    assert "none here" not in shown
    for word in ("cat_sat_literal", "C1c", "agree"):
        assert word in shown


@pytest.mark.system
def test_its_recipes_run_by_name(run):
    run("compare", "cat_sat", "--workdir=runs/a", "--seeds=2", "--arms=none,aa", *SMALL)
    assert (run.folder / "runs" / "a" / "report.html").stat().st_size > 100_000
    run("train", "--config=cat_sat", "--workdir=runs/b", *SMALL)
    assert "C1" in run("claims", "C1", "--quick", "--workdir=runs/c", "--dry_run")


def test_it_holds_what_is_no_code(installed):
    for name in ("study/report/web/shared/page.css", "launch/worker/run.sh", "_recipes/configs"):
        assert (installed / "jaxreg" / name).exists()


@pytest.mark.system
def test_the_sdist_has_every_file_of_the_repository(tmp_path):
    pytest.importorskip("hatchling", reason="hatchling builds the sdist: pip install hatchling")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("this is no clone: nothing says which files there are")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [path] = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {*tracked.stdout.splitlines(), "PKG-INFO"} - held == set()
