"""Augmentations: functions from batch to batch, drawn per example, with a traced strength.

Each is a class of its own and one line of the table `AUGMENTATIONS`; `augmented` applies several,
in the table's order. The rewriting ones (synonym, paraphrase, back-translation) come first: each
takes a variant of the *original* sentence, so of several that apply to one example the last in the
table counts. Then one mixing (mixup, manifold mixup or cutmix): two would need two label weights,
so they are refused together. Token cutoff comes last: it may hide what was cut in, and it leaves
a partner that is mixed in unchanged.

The fields of a batch are in `jaxreg/batch.py`; a partner's arrays are as they are before
augmentation. An augmentation reads no other row, so the division of the batch over devices does not
matter.

Randomness: position-keyed, see `keyed_draws.py`; the key is the step's, of the stream "augment" of
`jaxreg.rng`, with the augmentation's number from `SITES` folded in. Two augmentations, or two
steps, share no random number.
"""

from collections.abc import Mapping
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp

from jaxreg.reg import keyed_draws
from jaxreg.reg.cutmix import cut_images, cut_sentences
from jaxreg.typing import Array, Bool, Float, Int, Key, Scalar

Batch = dict[str, Array]
"""Arrays by the names of `jaxreg.batch.Batch`."""

Grid = tuple[int, int] | None
"""Rows and columns of an image's patches; None where there are none, or they are a square."""

