"""The examples in docstrings of public names run, and print what they say."""

import doctest
import importlib

import pytest

from experiments.pages import reference

EXAMPLES = {
    f"{module}.{name}": getattr(importlib.import_module(module), name)
    for module in reference.API.values()
    for name in reference.public_names(module)
}
EXAMPLES |= {
    name: getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
    for _, names in reference.OTHERS.values()
    for name in names
}

LONG = (".Mixup", ".ManifoldMixup", ".CutMix", ".mix_weights", "audit.nnx", "audit.train_state")
LONG += ("jaxreg.load_run",)
"""Examples that compile or train for more than three seconds."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.system] if name.endswith(LONG) else [])
        for name, value in EXAMPLES.items()
        if ">>>" in value.__doc__
    ],
)
def test_the_example_runs(name):
    found = doctest.DocTestFinder(recurse=False).find(EXAMPLES[name], name, globs={})
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    for test in found:
        runner.run(test, out=said.append)
    assert runner.tries > 0 and runner.failures == 0, "".join(said)


@pytest.mark.parametrize("module", reference.API.values())
def test_every_public_name_has_an_example(module):
    without = [
        name
        for name in reference.public_names(module)
        if ">>>" not in EXAMPLES[f"{module}.{name}"].__doc__
    ]
    assert without == [], "a public name needs an example in its docstring"
