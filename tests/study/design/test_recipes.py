"""Recipes are found by name, and paths work as before."""

from pathlib import Path

import pytest

from jaxreg.errors import UserErrors
from jaxreg.study.design import recipes


def test_a_name_is_the_shipped_file():
    assert recipes.path_of("cat_sat", "experiments") == recipes.folder("experiments") / "cat_sat.py"
    assert recipes.path_of("C1", "experiments/claims").is_file()
    assert {"cat_sat", "agree"} <= set(recipes.names("configs"))


def test_a_path_is_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipes.path_of("mine/cat_sat.py", "experiments") == Path("mine/cat_sat.py")
    (tmp_path / "cat_sat").write_text("a file of this very name comes first")
    assert recipes.path_of("cat_sat", "experiments") == Path("cat_sat")


def test_the_path_of_a_clone_is_answered_with_the_name_where_there_is_no_clone(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserErrors) as error:
        recipes.path_of("configs/cat_sat.py", "configs")
    [line] = error.value.mistakes
    assert line == "configs/cat_sat.py: no such file; one of that name ships with jaxreg: cat_sat"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "cat_sat.py").touch()
    assert recipes.path_of("configs/cat_sat.py", "configs") == Path("configs/cat_sat.py")


def test_a_misspelt_name_is_one_line_with_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserErrors) as error:
        recipes.path_of("cat_sta", "configs")
    [line] = error.value.mistakes
    assert line == "cat_sta: no such file, and no name of configs; did you mean cat_sat?"
