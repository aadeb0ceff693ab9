"""A member's model, objective, optimizer and scores, built while tracing."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg import losses, nn, optim, rng
from jaxreg.batch import PARTNER
from jaxreg.data import Dataset
from jaxreg.metrics import Tally, asked
from jaxreg.nn.layers import sown_weights
from jaxreg.probe.forward import query_logits, row_scores
from jaxreg.reg import augmentations, schedules, sharpness
from jaxreg.reg.penalties import Seen, penalized
from jaxreg.study.design import components
from jaxreg.study.engine import diagnostics
from jaxreg.train.step import Moment, Problem, as_trained

Strengths = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What the model needs of a data set: sizes, cue names, rows fresh at evaluation, patches."""

    vocab_size: int
    num_outputs: int
    fresh_tokens: tuple[int, ...]
    fresh_like: tuple[int, ...]
    max_length: int = 12
    cue_names: tuple[str, ...] = ()
    num_features: int | None = None
    grid: tuple[int, int] | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> "Vocabulary":
        """Read off a data set."""
        features = dataset.splits["train"].features
        return cls(
            len(dataset.tokens),
            len(dataset.outputs),
            tuple(map(int, dataset.fresh_tokens)),
            tuple(map(int, dataset.fresh_like)),
            dataset.splits["train"].tokens.shape[1],
            tuple(dataset.cue_names),
            None if features is None else features.shape[-1],
            dataset.grid,
        )


def model_of(structure: Mapping, strengths: Strengths, vocabulary: Vocabulary) -> Any:
    """The model of one member, ours or a person's own Linen module; strengths may be traced."""
    options = dict(structure["model"])
    module = options.pop("module")
    make = components.MODELS[module]
    options.pop("attention_dropout_edges", None)
    if module == "transformer" and options.get("positions") == "sinusoidal_2d":
        options["grid"] = vocabulary.grid
    return make(
        vocab_size=vocabulary.vocab_size,
        num_outputs=vocabulary.num_outputs,
        max_length=vocabulary.max_length,
        **options,
        **strengths["model"],
    )


def problem_of(structure: Mapping, vocabulary: Vocabulary) -> Callable[[Strengths], Problem]:
    """A function from (traced) strengths to what a member learns."""
    num_steps = structure["train"]["num_steps"]

    def build(strengths: Strengths) -> Problem:
        model = model_of(structure, strengths, vocabulary)

        def score(params, batch, seed):
            params = with_fresh_rows(params, seed, vocabulary)

            def of_rows(rows):
                return row_scores(query_logits(model, params, rows), rows)

            if batch["label"].ndim == 1:
                return of_rows(batch)
            return in_parts(of_rows, batch, rows_at_once(structure, vocabulary))

        def init(key):
            given = example_input(vocabulary)
            return nn.initial_parameters(model, key, given.pop("tokens"), **given)

        options = structure["optim"] | strengths["optim"]
        radii = {name: options.pop(name) for name in sharpness.PERTURBATIONS}
        problem = Problem(
            init,
            functools.partial(training_loss, structure, strengths, vocabulary),
            score,
            optim.optimizer(num_steps=num_steps, stacked=nn.stacked_names(model), **options),
            sharpness.perturbation(**radii),
            as_trained
            if options["ema_decay"] is None
            else lambda p, state: optim.averaged(state, p),
            accumulate_steps=structure["train"]["accumulate_steps"],
        )
        return problem._replace(trace=diagnostics.of(structure["eval"]["traces"], problem, model))

    return build


LOGITS_AT_ONCE = 1 << 27
"""Logits that scoring holds at once, where a single row has no more: half a gigabyte in float32."""


