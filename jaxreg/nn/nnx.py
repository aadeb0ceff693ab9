"""The modules of `jaxreg.nn` for Flax NNX: the same fields, the same parameters, and the same numbers from the same keys.

    from flax import nnx
    from jaxreg.nn import nnx as jnnx

    block = jnnx.TransformerBlock(num_heads=2, mlp_width=32, attention_dropout_rate=0.1, width=16, rngs=nnx.Rngs(0))
    y = block(x, train=True, rngs=nnx.Rngs(dropout=1))    # or dropout_key=..., as in Linen
    jnnx.load_linen(block, linen_variables["params"])     # and back: jnnx.to_linen(block)

What differs from Linen, everywhere in this file:

- A module is built for one `width` (D), and `rngs` initialises its parameters (stream "params"). The distribution is Linen's, the
  numbers are not: NNX counts its keys, Linen derives them from names.
- It keeps no random state. Dropout takes `dropout_key`, or else draws from the "dropout" stream of the `rngs` given in the call.
- Rates in the constructor are numbers or None: an array there would become state of the module, and a traced one would leak out of
  its trace. In the call, `rates={"attention_dropout_rate": rate}` overrides them, by field name, and may be traced. A site whose
  rate is None in both is left out.
- `sow_weights=True` in the call asks for the attention weights, as in flax.nnx.MultiHeadAttention: wrap the call in `nnx.capture`.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial

import jax
from flax import nnx, traverse_util

from jaxreg import rng
from jaxreg.attention.dropout import check_rate
from jaxreg.nn.attention import attend_heads, attention_kind, head_width
from jaxreg.nn.block import check_norm, sublayer
from jaxreg.nn.dropout import folded, position_keyed_dropout
from jaxreg.nn.positions import position_vectors
from jaxreg.nn.transformer import at_positions, masks_per_layer
from jaxreg.typing import Array, Bool, Float, Int, Params, PRNGKey, Rate, Scalar

RATES = ("attention_dropout_rate", "residual_dropout_rate", "mlp_dropout_rate", "mlp_pre_activation_dropout_rate")
"""What `rates` may name in a call, as far as the module has it."""

Rngs = nnx.Rngs | nnx.RngStream
_module = partial(nnx.dataclass, eq=False)   # equal by identity, as every NNX module


def load_linen(module: nnx.Module, params: Mapping) -> None:
    """Puts the parameters of the Linen module of the same name and fields into `module`, in place.

    Args:
      module: one of this file.
      params: what lies under "params" in Linen's variables.

    Raises:
      ValueError: a parameter that is missing, unknown, or of another shape.
    """
    given, own = (traverse_util.flatten_dict(tree, sep="/") for tree in (params, to_linen(module)))
    for name in sorted(given.keys() | own.keys()):
        shapes = [tree[name].shape if name in tree else "none" for tree in (given, own)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"params: {name} is {shapes[0]}; allowed is what the module has: {shapes[1]}")
    state = nnx.state(module, nnx.Param)
    nnx.replace_by_pure_dict(state, params)
    nnx.update(module, state)


def to_linen(module: nnx.Module) -> Params:
    """The parameters of `module` as a dict, as they lie under "params" in Linen's variables."""
    return nnx.to_pure_dict(nnx.state(module, nnx.Param))


@_module
class Dropout(nnx.Module):
    """`jaxreg.nn.Dropout` for NNX: no parameters, fields and randomness the same."""

    rate: Rate
    site: int = 0

    def __post_init__(self):
        _check_fields(self)

    def __call__(
        self, x: Float[Array, "b t d"], *, train: bool = False, dropout_key: PRNGKey | None = None, rngs: Rngs | None = None,
        example_ids: Int[Array, "b"] | None = None, rate: Rate = None,
    ) -> Float[Array, "b t d"]:
        """`x` with features dropped if `train`; `rate` overrides the field and may be traced."""
        rate = self.rate if rate is None else rate
        if not train or rate is None:
            return x
        return position_keyed_dropout(x, rate, _site_key(rngs, dropout_key, self.site), example_ids)


