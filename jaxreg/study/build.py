"""From configuration to objects. The ConfigDict stops here: below there are typed keyword arguments only.

A resolved config is cut in two: *strengths*, numbers that are traced, and *structure*, everything else. Members of equal
structure share one compiled program. Sections are splatted into constructors, so a field that nobody reads is an error.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import losses, nn, optim, rng
from jaxreg.data import Dataset, View
from jaxreg.metrics import Tally, choice_hits
from jaxreg.train.loop import Job, Plan
from jaxreg.train.parallel import Layout, Programs, Tables
from jaxreg.train.step import Moment, Problem
from jaxreg.train.stopping import Rule

STRENGTHS = {
    "model": ("attention_dropout_rate", "residual_dropout_rate", "mlp_dropout_rate", "mlp_pre_activation_dropout_rate"),
    "loss": ("label_smoothing_strength",),
    "optim": ("learning_rate", "weight_decay", "max_grad_norm"),
}
"""Config fields that are data, not structure. A rate of None is structure: the site is absent."""

OPERATIONAL = ("checkpoint", "seed")
"""Sections that never change a result: no part of a member's hash."""


def strengths_of(config: Mapping) -> dict[str, dict[str, float]]:
    """The traced numbers of a resolved config, by section."""
    return {
        section: {name: float(config[section][name]) for name in names if config[section][name] is not None}
        for section, names in STRENGTHS.items()
    }


def structure_of(config: Mapping) -> dict[str, dict[str, Any]]:
    """What is left without strengths, stopping patience and the data's contents: equal structure, equal program."""
    traced = strengths_of(config)
    structure = {
        section: {name: value for name, value in config[section].items() if name not in traced[section]} for section in STRENGTHS
    }
    data = {name: config["data"][name] for name in ("dataset", "length", "num_train", "num_eval")}
    stopping = {"split": config["stopping"]["split"]}
    return structure | {"train": dict(config["train"]), "eval": dict(config["eval"]), "data": data, "stopping": stopping}


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What the model must know of a data set: sizes, and which embedding rows are fresh at evaluation."""

    vocab_size: int
    num_outputs: int
    fresh_tokens: tuple[int, ...]
    fresh_like: tuple[int, ...]

    @classmethod
    def of(cls, dataset: Dataset) -> "Vocabulary":
        """Read off a data set."""
        return cls(len(dataset.tokens), len(dataset.outputs), tuple(map(int, dataset.fresh_tokens)), tuple(map(int, dataset.fresh_like)))


def model_of(structure: Mapping, strengths: Mapping, vocabulary: Vocabulary) -> nn.Transformer:
    """The model of one member; rates may be traced."""
    return nn.Transformer(
        vocab_size=vocabulary.vocab_size, num_outputs=vocabulary.num_outputs, max_length=structure["data"]["length"],
        **structure["model"], **strengths["model"],
    )


def problem_of(structure: Mapping, vocabulary: Vocabulary) -> Callable[[Mapping], Problem]:
    """A function from (traced) strengths to what a member learns."""
    length, num_steps = structure["data"]["length"], structure["train"]["num_steps"]

    def build(strengths: Mapping) -> Problem:
        model = model_of(structure, strengths, vocabulary)

        def objective(params, batch, moment: Moment, example_ids) -> Tally:
            logits = model.apply(
                {"params": params}, batch["tokens"], padding_mask=batch["tokens"] != 0, train=True, dropout_key=moment.key("dropout"),
                example_ids=example_ids, read_positions=batch["query_position"],
            )
            values = losses.cross_entropy(logits, batch["label"], **structure["loss"], **strengths["loss"])
            return Tally(jnp.sum(values), jnp.float32(values.size))

        def score(params, batch, seed):
            logits = predict(model, with_fresh_rows(params, seed, vocabulary), batch)
            hits = choice_hits(logits, batch["label"], batch["foil"])
            return jnp.stack([hits, losses.cross_entropy(logits, batch["label"])], axis=-1)

        def init(key):
            return model.init(key, jnp.zeros((1, length), jnp.int32))["params"]

        return Problem(init, objective, score, optim.adamw(num_steps=num_steps, **structure["optim"], **strengths["optim"]))

    return build


def predict(model: nn.Transformer, params: Any, batch: Mapping) -> jax.Array:
    """Logits [n, V] at the query position, in evaluation mode, with the batch's connections cut in every head and layer.

    batch["cut_positions"]: [n, C], key positions that the query may not read; -1 cuts nothing.
    """
    positions = jnp.arange(batch["tokens"].shape[1])
    is_query = positions[None, :, None] == batch["query_position"][:, None, None]
    is_cut = (positions[None, :, None] == batch["cut_positions"][:, None, :]).any(-1)
    allowed = ~(is_query & is_cut[:, None, :])
    return model.apply(
        {"params": params}, batch["tokens"], padding_mask=batch["tokens"] != 0, mask=allowed[:, None],
        read_positions=batch["query_position"],
    )


def with_fresh_rows(params: Any, seed: Any, vocabulary: Vocabulary) -> Any:
    """`params` with the embedding rows of words never trained replaced by random ones, as long as the trained nouns' on average.

    The rows are normal, of the seed's "fresh" stream, at the root mean square of the rows `fresh_like`.
    """
    if not vocabulary.fresh_tokens:
        return params
    table = params["embedding"]["embedding"]
    size = jnp.sqrt(jnp.mean(jnp.square(table[jnp.asarray(vocabulary.fresh_like)])))
    rows = size * jax.random.normal(rng.seed_key(seed, "fresh"), (len(vocabulary.fresh_tokens), table.shape[1]))
    return {**params, "embedding": {"embedding": table.at[jnp.asarray(vocabulary.fresh_tokens)].set(rows)}}


@dataclasses.dataclass(frozen=True)
class Passes:
    """The distinct (split, cuts) that the views need, curve views first; several views share a pass."""

    keys: tuple[tuple[str, tuple[str, ...]], ...]
    num_curves: int

    @classmethod
    def of(cls, views: Sequence[View], curves: Sequence[str], stopping_split: str) -> "Passes":
        """The passes of a data set's views; curves and the stopping split come first."""
        by_name = {view.name: view for view in views}
        wanted = [(by_name[name].split, by_name[name].cut) for name in curves] + [(stopping_split, ())]
        first = tuple(dict.fromkeys(wanted))
        return cls(tuple(dict.fromkeys([*first, *((view.split, view.cut) for view in views)])), len(first))

    def index(self, split: str, cut: tuple[str, ...] = ()) -> int:
        """Where a pass stands."""
        return self.keys.index((split, cut))


