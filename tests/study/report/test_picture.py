"""The picture for a README: its size, and that missing numbers do not stop it."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from jaxreg.study.report.picture import best_arm, draw_picture
from tests.helpers.synthetic_page import make_payload


def size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", header[16:24])


def colors(path: Path) -> set:
    from matplotlib import image

    return {
        tuple(pixel)
        for pixel in (image.imread(path)[::3, ::3, :3] * 255).astype(int).reshape(-1, 3)
    }


def test_picture_has_its_size_and_shows_verdicts(tmp_path):
    draw_picture(make_payload(), tmp_path / "p.png")
    assert size(tmp_path / "p.png") == (1600, 700)
    assert {(0, 103, 163), (184, 67, 0)} <= colors(tmp_path / "p.png"), (
        "supported and opposite have their colors"
    )


def test_same_payload_gives_same_picture(tmp_path):
    for name in ("a.png", "b.png"):
        draw_picture(make_payload(), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_best_arm_is_no_control():
    assert best_arm(make_payload()) == "attention_30_decay"


@pytest.mark.parametrize("absent", ["curves", "comparisons"])
def test_missing_parts_and_numbers(tmp_path, absent):
    payload = make_payload(num_seeds=1)
    payload[absent] = type(payload[absent])()
    for row in payload["comparisons"]:
        row.update(difference=None, ci95=[None, None], per_seed=[None], verdict=None)
    draw_picture(payload, tmp_path / "p.png")
    assert size(tmp_path / "p.png") == (1600, 700)


def test_matplotlib_is_loaded_only_when_drawing():
    code = (
        "import sys, jaxreg.study.report.picture, jaxreg.study.report.page; print('matplotlib' in"
        " sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.strip() == "False"