@_module
class SelfAttention(nnx.Module):
    """`jaxreg.nn.SelfAttention` for NNX: fields, parameters, randomness and errors the same; see this file's docstring.

    Parameters: query, key, value: kernel [D, H, K], bias [H, K]; out: kernel [H, K, D], bias [D].
    """

    num_heads: int
    attention_dropout_rate: Rate = None
    rotary: bool = False
    causal: bool = False
    site: int = 0
    attention_dropout_unit: str = "connection"
    attention_dropout_stage: str = "weights"
    attention_dropout_share: tuple[str, ...] = ()
    attention_dropout_span_length: int | None = None
    implementation: str | None = None
    _: dataclasses.KW_ONLY
    width: int
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        _check_fields(self)
        shape = (self.num_heads, head_width(self.width, self.num_heads))
        self.query, self.key, self.value = (nnx.LinearGeneral(self.width, shape, rngs=rngs) for _ in range(3))
        self.out = nnx.LinearGeneral(shape, self.width, axis=(-2, -1), rngs=rngs)

    def __call__(
        self, x: Float[Array, "b t d"], *, mask: Bool[Array, "#b #h #t #t"] | None = None, train: bool = False,
        dropout_key: PRNGKey | None = None, rngs: Rngs | None = None, example_ids: Int[Array, "b"] | None = None,
        droppable: Bool[Array, "#b #h #t #t"] | None = None, rates: Mapping[str, Scalar] | None = None, sow_weights: bool = False,
    ) -> Float[Array, "b t d"]:
        """As in Linen; `rates` and `sow_weights`: see this file's docstring."""
        rate = _rates(self, rates)["attention_dropout_rate"] if train else None
        out, weights = attend_heads(
            self, self.query(x), self.key(x), self.value(x), rate=rate,
            dropout_key=None if rate is None else _site_key(rngs, dropout_key, self.site), mask=mask, example_ids=example_ids,
            droppable=droppable, with_weights=sow_weights,
        )
        if sow_weights:
            self.sow(nnx.Intermediate, "attention_weights", weights)
        return self.out(out)


@_module
class Mlp(nnx.Module):
    """`jaxreg.nn.Mlp` for NNX: fields, parameters and randomness the same; see this file's docstring.

    Parameters: wi: kernel [D, F], bias [F]; wo: kernel [F, D], bias [D].
    """

    mlp_width: int
    mlp_dropout_rate: Rate = None
    mlp_pre_activation_dropout_rate: Rate = None
    layer: int = 0
    _: dataclasses.KW_ONLY
    width: int
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        _check_fields(self)
        self.wi = nnx.Linear(self.width, self.mlp_width, rngs=rngs)
        self.wo = nnx.Linear(self.mlp_width, self.width, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b t d"], *, train: bool = False, dropout_key: PRNGKey | None = None, rngs: Rngs | None = None,
        example_ids: Int[Array, "b"] | None = None, rates: Mapping[str, Scalar] | None = None,
    ) -> Float[Array, "b t d"]:
        """As in Linen; `rates`: see this file's docstring."""
        rates, draw = _rates(self, rates), dict(train=train, dropout_key=dropout_key, rngs=rngs, example_ids=example_ids)
        drop = lambda h, place: Dropout(None, rng.site(self.layer, place))(h, **draw, rate=rates[f"{place}_dropout_rate"])
        return self.wo(drop(nnx.gelu(drop(self.wi(x), "mlp_pre_activation")), "mlp"))