SITES = {
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
"""Append-only: a changed number changes every published result."""


class Augmentation(Protocol):
    """An augmentation: its `what` and `source` in one line each, and what the batch must hold.

    needs: of "partner" (the partner_* arrays) and "variants:<kind>". `unit` names the strength:
    "alpha", of Beta(alpha, alpha), any number from 0 on; or "rate", a probability in [0, 1]. It is
    off at 0. `one_query`: only rows with one answer can have it.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.reg.augmentations import AUGMENTATIONS
      >>> [(name, each.unit) for name, each in AUGMENTATIONS.items()][-2:]
      [('cutmix_strength', 'alpha'), ('token_cutoff_rate', 'rate')]
    """

    what: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    unit: ClassVar[str]
    one_query: ClassVar[bool] = False

    def __call__(
        self,
        strength: Scalar,
        batch: Batch,
        augment_key: Key[Array, ""],
        example_ids: Int[Array, "b"],
        *,
        num_layers: int,
        grid: Grid = None,
    ) -> Batch:
        """The augmented batch; at the off value the given one (with mix_weight 1 if mixing).

        Args:
          strength: perhaps traced.
          augment_key: the step's key of the stream "augment".
          example_ids: positions in the global batch.
          num_layers: blocks of the model.
          grid: of an image's patches.
        """
        ...


def site_key(augment_key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The key of one place of `SITES` in this step.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.reg.augmentations import site_key
      >>> step = jax.random.key(0)
      >>> bool((site_key(step, "mixup") == site_key(step, "cutmix")).all())
      False
    """
    return jax.random.fold_in(augment_key, SITES[name])


def mix_weights(
    site: Key[Array, ""], alpha: Scalar, example_ids: Int[Array, "b"]
) -> Float[Array, "b"]:
    """Own weights: Beta(alpha, alpha) per example, exactly 1 at alpha 0.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.reg.augmentations import mix_weights, site_key
      >>> site = site_key(jax.random.key(0), "mixup")
      >>> mix_weights(site, 0.0, jnp.arange(3)).tolist()  # off
      [1.0, 1.0, 1.0]
      >>> mixed = mix_weights(site, 0.4, jnp.arange(3))
      >>> mixed.shape, bool(((0 < mixed) & (mixed < 1)).all())
      ((3,), True)
    """
    on = jnp.asarray(alpha) > 0
    return jnp.where(
        on, keyed_draws.beta_symmetric(site, example_ids, jnp.where(on, alpha, 1.0)), 1.0
    )


def unmixed(batch: Batch) -> Batch:
    """The batch, if it is not mixed yet.

    Raises:
      ValueError: it is mixed already.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.reg.augmentations import unmixed
      >>> sorted(unmixed({"tokens": jnp.zeros((1, 3), int)}))
      ['tokens']
    """
    if "mix_weight" in batch:
        raise ValueError(
            "two augmentations mix the labels of one batch; allowed is one of mixup, manifold mixup"
            " and cutmix"
        )
    return batch


class Mixup(Augmentation):
    """Averages embeddings (or features) of an example and its partner, and their labels alike.

    Source: Zhang et al. 2018, "mixup: beyond empirical risk minimization", arXiv:1710.09412, eq. 1
    and 2; of word embeddings: Guo et al. 2019, arXiv:1905.08941 (wordMixup). Differs: the model
    does the mixing, after token and position embeddings; one weight per example, as eq. 2 reads,
    where Zhang's code has one per batch; each label is read at its own example's query.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.reg.augmentations import Mixup
      >>> batch = {"tokens": jnp.ones((4, 6), int)}
      >>> mixed = Mixup()(0.4, batch, jax.random.key(0), jnp.arange(4), num_layers=2)
      >>> mixed["mix_weight"].shape, int(mixed["mix_layer"])
      ((4,), 0)
    """

    what = "own and partner's embeddings averaged, and their labels alike"
    source = "Zhang et al. 2018; Guo et al. 2019"
    needs = ("partner",)
    unit = "alpha"

    def __call__(
        self,
        strength: Scalar,
        batch: Batch,
        augment_key: Key[Array, ""],
        example_ids: Int[Array, "b"],
        *,
        num_layers: int,
        grid: Grid = None,
    ) -> Batch:
        weight = mix_weights(site_key(augment_key, "mixup"), strength, example_ids)
        return unmixed(batch) | {"mix_weight": weight, "mix_layer": jnp.int32(0)}


class ManifoldMixup(Augmentation):
    """As mixup, at the input of a block that is drawn per step, uniform over all blocks.

    Source: Verma et al. 2019, arXiv:1806.05236, section 2. Differs: as mixup; one layer for all
    examples of a step, as there.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.reg.augmentations import ManifoldMixup
      >>> batch = {"tokens": jnp.ones((4, 6), int)}
      >>> mixed = ManifoldMixup()(0.4, batch, jax.random.key(0), jnp.arange(4), num_layers=2)
      >>> mixed["mix_weight"].shape, int(mixed["mix_layer"]) in (0, 1)
      ((4,), True)
    """

    what = "mixup at the input of a block drawn per step"
    source = "Verma et al. 2019"
    needs = ("partner",)
    unit = "alpha"

    def __call__(
        self,
        strength: Scalar,
        batch: Batch,
        augment_key: Key[Array, ""],
        example_ids: Int[Array, "b"],
        *,
        num_layers: int,
        grid: Grid = None,
    ) -> Batch:
        weight = mix_weights(site_key(augment_key, "manifold_mixup"), strength, example_ids)
        step_words = keyed_draws.example_words(
            site_key(augment_key, "manifold_mixup_layer"), jnp.zeros(1, jnp.int32), 1
        )
        return unmixed(batch) | {
            "mix_weight": weight,
            "mix_layer": keyed_draws.whole_numbers(step_words, num_layers)[0, 0],
        }


class CutMix(Augmentation):
    """Replaces a part of the example by the partner's, and weights the labels by the shares.

    Images (batches with features): a rectangle of patches in the image's proportions. Sentences: a
    span of positions, taken from the partner relative to the query: the word d places before the
    own query comes from d places before the partner's. Only words that both have are exchanged, so
    padding stays where it is. The query's word and the cues of both sentences are exchanged
    together or stay: a verb never meets the other sentence's subject, which could be a held-out
    pair, and has no label. So the query position always holds one of the two query words, with its
    own cues, and both labels are read there. The weight is the share of own words (or patches) that
    is kept, as published, whichever part decides the label.

    Nothing checks that a cut sentence is in no other split: with held-out sentences of the same
    pairs it may be. The cues of a sentence that was rewritten first are not known and so are not
    kept together.

    Source: Yun et al. 2019, "CutMix", arXiv:1905.04899, eq. 1 and 2 and section 3.2. Differs: one
    weight per example, not per batch; the rectangle is rounded to whole patches and lies inside
    the image, where theirs is cut off at the edge; spans are ours.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.reg.augmentations import CutMix
      >>> images, others = jnp.zeros((1, 5, 2)), jnp.ones((1, 5, 2))  # 2 x 2 patches and the query
      >>> batch = {
      ...     "features": images,
      ...     "partner_features": others,
      ...     "query_position": jnp.array([4]),
      ...     "partner_query_position": jnp.array([4]),
      ... }
      >>> cut = CutMix()(0.0, batch, jax.random.key(0), jnp.arange(1), num_layers=2)
      >>> float(cut["mix_weight"][0]), bool((cut["features"] == images).all())  # off
      (1.0, True)
    """

    what = "a part of the input replaced by the partner's, labels by share"
    source = "Yun et al. 2019"
    needs = ("partner",)
    unit = "alpha"
    one_query = True  # spans are aligned by it

    def __call__(
        self,
        strength: Scalar,
        batch: Batch,
        augment_key: Key[Array, ""],
        example_ids: Int[Array, "b"],
        *,
        num_layers: int,
        grid: Grid = None,
    ) -> Batch:
        wanted = mix_weights(site_key(augment_key, "cutmix"), strength, example_ids)
        place = keyed_draws.uniforms(
            keyed_draws.example_words(site_key(augment_key, "cutmix_place"), example_ids, 2)
        )
        if "features" in batch:
            return cut_images(unmixed(batch), wanted, place, grid)
        return cut_sentences(unmixed(batch), wanted, place)


class TokenCutoff(Augmentation):
    """Replaces tokens by padding independently, except the query; their features become 0.

    Nothing attends to padding.

    Source: Shen et al. 2020, "A simple but tough-to-beat data augmentation approach for natural
    language understanding and generation", arXiv:2009.13818 (token cutoff). Differs: each token
    independently instead of a fixed number; keys are hidden, not only embeddings zeroed; without
    their consistency loss (`r_drop_strength` adds one).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.reg.augmentations import TokenCutoff
      >>> batch = {"tokens": jnp.array([[3, 4, 5]]), "query_position": jnp.array([2])}
      >>> cut = TokenCutoff()(1.0, batch, jax.random.key(0), jnp.arange(1), num_layers=2)
      >>> cut["tokens"].tolist()  # the query's stays
      [[0, 0, 5]]
    """

    what = "single tokens turned into padding, never the query's"
    source = "Shen et al. 2020"
    needs = ()
    unit = "rate"
    # It makes padding of a token, which leaves a position of a causal model nothing to attend to.
    one_query = True

    def __call__(
        self,
        strength: Scalar,
        batch: Batch,
        augment_key: Key[Array, ""],
        example_ids: Int[Array, "b"],
        *,
        num_layers: int,
        grid: Grid = None,
    ) -> Batch:
        positions = jnp.arange(batch["tokens"].shape[1])
        words = keyed_draws.example_words(
            site_key(augment_key, "token_cutoff"), example_ids, positions.size
        )
        kept = (keyed_draws.uniforms(words) >= strength) | (
            positions[None] == batch["query_position"][:, None]
        )
        out = batch | {"tokens": jnp.where(kept, batch["tokens"], 0)}
        if "features" in batch:
            return out | {"features": jnp.where(kept[..., None], batch["features"], 0)}
        return out


class _Rewriting(Augmentation):
    """Replaces the example by one of its variants, uniformly, with probability `strength`.

    An example without a variant is unchanged. The cues of a replaced example are -1, as their new
    positions are not known.
    """

    kind: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    unit = "rate"

    def __call__(
        self,
        strength: Scalar,
        batch: Batch,
        augment_key: Key[Array, ""],
        example_ids: Int[Array, "b"],
        *,
        num_layers: int,
        grid: Grid = None,
    ) -> Batch:
        variants, queries = batch[f"variants_{self.kind}"], batch[f"variants_{self.kind}_query"]
        words = keyed_draws.example_words(site_key(augment_key, self.kind), example_ids, 2)
        exists = queries >= 0
        wanted = keyed_draws.whole_numbers(words[:, 1], exists.sum(axis=1))
        chosen = jnp.argmax(exists & (jnp.cumsum(exists, axis=1) - 1 == wanted[:, None]), axis=1)
        struck = (keyed_draws.uniforms(words[:, 0]) < strength) & exists.any(axis=1)
        return batch | {
            "tokens": _where(
                struck,
                jnp.take_along_axis(variants, chosen[:, None, None], axis=1)[:, 0],
                batch["tokens"],
            ),
            "query_position": jnp.where(
                struck,
                jnp.take_along_axis(queries, chosen[:, None], axis=1)[:, 0],
                batch["query_position"],
            ),
            "cues": _where(struck, -1, batch["cues"]),
        }


def _where(
    chosen: Bool[Array, "b"], one: Int[Array, "b n"] | int, other: Int[Array, "b n"]
) -> Int[Array, "b n"]:
    return jnp.where(chosen[:, None], one, other)


class Synonym(_Rewriting):
    """Exchanges words for others of their class; see `jaxreg.data.catsat.rewriting`.

    Source: Zhang, Zhao & LeCun 2015, "Character-level convolutional networks for text
    classification", arXiv:1509.01626, section 2.4. Differs: variants are made before training, from
    our own classes of words instead of a thesaurus.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.reg.augmentations import Synonym
      >>> batch = {
      ...     "tokens": jnp.array([[3, 4, 5]]),
      ...     "query_position": jnp.array([2]),
      ...     "cues": jnp.array([[1]]),
      ...     "variants_synonym": jnp.array([[[3, 6, 5]]]),
      ...     "variants_synonym_query": jnp.array([[2]]),
      ... }
      >>> always = Synonym()(1.0, batch, jax.random.key(0), jnp.arange(1), num_layers=2)
      >>> always["tokens"].tolist(), always["cues"].tolist()
      ([[3, 6, 5]], [[-1]])
    """

    what = "words exchanged for others of their class"
    source = "Zhang, Zhao & LeCun 2015"
    kind = "synonym"
    needs = ("variants:synonym",)


class Paraphrase(_Rewriting):
    """Replaces an example by a paraphrase in another frame; see `jaxreg.data.catsat.rewriting`.

    Source: Iyyer et al. 2018, "Adversarial example generation with syntactically controlled
    paraphrase networks", arXiv:1804.06059, for the idea of another syntactic frame. Differs: by
    grammar, so exact; not adversarial.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.reg.augmentations import Paraphrase
      >>> batch = {
      ...     "tokens": jnp.array([[3, 4, 5]]),
      ...     "query_position": jnp.array([2]),
      ...     "cues": jnp.array([[1]]),
      ...     "variants_paraphrase": jnp.array([[[3, 6, 5]]]),
      ...     "variants_paraphrase_query": jnp.array([[2]]),
      ... }
      >>> always = Paraphrase()(1.0, batch, jax.random.key(0), jnp.arange(1), num_layers=2)
      >>> always["tokens"].tolist(), always["cues"].tolist()
      ([[3, 6, 5]], [[-1]])
    """

    what = "the same meaning in another frame of the grammar"
    source = "Iyyer et al. 2018 (the idea)"
    kind = "paraphrase"
    needs = ("variants:paraphrase",)


class BackTranslation(_Rewriting):
    """Replaces an example by its translation into another language and back.

    The translations are in `jaxreg.data.catsat.rewriting`.

    Source: Sennrich, Haddow & Birch 2016, "Improving neural machine translation models with
    monolingual data", arXiv:1511.06709, and Edunov et al. 2018, arXiv:1808.09381 (sampling).
    Differs: an artificial language; both directions are grammars.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.reg.augmentations import BackTranslation
      >>> batch = {
      ...     "tokens": jnp.array([[3, 4, 5]]),
      ...     "query_position": jnp.array([2]),
      ...     "cues": jnp.array([[1]]),
      ...     "variants_back_translation": jnp.array([[[3, 6, 5]]]),
      ...     "variants_back_translation_query": jnp.array([[2]]),
      ... }
      >>> always = BackTranslation()(1.0, batch, jax.random.key(0), jnp.arange(1), num_layers=2)
      >>> always["tokens"].tolist(), always["cues"].tolist()
      ([[3, 6, 5]], [[-1]])
    """

    what = "a round trip through an artificial language"
    source = "Sennrich et al. 2016; Edunov et al. 2018"
    kind = "back_translation"
    needs = ("variants:back_translation",)


AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "synonym_rate": Synonym,
    "paraphrase_rate": Paraphrase,
    "back_translation_rate": BackTranslation,
    "mixup_strength": Mixup,
    "manifold_mixup_strength": ManifoldMixup,
    "cutmix_strength": CutMix,
    "token_cutoff_rate": TokenCutoff,
}
"""Config field of the section `augment` -> augmentation, in the order of application."""

MIXING = ("mixup_strength", "manifold_mixup_strength", "cutmix_strength")
"""The fields of which one at most may be present: each sets the weight of the label."""


def check_together(names: tuple[str, ...]) -> None:
    """Raises ValueError where two of the fields `names` mix labels, or one is no augmentation.

    Example:
      >>> from jaxreg.reg.augmentations import check_together
      >>> check_together(("mixup_strength", "token_cutoff_rate"))  # no error
      >>> try:
      ...     check_together(("mixup_strength", "cutmix_strength"))
      ... except ValueError as error:
      ...     print(str(error)[:55])
      ...
      augment: mixup_strength and cutmix_strength both mix la
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise ValueError(
                f"augment.{name}: no augmentation; allowed: {', '.join(AUGMENTATIONS)}"
            )
    mixing = [name for name in MIXING if name in names]
    if len(mixing) > 1:
        raise ValueError(
            f"augment: {' and '.join(mixing)} both mix labels; allowed is one of"
            f" {', '.join(MIXING)}, None for the others"
        )


def needs_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """What a batch must hold for these, each once in the table's order, such as ("partner",).

    Example:
      >>> from jaxreg.reg.augmentations import needs_of
      >>> needs_of(("mixup_strength", "synonym_rate"))
      ('variants:synonym', 'partner')
    """
    return tuple(
        dict.fromkeys(
            need
            for name, augmentation in AUGMENTATIONS.items()
            if name in names
            for need in augmentation.needs
        )
    )


def augmented(
    batch: Batch,
    strengths: Mapping[str, Scalar],
    augment_key: Key[Array, ""],
    example_ids: Int[Array, "b"],
    *,
    num_layers: int,
    grid: Grid = None,
) -> Batch:
    """The batch after all augmentations of `strengths`, in the table's order.

    Args:
      strengths: fields of `AUGMENTATIONS` -> perhaps traced numbers; what is not in it is absent
        from the program.
      augment_key: the step's key of the stream "augment".
      example_ids: positions in the global batch.
      num_layers: blocks of the model.
      grid: rows and columns of an image's patches, where rows begin with some; None: a square.

    Raises:
      ValueError: two of them mix labels, or a name is unknown.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.reg.augmentations import augmented
      >>> batch = {"tokens": jnp.array([[3, 4, 5]]), "query_position": jnp.array([2])}
      >>> given = dict(augment_key=jax.random.key(0), example_ids=jnp.arange(1), num_layers=2)
      >>> augmented(batch, {"token_cutoff_rate": 0.0}, **given)["tokens"].tolist()  # off
      [[3, 4, 5]]
    """
    check_together(tuple(strengths))
    for name, augmentation in AUGMENTATIONS.items():
        if name in strengths:
            batch = augmentation()(
                strengths[name], batch, augment_key, example_ids, num_layers=num_layers, grid=grid
            )
    return batch
