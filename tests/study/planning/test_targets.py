"""The accelerators that plans are made for."""

import pytest

from jaxreg.errors import UserErrors
from jaxreg.launch.accelerators import accelerator
from jaxreg.study.planning import targets
from jaxreg.study.planning.targets import TARGETS, target_of


def test_a_name_that_does_not_exist_is_one_line_with_those_that_do():
    with pytest.raises(UserErrors) as raised:
        target_of("v9-8")
    [line] = raised.value.mistakes
    assert line.startswith("--accelerator=v9-8: must be one of: v4-8, v5e-8, ")
    assert all(name in line for name in TARGETS)


@pytest.mark.parametrize("name, extra", [("v5e-8", "aot-tpu"), ("h100-1", "aot-cuda")])
def test_a_compiler_that_is_not_installed_is_one_line_with_its_extra(monkeypatch, name, extra):
    monkeypatch.setattr(targets, "_is_installed", lambda module: False)
    with pytest.raises(UserErrors) as raised:
        target_of(name)
    [line] = raised.value.mistakes
    assert f"pip install 'jaxreg[{extra}]'" in line and name in line
    monkeypatch.setattr(targets, "_is_installed", lambda module: True)
    assert target_of(name) is TARGETS[name]


def test_a_module_of_a_package_that_is_absent_is_not_installed():
    assert not targets._is_installed("no_such_package.of_this_name")
    assert targets._is_installed("jax")


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "h100-1"])
def test_a_slice_has_the_chips_that_launch_knows(name):
    """The number counts TensorCores for v4, v5p and TPU7x, chips for v5e and v6e."""
    known = accelerator(name.replace("v5e", "v5litepod"))
    devices_on_chip = 2 if name.startswith("tpu7x") else 1
    target = TARGETS[name]
    assert target.devices == known.chips * devices_on_chip and target.hosts == known.hosts
    assert target.topology.split(":")[1] == known.topology


def test_what_is_kept_free_is_not_usable():
    for target in TARGETS.values():
        assert 0.7 * target.memory < target.usable < target.memory and target.kept_for
        assert set(target.peak) == {"bfloat16", "float32"}
        assert target.peak["float32"] <= target.peak["bfloat16"]