@_module
class TransformerBlock(nnx.Module):
    """`jaxreg.nn.TransformerBlock` for NNX: fields, parameters, randomness and errors the same; see this file's docstring.

    Parameters: attention (see SelfAttention), mlp (see Mlp), norm_attention and norm_mlp: scale [D], bias [D] (unless norm="none").
    """

    num_heads: int
    mlp_width: int
    norm: str = "pre"
    residual: bool = True
    attention_dropout_rate: Rate = None
    residual_dropout_rate: Rate = None
    mlp_dropout_rate: Rate = None
    mlp_pre_activation_dropout_rate: Rate = None
    rotary: bool = False
    causal: bool = False
    layer: int = 0
    attention_dropout_unit: str = "connection"
    attention_dropout_stage: str = "weights"
    attention_dropout_share: tuple[str, ...] = ()
    attention_dropout_span_length: int | None = None
    implementation: str | None = None
    _: dataclasses.KW_ONLY
    width: int
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        check_norm(self.norm)
        _check_fields(self)
        common = dict(width=self.width, rngs=rngs)
        self.attention = SelfAttention(
            self.num_heads, self.attention_dropout_rate, self.rotary, self.causal, rng.site(self.layer, "attention"),
            **attention_kind(self), **common)
        self.mlp = Mlp(self.mlp_width, self.mlp_dropout_rate, self.mlp_pre_activation_dropout_rate, self.layer, **common)
        self.norm_attention, self.norm_mlp = (
            None if self.norm == "none" else nnx.LayerNorm(self.width, rngs=rngs) for _ in range(2))

    def __call__(
        self, x: Float[Array, "b t d"], *, mask: Bool[Array, "#b #h #t #t"] | None = None, train: bool = False,
        dropout_key: PRNGKey | None = None, rngs: Rngs | None = None, example_ids: Int[Array, "b"] | None = None,
        droppable: Bool[Array, "#b #h #t #t"] | None = None, rates: Mapping[str, Scalar] | None = None, sow_weights: bool = False,
    ) -> Float[Array, "b t d"]:
        """As in Linen; `rates` and `sow_weights`: see this file's docstring."""
        rates, draw = _rates(self, rates), dict(train=train, dropout_key=dropout_key, rngs=rngs, example_ids=example_ids)
        of = lambda module: {name: rates[name] for name in RATES if hasattr(module, name) and rates[name] is not None}
        attention = partial(
            self.attention, mask=mask, droppable=droppable, sow_weights=sow_weights, rates=of(self.attention), **draw)
        mlp = partial(self.mlp, rates=of(self.mlp), **draw)
        for name, apply, norm in (("attention", attention, self.norm_attention), ("mlp", mlp, self.norm_mlp)):
            drop = partial(
                Dropout(None, rng.site(self.layer, f"{name}_residual")), rate=rates["residual_dropout_rate"], **draw)
            x = sublayer(x, apply, norm, drop, order=self.norm, residual=self.residual)
        return x