def pass_batch(dataset: Dataset, split: str, cut: tuple[str, ...], rows: int | None = None) -> dict[str, np.ndarray]:
    """One pass as arrays, filled up to `rows` by repeating the last row."""
    part = dataset.splits[split]
    columns = [dataset.cue_names.index(name) for name in cut]
    cuts = np.full((len(part), len(dataset.cue_names)), -1, np.int32)
    cuts[:, : len(columns)] = part.cues[:, columns]
    batch = {
        "tokens": part.tokens, "query_position": part.query_position, "label": part.label, "foil": part.foil, "cut_positions": cuts,
    }
    fill = 0 if rows is None else rows - len(part)
    return {name: np.concatenate([x, np.repeat(x[-1:], fill, axis=0)]) for name, x in batch.items()}


def tables_of(datasets: Sequence[Dataset], passes: Passes, devices: int = 1) -> Tables:
    """The arrays of several draws of one data set: train [R, n, ...], passes [R, P, n, ...]."""
    longest = max(len(datasets[0].splits[split]) for split, _ in passes.keys)
    rows = -(-longest // devices) * devices
    train = [pass_batch(dataset, "train", ()) for dataset in datasets]
    train = [{name: batch[name] for name in ("tokens", "query_position", "label")} for batch in train]
    scored = [
        jax.tree.map(lambda *x: np.stack(x), *[pass_batch(dataset, *key, rows) for key in passes.keys]) for dataset in datasets
    ]
    return Tables(jax.tree.map(lambda *x: np.stack(x), *train), jax.tree.map(lambda *x: np.stack(x), *scored))


def plan_of(structure: Mapping, dataset: Dataset, passes: Passes) -> Plan:
    """How long and how often, from the structure and the size of the splits."""
    return Plan(
        num_steps=structure["train"]["num_steps"], batch_size=structure["train"]["batch_size"],
        eval_every_steps=structure["eval"]["every_steps"], num_examples=len(dataset.splits["train"]),
        pass_rows=tuple(len(dataset.splits[split]) for split, _ in passes.keys), num_curve_passes=passes.num_curves,
        stopping_pass=passes.index(structure["stopping"]["split"]),
    )


def layout_of(structure: Mapping, devices: Sequence[Any] | None = None) -> Layout:
    """Where the members of a structure run."""
    train = structure["train"]
    return Layout(train["layout"], train["members_per_device"], train["member_axis"], tuple(devices or jax.devices()))


def programs_of(structure: Mapping, vocabulary: Vocabulary, devices: Sequence[Any] | None = None) -> Programs:
    """The compiled programs of a structure."""
    return Programs(problem_of(structure, vocabulary), layout_of(structure, devices))


def job_of(config: Mapping, member_hash: str, seed: int, dataset: int) -> Job:
    """One member, ready to train."""
    rule = {name: value for name, value in config["stopping"].items() if name != "split"}
    return Job(member_hash, seed, dataset, strengths_of(config), Rule(**rule))
