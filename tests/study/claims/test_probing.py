"""A probe finds in many members at once what it finds in each by itself, once, and nothing in those
that diverged.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.store import member_store
from jaxreg.study.claims import probe_runner
from jaxreg.study.claims.measures import Probe
from jaxreg.study.engine import program
from tests.helpers import made_up_claims as made_up
from tests.helpers import tiny

CALLS = []


def logit_norms(model, params, batch, seed, power: float):
    """Sum of squared logits of each sentence, to a power; and what the probe was given."""
    CALLS.append(power)
    from jaxreg.probe.forward import query_logits

    return {
        "norms": (query_logits(model, params, batch) ** 2).sum(-1) ** power,
        "seed": seed,
        "rate": model.dropout.block.attention.rate,
        "cues": batch["cues"],
    }


PROBE = Probe("norms", logit_norms, view="informative", rows=5, settings={"power": 0.5})


@pytest.fixture
def members(tmp_path):
    """(specs, records) of a made-up claim's members, parameters random; the last one diverged."""
    design = made_up.made_design(tmp_path)
    pool = made_up.Pool(design, lambda arm, index, run: None if (arm, index) == ("drop", 3) else {})
    specs = [
        run.spec for by_seed in pool.runs.values() for runs in by_seed.values() for run in runs
    ]
    model = program.model_of(
        program.structure_of(specs[0].config),
        program.strengths_of(specs[0].config),
        program.Vocabulary.of(tiny.dataset(1)),
    )
    for spec in specs:
        tree = model.init(jax.random.key(spec.run_seed), jnp.zeros((1, 12), jnp.int32))["params"]
        pool.records[spec.hash].arrays.update(
            member_store.flatten({"params": jax.tree.map(np.asarray, tree)})
        )
    return specs, pool


def find(tmp_path, members, probe=PROBE):
    specs, pool = members
    return probe_runner.Prober(tmp_path / "probes", pool.datasets).find(
        probe, specs, pool.records.__getitem__
    )


@pytest.mark.system
def test_members_together_equal_each_by_itself(tmp_path, members):
    specs, pool = members
    found = find(tmp_path, members)
    for spec in specs:
        record = pool.records[spec.hash]
        assert (spec.hash in found) != record.meta["diverged"]
        if record.meta["diverged"]:
            continue
        vocabulary = program.Vocabulary.of(tiny.dataset(1))
        model = program.model_of(
            program.structure_of(spec.config), program.strengths_of(spec.config), vocabulary
        )
        params = program.with_fresh_rows(
            jax.tree.map(jnp.asarray, record.params()), spec.run_seed, vocabulary
        )
        batch = jax.tree.map(jnp.asarray, probe_runner.batch_of(PROBE, tiny.dataset(1)))
        alone = logit_norms(model, params, batch, spec.run_seed, 0.5)
        np.testing.assert_allclose(found[spec.hash]["norms"], alone["norms"], rtol=1e-5)
        assert found[spec.hash]["seed"] == spec.run_seed
        assert found[spec.hash]["rate"] == pytest.approx(
            spec.config["model"]["attention_dropout_rate"]
        )


def test_the_batch_is_the_first_rows_of_the_view():
    dataset = tiny.dataset(1)
    batch = probe_runner.batch_of(PROBE, dataset)
    rows = np.flatnonzero(
        dataset.view_weights(next(v for v in dataset.views if v.name == "informative"))
    )[:5]
    split = dataset.splits["recombination"]
    np.testing.assert_array_equal(batch["tokens"], split.tokens[rows])
    np.testing.assert_array_equal(batch["cues"], split.cues[rows])
    cut = probe_runner.batch_of(Probe("p", logit_norms, view="noun_cut", rows=5), dataset)
    np.testing.assert_array_equal(
        cut["cut_positions"][:, 0], split.cues[rows, dataset.cue_names.index("noun")]
    )


@pytest.mark.system
def test_nothing_is_computed_twice_and_settings_count(tmp_path, members):
    CALLS.clear()
    first = find(tmp_path, members)
    traced = len(CALLS)
    again = find(tmp_path, members)
    assert traced > 0 and len(CALLS) == traced
    assert first.keys() == again.keys()
    for hash in first:
        np.testing.assert_array_equal(first[hash]["norms"], again[hash]["norms"])
    other = find(
        tmp_path,
        members,
        Probe("norms", logit_norms, view="informative", rows=5, settings={"power": 1.0}),
    )
    assert len(CALLS) > traced
    some = next(iter(first))
    np.testing.assert_allclose(other[some]["norms"], first[some]["norms"] ** 2, rtol=1e-5)


def test_the_address_is_all_that_decides():
    same = probe_runner.address(PROBE, "0" * 24)
    assert same == probe_runner.address(
        Probe("norms", logit_norms, view="informative", rows=5, settings={"power": 0.5}), "0" * 24
    )
    others = [
        probe_runner.address(PROBE, "1" * 24),
        probe_runner.address(
            Probe("n", logit_norms, view="informative", rows=5, settings={"power": 0.5}), "0" * 24
        ),
        probe_runner.address(
            Probe("norms", logit_norms, view="train", rows=5, settings={"power": 0.5}), "0" * 24
        ),
        probe_runner.address(
            Probe("norms", logit_norms, view="informative", rows=6, settings={"power": 0.5}),
            "0" * 24,
        ),
        probe_runner.address(
            Probe("norms", made_up.member, view="informative", rows=5, settings={"power": 0.5}),
            "0" * 24,
        ),
    ]
    assert len({same, *others}) == 6