@_module
class Transformer(nnx.Module):
    """`jaxreg.nn.Transformer` for NNX: fields, parameters, randomness and errors the same; see this file's docstring.

    Parameters: as in Linen: embedding, positions (learned only), block_0 ... block_{N-1}, final_norm, output. The fields `positions`
    and `final_norm` are given to the constructor only: as attributes, these names are the parameters'.
    """

    vocab_size: int
    num_outputs: int
    num_layers: int = 2
    width: int = 32
    num_heads: int = 4
    mlp_width: int = 128
    max_length: int = 12
    positions: dataclasses.InitVar[str] = "learned"
    norm: str = "pre"
    final_norm: dataclasses.InitVar[bool] = True
    residual: bool = True
    causal: bool = False
    attention_dropout_rate: Rate = None
    residual_dropout_rate: Rate = None
    mlp_dropout_rate: Rate = None
    mlp_pre_activation_dropout_rate: Rate = None
    attention_dropout_unit: str = "connection"
    attention_dropout_stage: str = "weights"
    attention_dropout_share: tuple[str, ...] = ()
    attention_dropout_span_length: int | None = None
    implementation: str | None = None
    _: dataclasses.KW_ONLY
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, positions: str, final_norm: bool, rngs: nnx.Rngs):
        _check_fields(self)
        self.position_kind = positions
        self.embedding = nnx.Embed(self.vocab_size, self.width, rngs=rngs)
        self.positions = nnx.Embed(self.max_length, self.width, rngs=rngs) if positions == "learned" else None
        for layer in range(self.num_layers):
            block = TransformerBlock(
                self.num_heads, self.mlp_width, self.norm, self.residual, self.attention_dropout_rate, self.residual_dropout_rate,
                self.mlp_dropout_rate, self.mlp_pre_activation_dropout_rate, positions == "rotary", self.causal, layer,
                **attention_kind(self), width=self.width, rngs=rngs)
            setattr(self, f"block_{layer}", block)
        self.final_norm = nnx.LayerNorm(self.width, rngs=rngs) if final_norm else None
        self.output = nnx.Linear(self.width, self.num_outputs, rngs=rngs)

    def __call__(
        self, tokens: Int[Array, "b t"], *, padding_mask: Bool[Array, "b t"] | None = None,
        mask: Bool[Array, "#b #h #t #t"] | Bool[Array, "n #b #h #t #t"] | None = None, train: bool = False,
        dropout_key: PRNGKey | None = None, rngs: Rngs | None = None, example_ids: Int[Array, "b"] | None = None,
        droppable: Bool[Array, "#b #h #t #t"] | None = None, read_positions: Int[Array, "b"] | None = None,
        rates: Mapping[str, Scalar] | None = None, sow_weights: bool = False,
    ) -> Float[Array, "b t v"] | Float[Array, "b v"]:
        """Logits, as in Linen; `rates` and `sow_weights`: see this file's docstring. `rngs` is asked once."""
        if train and dropout_key is None and any(rate is not None for rate in _rates(self, rates).values()):
            dropout_key = _site_key(rngs, None, 0)
        x = self.embedding(tokens)
        x = x + position_vectors(self.position_kind, tokens.shape[1], self.width, self.max_length, self.positions)
        for layer, layer_mask in enumerate(masks_per_layer(mask, padding_mask, self.num_layers)):
            x = getattr(self, f"block_{layer}")(
                x, mask=layer_mask, train=train, dropout_key=dropout_key, example_ids=example_ids, droppable=droppable, rates=rates,
                sow_weights=sow_weights)
        x = at_positions(x, read_positions)
        return self.output(x if self.final_norm is None else self.final_norm(x))


def _check_fields(module: nnx.Module) -> None:
    """Raises ValueError for rates that are no numbers in [0, 1): an array would be state, a traced one would leak."""
    for name in ("rate", *RATES):
        rate = getattr(module, name, None)
        if isinstance(rate, jax.Array):
            raise ValueError(f"{name}: an array; allowed is a number or None here, and an array, traced too, in the call")
        if rate is not None:
            check_rate(rate, name)


def _rates(module: nnx.Module, given: Mapping[str, Scalar] | None) -> dict[str, Rate]:
    """The module's rates, those of this call before its own."""
    own = {name: getattr(module, name) for name in RATES if hasattr(module, name)}
    for name in given or {}:
        if name not in own:
            raise ValueError(f"rates: {name!r}; allowed: {', '.join(map(repr, own))}")
    return own | dict(given or {})


def _site_key(rngs: Rngs | None, dropout_key: PRNGKey | None, site: int) -> PRNGKey:
    """The call key of one site: the given key, or the next one of the "dropout" stream, with the site folded in."""
    if dropout_key is None and rngs is None:
        raise ValueError("dropout_key: None, and no rngs; dropout needs one of them in the call")
    if dropout_key is None:
        dropout_key = (rngs.dropout if isinstance(rngs, nnx.Rngs) else rngs)()
    return folded(dropout_key, site)
