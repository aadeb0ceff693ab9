"""Augmentations: off is exactly absent, no row knows its neighbours, and loops in numpy say what
they do.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import rng
from jaxreg.reg import augmentations
from jaxreg.reg.augmentations import (
    AUGMENTATIONS,
    MIXING,
    SITES,
    augmented,
    check_together,
    needs_of,
)
from tests.reg.test_draws import words_by_hand

KEY = rng.step_key(jax.random.key(3), 4)
B, T, C, K = 16, 12, 2, 3
KINDS = {
    "synonym_rate": "synonym",
    "paraphrase_rate": "paraphrase",
    "back_translation_rate": "back_translation",
}
ON = dict.fromkeys(AUGMENTATIONS, 0.5)
IDS = jnp.arange(B) + 32


def sentences(seed, n=B):
    """Rows of different words behind some padding, with a query and cues at real words."""
    draw = np.random.default_rng(seed)
    tokens, query, cues = (
        np.zeros((n, T), np.int32),
        np.zeros(n, np.int32),
        np.zeros((n, C), np.int32),
    )
    for row in range(n):
        words, offset = draw.integers(3, 8), draw.integers(0, 4)
        tokens[row, offset : offset + words] = draw.permutation(50)[:words] + 100 * seed + 1
        places = offset + draw.permutation(words)
        query[row], cues[row] = places[0], (places[1], places[2] if draw.random() < 0.7 else -1)
    return {
        "tokens": tokens,
        "query_position": query,
        "label": draw.integers(0, 9, n, np.int32),
        "cues": cues,
    }


def text_batch():
    batch = sentences(1) | {f"partner_{name}": x for name, x in sentences(2).items()}
    draw = np.random.default_rng(9)
    for index, kind in enumerate(KINDS.values()):
        batch[f"variants_{kind}"] = draw.integers(
            1000 * (index + 1), 1000 * (index + 2), (B, K, T), np.int32
        )
        exists = draw.random((B, K)) < 0.6
        exists[0] = False
        batch[f"variants_{kind}_query"] = np.where(exists, draw.integers(0, T, (B, K)), -1).astype(
            np.int32
        )
    return jax.tree.map(jnp.asarray, batch)


def image_batch():
    draw = np.random.default_rng(5)
    own = {
        "tokens": np.ones((B, 18), np.int32),
        "query_position": np.full(B, 16, np.int32),
        "label": draw.integers(0, 9, B, np.int32),
        "cues": np.zeros((B, 0), np.int32),
    }
    features = {
        "features": draw.normal(size=(B, 18, 4)).astype(np.float32)
    }  # 16 patches, the answer's place, padding
    other = {"features": draw.normal(size=(B, 18, 4)).astype(np.float32)}
    return jax.tree.map(
        jnp.asarray, own | features | {f"partner_{name}": x for name, x in (own | other).items()}
    )


BATCHES = {"text": text_batch(), "images": image_batch()}
CASES = [
    (name, kind)
    for name in AUGMENTATIONS
    for kind in BATCHES
    if kind == "text" or name not in KINDS
]


def applied(name, strength, batch, ids=IDS, key=KEY, num_layers=3, grid=None):
    return AUGMENTATIONS[name]()(strength, batch, key, ids, num_layers=num_layers, grid=grid)


def site_of(name):
    return jax.random.fold_in(KEY, SITES[name])


def uniform_by_hand(word):
    return ((word >> 9) + 0.5) / 2**23


@pytest.mark.short_cases()
@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.parametrize("strength", [0.0, jnp.float32(0)])
def test_off_is_exactly_the_batch(name, kind, strength):
    batch = BATCHES[kind]
    out = applied(name, strength, batch)
    for field, value in batch.items():
        np.testing.assert_array_equal(out[field], value, err_msg=field)
        assert out[field].dtype == value.dtype
    added = set(out) - set(batch)
    assert added == (
        {"mix_weight", "mix_layer"}
        if "mixup" in name
        else {"mix_weight"}
        if name in MIXING
        else set()
    )
    if name in MIXING:
        np.testing.assert_array_equal(out["mix_weight"], np.ones(B, np.float32))


@pytest.mark.short_cases("synonym_rate-text", "cutmix_strength-images")
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_on_it_changes_the_batch_and_other_steps_change_it_otherwise(name, kind):
    batch = BATCHES[kind]
    one, two = (
        applied(name, 0.5, batch, key=rng.step_key(jax.random.key(3), step)) for step in (4, 5)
    )

    def same(a, b):
        return all(np.array_equal(x, b[field]) for field, x in a.items() if field in b)

    assert not same(one, two)
    assert not same(batch, one) or (np.asarray(one["mix_weight"]) < 1).any()


@pytest.mark.short_cases()
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_layout_of_the_batch_does_not_matter(name, kind):
    whole = applied(name, 0.5, BATCHES[kind])
    rows = jnp.array([9, 2, 14])
    part = applied(name, 0.5, {field: x[rows] for field, x in BATCHES[kind].items()}, IDS[rows])
    for field, x in part.items():
        np.testing.assert_array_equal(
            x, whole[field] if field == "mix_layer" else whole[field][rows], err_msg=field
        )


@pytest.mark.short_cases("mixup_strength")
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_traced_strength_gives_the_same(name):
    batch = BATCHES["text"]
    traced = jax.jit(lambda strength: applied(name, strength, batch))(0.5)
    for field, x in applied(name, 0.5, batch).items():
        np.testing.assert_allclose(traced[field], x, rtol=1e-6, atol=1e-6, err_msg=field)


def test_sites_are_distinct_and_every_entry_is_described():
    assert sorted(SITES.values()) == list(range(len(SITES)))
    for name, augmentation in AUGMENTATIONS.items():
        assert augmentation.what and augmentation.source and augmentation.__doc__
        assert augmentation.unit == ("alpha" if name.endswith("strength") else "rate")
    assert {name for name, cls in AUGMENTATIONS.items() if "partner" in cls.needs} == set(MIXING)


def test_site_numbers_never_change():
    assert SITES == {
        "mixup": 0,
        "manifold_mixup": 1,
        "manifold_mixup_layer": 2,
        "cutmix": 3,
        "cutmix_place": 4,
        "token_cutoff": 5,
        "synonym": 6,
        "paraphrase": 7,
        "back_translation": 8,
    }


# --- mixing ---


@pytest.mark.parametrize("name", MIXING[:2])
def test_mixup_touches_nothing_but_its_two_fields(name):
    batch = BATCHES["text"]
    out = applied(name, 0.5, batch)
    assert all(out[field] is x for field, x in batch.items())
    assert (
        out["mix_weight"].shape == (B,)
        and out["mix_weight"].dtype == jnp.float32
        and out["mix_layer"].dtype == jnp.int32
    )
    assert len(np.unique(out["mix_weight"])) > B // 2


def test_mixup_mixes_embeddings_and_manifold_mixup_any_block_input():
    layer = jax.jit(
        lambda name, step: applied(name, 0.5, BATCHES["text"], key=jax.random.fold_in(KEY, step))[
            "mix_layer"
        ],
        static_argnums=0,
    )
    assert {int(layer("mixup_strength", step)) for step in range(5)} == {0}
    counts = np.bincount(
        [int(layer("manifold_mixup_strength", step)) for step in range(600)], minlength=3
    )
    assert len(counts) == 3 and (abs(counts - 200) < 60).all()  # 5 standard deviations


def cutmix_by_hand(batch, ids, wanted):
    """Sentences: tokens, cues, weights and the partner's query, one position at a time."""
    batch = {name: np.asarray(x) for name, x in batch.items()}
    tokens, cues = batch["tokens"].copy(), np.zeros((B, C))
    weights, queries = np.ones(B), batch["partner_query_position"].copy()
    for row in range(B):
        places = [p for p in range(T) if batch["tokens"][row, p]]
        span = round(float((1 - wanted[row]) * len(places)))
        u = uniform_by_hand(words_by_hand(site_of("cutmix_place"), int(ids[row]), 2)[0])
        start = min(int(u * (len(places) - span + 1)), len(places) - span)
        came_from = {}
        for p in places[start : start + span]:
            q = p - batch["query_position"][row] + batch["partner_query_position"][row]
            if 0 <= q < T and batch["partner_tokens"][row, q]:
                came_from[p] = q
        delta = batch["partner_query_position"][row] - batch["query_position"][row]
        bound = {int(batch["query_position"][row])} | {int(p) for p in batch["cues"][row] if p >= 0}
        bound |= {int(p - delta) for p in batch["partner_cues"][row] if p >= 0}
        together = bound <= set(came_from)
        if not together:
            came_from = {p: q for p, q in came_from.items() if p not in bound}
        for p, q in came_from.items():
            tokens[row, p] = batch["partner_tokens"][row, q]
        if came_from:
            weights[row], queries[row] = (
                1 - len(came_from) / len(places),
                batch["query_position"][row],
            )
        cues[row] = (
            [-1 if p < 0 else p - delta for p in batch["partner_cues"][row]]
            if together
            else batch["cues"][row]
        )
    return tokens, cues, weights, queries