def rows_at_once(structure: Mapping, vocabulary: Vocabulary) -> int:
    """Rows that are scored together where every position is asked.

    Logits of every position of a whole split are too many to hold. A step holds those of a batch,
    or of one part of it; of a large vocabulary even those are many, and here no gradient needs
    them.
    """
    train = structure["train"]
    of_row = vocabulary.max_length * vocabulary.num_outputs
    return max(1, min(train["batch_size"] // train["accumulate_steps"], LOGITS_AT_ONCE // of_row))


def in_parts(of_rows: Callable[[Any], jax.Array], batch: Any, size: int) -> jax.Array:
    """`of_rows` of a batch, `size` rows at a time: the same rows, in less memory."""
    count = jax.tree.leaves(batch)[0].shape[0]
    size = min(size, count)
    parts = -(-count // size)
    rows = jnp.minimum(jnp.arange(parts * size), count - 1).reshape(parts, size)
    found = jax.lax.map(lambda own: of_rows(jax.tree.map(lambda x: x[own], batch)), rows)
    return found.reshape(parts * size, *found.shape[2:])[:count]


def example_input(vocabulary: Vocabulary) -> dict[str, Any]:
    """One row as the model takes it, for its shapes."""
    given = {"tokens": jnp.zeros((1, vocabulary.max_length), jnp.int32)}
    if vocabulary.num_features is not None:
        shape = (1, vocabulary.max_length, vocabulary.num_features)
        given["features"] = jnp.zeros(shape, jnp.float32)
    return given


def scheduled(structure: Mapping, strengths: Strengths, step: Any) -> Strengths:
    """The strengths at one step: those of `schedule.fields` times the schedule's factor."""
    plan = structure["schedule"]
    if not plan["fields"]:
        return strengths
    factor = schedules.factor(
        plan["shape"], step, share=plan["share"], num_steps=structure["train"]["num_steps"]
    )
    changed = {section: dict(values) for section, values in strengths.items()}
    for field in plan["fields"]:
        section, name = field.split(".")
        changed[section][name] = factor * changed[section][name]
    return changed


def training_loss(
    structure: Mapping,
    strengths: Strengths,
    vocabulary: Vocabulary,
    params: Any,
    batch: Mapping,
    moment: Moment,
    example_ids: Any,
) -> Tally:
    """The loss of one batch: augmented, dropped, penalized; as sum and count."""
    now = scheduled(structure, strengths, moment.step)
    model = model_of(structure, now, vocabulary)
    if now["augment"]:
        batch = augmentations.augmented(
            dict(batch),
            now["augment"],
            moment.key("augment"),
            example_ids,
            num_layers=model.num_layers,
            grid=vocabulary.grid,
        )
    is_ours = structure["model"]["module"] == "transformer"
    edges = structure["model"]["attention_dropout_edges"] if is_ours else "all"
    cues, spared = vocabulary.cue_names, now["counterfactual"]
    run = Pass(params, batch, example_ids, model, moment, edges, cues, spared)
    logits, loss = run.logits_and_loss("dropout")
    seen = Seen(
        params,
        optim.DECAY_MASKS[structure["optim"]["decay_mask"]](params),
        batch,
        example_ids,
        logits,
        loss,
        run.attention_weights,
        lambda: run.logits_and_loss("second")[0],
    )
    strength = {name.removesuffix("_strength"): value for name, value in now["loss"].items()}
    values = penalized(seen, strength, components.PENALTIES)
    if batch["label"].ndim == 1:
        return Tally(jnp.sum(values), jnp.float32(values.size))
    there = asked(batch["label"])
    return Tally(jnp.sum(jnp.where(there, values, 0)), jnp.sum(there, dtype=jnp.float32))


@dataclasses.dataclass(frozen=True)
class Pass:
    """The model in training mode over one batch, augmented already."""

    params: Any
    batch: Mapping
    example_ids: Any
    model: Any
    moment: Moment
    edges: str
    cue_names: tuple[str, ...]
    spared: Mapping[str, Any]

    def logits_and_loss(self, stream: str) -> tuple[jax.Array, jax.Array]:
        """[B, V] logits at the query, and [B] cross-entropy in nats, with the masks of a stream.

        Where every position is asked they are [B, T, V] and [B, T].

        Where labels are mixed the loss is that of both, by their weights; a mixed example has two
        queries, each read for its label. Where the partner has no answer the own one counts alone.
        """
        batch = self.batch
        if batch["label"].ndim == 2:
            return self._at_every_position(stream)
        if "mix_layer" in batch:
            names = ("query_position", f"{PARTNER}query_position")
            queries = jnp.stack([batch[name] for name in names], axis=1)
            both = self._apply(stream, read_positions=queries)
            own, other = both[:, 0], both[:, 1]
        else:
            own = other = self._apply(stream, read_positions=batch["query_position"])
        loss = losses.cross_entropy(own, batch["label"])
        if "mix_weight" in batch:
            loss = batch["mix_weight"] * loss + (1 - batch["mix_weight"]) * losses.cross_entropy(
                other, batch[f"{PARTNER}label"]
            )
        return own, loss

    def _at_every_position(self, stream: str) -> tuple[jax.Array, jax.Array]:
        """[B, T, V] logits and [B, T] cross-entropy; see `logits_and_loss`."""
        batch = self.batch
        logits = self._apply(stream, read_positions=None)
        loss = losses.answer_losses(logits, batch["label"])
        if "mix_weight" in batch:
            partner = batch[f"{PARTNER}label"]
            weight = jnp.where(asked(partner), batch["mix_weight"][:, None], 1)
            loss = weight * loss + (1 - weight) * losses.answer_losses(logits, partner)
        return logits, loss

    def attention_weights(self) -> jax.Array:
        """[N, B, H, T, T]: as applied, with what dropout left."""
        _, sown = self._apply("dropout", mutable="intermediates")
        return sown_weights(sown["intermediates"], self.model.num_layers)

    def _apply(self, stream: str, **options: Any) -> Any:
        batch = self.batch
        given = {"features": batch["features"]} if "features" in batch else {}
        if "mix_layer" in batch:
            features = batch[f"{PARTNER}features"] if "features" in batch else None
            tokens, weight = batch[f"{PARTNER}tokens"], batch["mix_weight"]
            given["mix"] = nn.Mix(tokens, features, weight, batch["mix_layer"])
        if self.edges != "all":
            given["droppable"] = droppable(self.edges, batch, self.cue_names)
        if self.spared:
            step, length = self.moment.step, batch["tokens"].shape[1]
            others = not_spared(self.spared, step, self.example_ids, self.model, length)
            given["droppable"] = others & given["droppable"] if "droppable" in given else others
        return self.model.apply(
            {"params": self.params},
            batch["tokens"],
            padding_mask=batch["tokens"] != 0,
            train=True,
            dropout_key=self.moment.key(stream),
            example_ids=self.example_ids,
            **given,
            **options,
        )


def droppable(edges: str, batch: Mapping, cue_names: tuple[str, ...]) -> jax.Array:
    """bool [B, 1, T, T]: True at the connection that may be dropped, row -> column."""
    places = {name: batch["cues"][:, i] for i, name in enumerate(cue_names)}
    places = {"query": batch["query_position"]} | places
    positions = jnp.arange(batch["tokens"].shape[1])
    looks, seen = (positions == places[name][:, None] for name in edges.split("->"))
    return looks[:, None, :, None] & seen[:, None, None, :]


def not_spared(
    spared: Mapping[str, Any], step: Any, example_ids: jax.Array, model: Any, length: int
) -> jax.Array:
    """bool [N, B, H, T, T]: False at the one connection of one example that this step always keeps.

    Kept as it is, not scaled up as connections are that were drawn to be kept.

    Args:
      spared: step, example, layer, head, query and key, perhaps traced; in any other step nothing
        is spared.
    """
    axes = {
        "layer": jnp.arange(model.num_layers),
        "example": example_ids,
        "head": jnp.arange(model.num_heads),
        "query": jnp.arange(length),
        "key": jnp.arange(length),
    }
    hit = spared["step"] == step
    for axis, (name, numbers) in enumerate(axes.items()):
        shape = [-1 if i == axis else 1 for i in range(len(axes))]
        hit = hit & (spared[name] == numbers).reshape(shape)
    return ~hit


def with_fresh_rows(params: Any, seed: Any, vocabulary: Vocabulary) -> Any:
    """`params` with random normal embeddings of untrained words, RMS of rows `fresh_like`."""
    # another's model: its own initial rows are as random
    if not vocabulary.fresh_tokens or "embedding" not in params:
        return params
    table = params["embedding"]["embedding"]
    size = jnp.sqrt(jnp.mean(jnp.square(table[jnp.asarray(vocabulary.fresh_like)])))
    shape = (len(vocabulary.fresh_tokens), table.shape[1])
    rows = size * jax.random.normal(rng.seed_key(seed, "fresh"), shape)
    table = table.at[jnp.asarray(vocabulary.fresh_tokens)].set(rows)
    return {**params, "embedding": {"embedding": table}}
