"""Variables that JAX or jaxreg cannot use give one line and exit code 2; those of plotting, colour
and width change nothing.
"""

import hashlib
import io
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from jaxreg.cli import failures, live_display
from jaxreg.cli import main as cli
from jaxreg.study.report import figures

SMALL = (
    "train",
    "--config=cat_sat",
    "--config.train.num_steps=40",
    "--config.data.num_eval=64",
    "--workdir=run",
)
REFUSED = {
    "a flag that is no truth value": ("JAX_ENABLE_X64", "maybe", "JAX refuses it"),
    "a number that is none": ("JAX_NUM_CPU_DEVICES", "abc", "JAX refuses it"),
    "a word that JAX does not know": ("JAX_DEFAULT_MATMUL_PRECISION", "foo", "JAX refuses it"),
    "a platform that does not exist": ("JAX_PLATFORMS", "foo", "no such device can be started"),
    "a platform that is not here": ("JAX_PLATFORMS", "tpu,cuda", "no such device can be started"),
    "the home of nobody": ("JAXREG_CACHE", "~nobody_of_that_name/x", "write the path in full"),
}


@pytest.mark.short_cases("a platform that is not here")
@pytest.mark.parametrize("case", REFUSED)
def test_a_variable_that_cannot_be_used_is_one_line(case, tmp_path):
    name, value, says = REFUSED[case]
    run = subprocess.run(
        [sys.executable, "-m", "jaxreg.cli.main", *SMALL],
        cwd=tmp_path,
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = run.stderr.strip().splitlines()
    assert run.returncode == 2 and len(lines) == 1, run.stderr
    assert lines[0].startswith(f"jaxreg train: {name}={value}: ") and says in lines[0]


def test_no_home_directory_names_the_variables(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["jaxreg", "list"])
    error = RuntimeError("Could not determine home directory.")
    line = failures.of_the_environment(error, {})
    assert (
        line
        == "no home directory is known here; set HOME, or JAXREG_CACHE and JAXREG_DATA to folders"
    )


def test_a_promotion_that_is_forbidden_names_the_variable():
    with (
        jax.numpy_dtype_promotion("strict"),
        pytest.raises(jax.dtypes.TypePromotionError) as raised,
    ):
        jnp.ones(2, jnp.bfloat16) + jnp.ones(2)
    line = failures.of_the_environment(raised.value, {"JAX_NUMPY_DTYPE_PROMOTION": "strict"})
    assert line is not None and line.startswith("JAX_NUMPY_DTYPE_PROMOTION=strict: not everything")
    assert "\n" not in line and line.endswith("; unset it")
    assert failures.of_the_environment(raised.value, {}) is None, "then it is a defect of ours"


def test_an_error_of_ours_is_not_the_environments():
    try:
        int("JAX_ENABLE_X64=maybe")
    except ValueError as error:
        assert failures.of_the_environment(error, {"JAX_ENABLE_X64": "maybe"}) is None


DRAW = """
import hashlib
from jaxreg.study.report import figures
with figures.style({}):
    figure = figures.new((2, 1))
    figure.subplots().plot([1, 2], label="a")
    print(hashlib.sha256(figures.png(figure)).hexdigest())
"""


def test_a_users_backend_and_style_change_no_picture(tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 40\nlines.linewidth: 9\n", encoding="utf-8")
    with figures.style({}):
        figure = figures.new((2, 1))
        figure.subplots().plot([1, 2], label="a")
        wanted = hashlib.sha256(figures.png(figure)).hexdigest()
    run = subprocess.run(
        [sys.executable, "-c", DRAW],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.no_such_backend"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.stdout.strip() == wanted, run.stderr


def test_a_users_width_and_colour_change_no_text_of_a_file(monkeypatch):
    def shown() -> str:
        out = io.StringIO()
        live_display.console(out).print("[bold]a[/bold] " * 60)
        return out.getvalue()

    wanted = shown()
    assert "\x1b" not in wanted and max(map(len, wanted.splitlines())) > 80
    for name, value in (("COLUMNS", "20"), ("FORCE_COLOR", "1"), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
        assert shown() == wanted


def test_a_word_with_a_control_character_is_refused(capsys):

    assert cli.main(["compare", "cat_sat", "--workdir=a\nb"]) == 2
    assert "'--workdir=a\\nb': has a control character" in capsys.readouterr().err