def test_cutmix_of_sentences_by_hand():
    batch, moved = BATCHES["text"], 0
    for ids in (IDS, IDS + 100, IDS + 200, IDS + 300):
        wanted = augmentations.mix_weights(site_of("cutmix"), 0.7, ids)
        tokens, cues, weights, queries = cutmix_by_hand(batch, ids, np.asarray(wanted))
        out = applied("cutmix_strength", 0.7, batch, ids)
        np.testing.assert_array_equal(out["tokens"], tokens)
        np.testing.assert_array_equal(out["cues"], cues)
        np.testing.assert_allclose(out["mix_weight"], weights, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(out["partner_query_position"], queries)
        moved += (cues != np.asarray(batch["cues"])).any(axis=1).sum()
    assert moved  # somewhere a whole group of query and cues was exchanged


def test_cutmix_of_sentences_keeps_padding_and_one_sentence_s_query_and_cues():
    batch, seen = BATCHES["text"], set()
    run = jax.jit(
        lambda step: applied("cutmix_strength", 1.0, batch, key=jax.random.fold_in(KEY, step))
    )

    def words_at(tokens, places):
        return [
            [row[p] if p >= 0 else -1 for p in at]
            for row, at in zip(np.asarray(tokens), np.asarray(places))
        ]

    def places(batch, who=""):
        return np.concatenate(
            [np.asarray(batch[f"{who}query_position"])[:, None], np.asarray(batch[f"{who}cues"])], 1
        )

    own, theirs = (words_at(batch[f"{who}tokens"], places(batch, who)) for who in ("", "partner_"))
    for step in range(40):
        out = run(step)
        np.testing.assert_array_equal(out["tokens"] != 0, batch["tokens"] != 0)
        np.testing.assert_array_equal(out["query_position"], batch["query_position"])
        for row, words in enumerate(words_at(out["tokens"], places(out))):
            assert words in (own[row], theirs[row])
            seen.add(words == theirs[row])
        weights = np.asarray(out["mix_weight"])
        assert ((weights >= 0) & (weights <= 1)).all()
    assert seen == {False, True}


def test_cutmix_of_sentences_without_cues_binds_only_the_query():
    batch = {name: x[:, :0] if name.endswith("cues") else x for name, x in BATCHES["text"].items()}
    alone = jax.jit(
        lambda step: applied("cutmix_strength", 1.0, batch, key=jax.random.fold_in(KEY, step))[
            "tokens"
        ]
    )
    bound = jax.jit(
        lambda step: applied(
            "cutmix_strength", 1.0, BATCHES["text"], key=jax.random.fold_in(KEY, step)
        )["tokens"]
    )
    rows, query = np.arange(B), np.asarray(batch["query_position"])
    moved = [
        sum(
            (np.asarray(run(step))[rows, query] != np.asarray(batch["tokens"])[rows, query]).sum()
            for step in range(10)
        )
        for run in (alone, bound)
    ]
    assert moved[0] > moved[1]


@pytest.mark.parametrize("grid", [None, (4, 4), (2, 8), (16, 1)])
def test_cutmix_of_images_by_hand(grid):
    batch, shape = BATCHES["images"], grid or (4, 4)
    wanted = np.asarray(augmentations.mix_weights(site_of("cutmix"), 1.0, IDS))
    out = applied("cutmix_strength", 1.0, batch, grid=grid)
    sizes = set()
    for row in range(B):
        edges = [round(size * float(np.sqrt(1 - wanted[row]))) for size in shape]
        words = words_by_hand(site_of("cutmix_place"), int(IDS[row]), 2)
        corner = [
            int(uniform_by_hand(word) * (size - edge + 1))
            for word, size, edge in zip(words, shape, edges, strict=True)
        ]
        image = np.array(batch["features"][row][:16]).reshape(*shape, 4)
        other = np.array(batch["partner_features"][row][:16]).reshape(*shape, 4)
        down, across = (slice(at, at + edge) for at, edge in zip(corner, edges, strict=True))
        image[down, across] = other[down, across]
        np.testing.assert_array_equal(out["features"][row][:16], image.reshape(16, 4))
        np.testing.assert_array_equal(
            out["features"][row][16:], batch["features"][row][16:]
        )  # no patches
        # exact: 16 is a power of two
        assert float(out["mix_weight"][row]) == 1 - edges[0] * edges[1] / 16
        sizes.add(tuple(edges))
    assert len(sizes) > 2


def test_cutmix_of_images_reaches_every_place():
    run = jax.jit(
        lambda step: applied(
            "cutmix_strength", 1.0, BATCHES["images"], key=jax.random.fold_in(KEY, step)
        )["features"]
    )
    changed = [np.asarray(run(step) != BATCHES["images"]["features"]).any(-1) for step in range(30)]
    share = np.concatenate(changed).mean(axis=0)
    assert not share[16:].any()
    share = share[:16]
    assert (share > 0.1).all() and (share < 0.9).all()
    np.testing.assert_allclose(share.reshape(4, 4), share.reshape(4, 4)[::-1, ::-1], atol=0.15)


def test_cutmix_of_images_knows_the_patches_by_the_place_of_the_answer():
    batch = BATCHES["images"] | {"query_position": jnp.full(B, 11)}  # 11 before it: a square of 9
    out = applied("cutmix_strength", 1.0, batch)
    changed = np.asarray(out["features"] != batch["features"]).any(-1)
    assert changed[:, :9].any() and not changed[:, 9:].any()
    edges = np.round(
        3 * np.sqrt(1 - np.asarray(augmentations.mix_weights(site_of("cutmix"), 1.0, IDS)))
    )
    np.testing.assert_allclose(out["mix_weight"], 1 - edges**2 / 9, atol=1e-6)
    none = applied("cutmix_strength", 1.0, batch | {"query_position": jnp.zeros(B, jnp.int32)})
    np.testing.assert_array_equal(none["features"], batch["features"])
    np.testing.assert_array_equal(none["mix_weight"], np.ones(B))


# --- cutoff and rewriting ---


def test_token_cutoff_hides_tokens_at_its_rate_and_never_the_query():
    for kind, rate in (("text", 0.3), ("images", 0.6)):
        batch = BATCHES[kind]
        run = jax.jit(
            lambda step, batch=batch, rate=rate: applied(
                "token_cutoff_rate", rate, batch, key=jax.random.fold_in(KEY, step)
            )
        )
        tokens, queries = np.asarray(batch["tokens"]), np.asarray(batch["query_position"])
        others = (tokens != 0) & (np.arange(tokens.shape[1]) != queries[:, None])
        cut, steps = 0, 100
        for step in range(steps):
            out = run(step)
            now = np.asarray(out["tokens"])
            assert ((now == tokens) | (now == 0)).all()
            assert (now[np.arange(B), queries] == tokens[np.arange(B), queries]).all()
            cut += (now[others] == 0).sum()
            if kind == "images":
                np.testing.assert_array_equal(
                    out["features"], np.where(now[..., None] != 0, batch["features"], 0)
                )
        n = steps * others.sum()
        assert abs(cut / n - rate) < 5 * np.sqrt(rate * (1 - rate) / n)


def test_token_cutoff_at_rate_one_leaves_the_query_alone():
    batch = BATCHES["text"]
    tokens = np.asarray(applied("token_cutoff_rate", 1.0, batch)["tokens"])
    only_query = np.where(
        np.arange(T) == np.asarray(batch["query_position"])[:, None], batch["tokens"], 0
    )
    np.testing.assert_array_equal(tokens, only_query)


@pytest.mark.parametrize("name", KINDS)
def test_rewriting_by_hand(name):
    kind, batch = KINDS[name], BATCHES["text"]
    out, struck = applied(name, 0.5, batch), 0
    for row in range(B):
        words = words_by_hand(site_of(kind), int(IDS[row]), 2)
        existing = [k for k in range(K) if batch[f"variants_{kind}_query"][row, k] >= 0]
        tokens, query, cues = batch["tokens"][row], batch["query_position"][row], batch["cues"][row]
        if existing and uniform_by_hand(words[0]) < 0.5:
            chosen = existing[int(uniform_by_hand(words[1]) * len(existing))]
            tokens, query, cues = (
                batch[f"variants_{kind}"][row, chosen],
                batch[f"variants_{kind}_query"][row, chosen],
                [-1] * C,
            )
            struck += 1
        np.testing.assert_array_equal(out["tokens"][row], tokens)
        assert int(out["query_position"][row]) == int(query)
        np.testing.assert_array_equal(out["cues"][row], cues)
    assert 3 < struck < B - 1


@pytest.mark.short_cases("synonym_rate")
@pytest.mark.parametrize("name", KINDS)
def test_rewriting_strikes_at_its_rate_and_takes_every_variant_equally_often(name):
    kind = KINDS[name]
    rows = np.flatnonzero((np.asarray(BATCHES["text"][f"variants_{kind}_query"]) >= 0).sum(1) == 2)[
        :1
    ].repeat(4000)
    batch = {field: x[rows] for field, x in BATCHES["text"].items()}
    out = np.asarray(applied(name, 0.3, batch, jnp.arange(4000))["tokens"])
    of_variant = [
        (out == np.asarray(batch[f"variants_{kind}"])[:, k]).all(1).mean() for k in range(K)
    ]
    existing = np.asarray(batch[f"variants_{kind}_query"])[0] >= 0
    np.testing.assert_allclose(of_variant, np.where(existing, 0.15, 0), atol=0.03)


def test_without_variants_nothing_changes_at_any_rate():
    for name, kind in KINDS.items():
        out = applied(name, 1.0, BATCHES["text"])
        np.testing.assert_array_equal(out["tokens"][0], BATCHES["text"]["tokens"][0])
        has_any = np.asarray(BATCHES["text"][f"variants_{kind}_query"] >= 0).any(1)
        np.testing.assert_array_equal((out["tokens"] != BATCHES["text"]["tokens"]).any(1), has_any)


# --- together ---


@pytest.mark.parametrize("mixing", MIXING)
def test_all_together_are_the_table_in_order(mixing):
    strengths = {
        name: value for name, value in reversed(ON.items()) if name not in MIXING or name == mixing
    }
    out = expected = BATCHES["text"]
    out = augmented(out, strengths, KEY, IDS, num_layers=3)
    for name in (
        "synonym_rate",
        "paraphrase_rate",
        "back_translation_rate",
        mixing,
        "token_cutoff_rate",
    ):
        expected = applied(name, 0.5, expected)
    assert set(out) == set(expected)
    for field, x in expected.items():
        np.testing.assert_array_equal(out[field], x, err_msg=field)


def test_no_strength_is_no_augmentation():
    assert augmented(BATCHES["text"], {}, KEY, IDS, num_layers=3) is BATCHES["text"]


def test_two_mixings_are_refused():
    with pytest.raises(ValueError, match="mixup_strength and cutmix_strength both mix labels"):
        check_together(("cutmix_strength", "mixup_strength"))
    with pytest.raises(ValueError, match="both mix labels"):
        augmented(BATCHES["text"], dict.fromkeys(MIXING[:2], 0.0), KEY, IDS, num_layers=3)
    with pytest.raises(ValueError, match="allowed is one of mixup"):
        applied("mixup_strength", 0.5, applied("cutmix_strength", 0.5, BATCHES["text"]))
    with pytest.raises(ValueError, match="augment.cutout_rate: no augmentation"):
        check_together(("cutout_rate",))


def test_needs_are_collected_once():
    assert needs_of(("cutmix_strength", "synonym_rate", "mixup_strength")) == (
        "variants:synonym",
        "partner",
    )
    assert needs_of(("token_cutoff_rate",)) == ()
