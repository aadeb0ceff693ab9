"""Randomness: what is drawn in training, from which key, and what shares a draw."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.audit import draws, sites
from jaxreg.audit.bench import SIZE, Bench, compiled, pairs_that_agree, require
from jaxreg.audit.check import Check, CheckFailed, NotApplicable, Warned
from jaxreg.audit.checks import strengths
from jaxreg.audit.subject import State
from jaxreg.errors import one_line

KEYS = 128
"""Keys under which identical examples are compared."""


def key_matters(bench: Bench) -> str:
    """Training draws something: its loss depends on the key."""
    losses = np.array([bench.loss(key=bench.key(i), train=True) for i in range(16)])
    spread = np.ptp(losses, 0).max()
    require(
        bench.random_in_training,
        f"16 keys give the same training loss ({losses[0].mean():.6g}, spread {spread:.1g}):"
        " nothing in training is random",
    )
    return f"16 keys: the training loss of an example spreads by up to {spread:.3g}"


def key_repeats(bench: Bench) -> str:
    """The same key gives the same training loss, also by a program that is made anew."""
    first, again = bench.training_loss_twice
    off = np.abs(first.astype(float) - again.astype(float)).max()
    require(
        np.array_equal(first, again, equal_nan=True),
        f"two calls with one key, state and batch: the losses differ by up to {off:.3g}",
    )
    return "two programs with one key give the same bits"


def steps_differ(bench: Bench) -> str:
    """Two steps draw differently: by the key that they are given, or by the state."""
    bench.require_draws()
    bench.require_repeats()
    start = bench.moving_state
    first = bench.params(bench.step(start, key=bench.key(0)))
    others = [bench.params(bench.step(start, key=bench.key(i))) for i in range(1, 5)]
    gap = max(bench.gap(first, other) for other in others)
    if gap > 0:
        return f"steps with 5 keys: the parameters differ by up to {gap:.2g} of the largest"
    try:
        drawn, unseen = _keys_of_two_steps(bench)
    except draws.Untraceable as reason:
        return _by_streams(bench, str(reason))
    if drawn[0] != drawn[1]:
        _warn_of_a_part(*drawn)
        return f"two steps draw from two keys, made of the state ({_KEY_IS_UNUSED})"
    if unseen:
        raise NotApplicable(
            "steps with 5 keys give the same parameters, and what else a step draws is not seen"
            f" (not looked into: {', '.join(unseen)})"
        )
    require(drawn[0], "a training step draws nothing, although the training loss does")
    raise CheckFailed(_SAME_MASKS)


def _warn_of_a_part(first: list, second: list) -> None:
    """Raises Warned where some draws of two steps have one key, and others have not."""
    same = sum(a == b for a, b in zip(first, second))
    if same:
        raise Warned(f"{same} of {len(first)} draws of a step have the same key in the next step")


_KEY_IS_UNUSED = "the key of the call is not used"
_SAME_MASKS = (
    "steps with 5 keys give the same parameters: a step does not use its key, and every step draws"
    " the same masks"
)


def _keys_of_two_steps(bench: Bench) -> draws.Keys:
    """The keys of two steps, one after the other.

    Raises:
      draws.Untraceable: JAX can make no program of the step.
    """
    first, step = bench.step(bench.state), bench.subject.step
    assert step is not None  # steps_differ needs it
    return draws.keys(
        lambda s, b, k: bench.params(step(s, b, k)),
        (first, bench.step(first)),  # a new state may have a Python number where these have arrays
        bench.batch(),
        bench.key(),
    )


def _by_streams(bench: Bench, reason: str) -> str:
    """What is found of a step that cannot be traced, and does not use its key.

    The step is made from one state twice, once with the random streams that the state has after a
    step. Other whole numbers may be an optimizer's count, so they decide only where none matters.
    """
    start = bench.moving_state
    after = bench.step(start)
    plain = bench.params(after)
    if bench.gap(plain, bench.params(bench.step(_with_moved(start, after, _is_stream)))) > 0:
        return f"two steps differ by the random streams of the state ({_KEY_IS_UNUSED})"
    moved = _with_moved(start, after, lambda x: _is_stream(x) or _is_whole(x))
    if bench.gap(plain, bench.params(bench.step(moved))) > 0:
        raise NotApplicable(
            f"the step cannot be traced: {reason}; and a count in the state may make its keys. Keep"
            " NumPy and float() out of the audited step, or put jax.jit around it"
        )
    raise CheckFailed(_SAME_MASKS)


def _with_moved(start: State, after: State, is_taken: Callable[[Any], bool]) -> State:
    """The state `start` with those leaves of `after` that `is_taken` names."""
    leaves, structure = jax.tree.flatten(start, is_leaf=_is_variable_of_streams)
    others = jax.tree.leaves(after, is_leaf=_is_variable_of_streams)
    return jax.tree.unflatten(
        structure, [new if is_taken(old) else old for old, new in zip(leaves, others, strict=True)]
    )


def _is_variable_of_streams(x: Any) -> bool:
    return type(x).__name__ in ("RngCount", "RngKey")  # of Flax NNX


def _is_stream(x: Any) -> bool:
    return _is_variable_of_streams(x) or draws.is_key(x)


def _is_whole(x: Any) -> bool:
    return jnp.issubdtype(getattr(x, "dtype", type(x)), jnp.integer)


def evaluation_ignores_key(bench: Bench) -> str:
    """Evaluation never depends on a key."""
    read = {"loss": bench.loss}
    if bench.subject.logits is not None:
        read["logits"] = bench.logits
    for name, call in read.items():
        first, *others = (call(key=bench.key(i)) for i in range(8))
        off = max(bench.gap(first, other) for other in others)
        require(
            off <= bench.tolerance,
            f"8 keys: the {name} in evaluation differ{'s' if name == 'loss' else ''} by up to"
            f" {off:.1%} of the largest",
        )
    return f"8 keys give the same {' and '.join(read)}"


def examples_differ(bench: Bench) -> str:
    """Identical examples in one batch get different masks."""
    bench.require_draws()
    shared = _shared_by_examples(bench)
    require(
        not shared,
        "drawn once for all examples: "
        + ", ".join(f"{shape} in {place}" for place, shape in shared[:4]),
    )
    try:
        return _rows_differ(bench) + _left_out(bench)
    except NotApplicable:
        if bench.length() is None or not _sees_every_draw(sites.looked(bench)):
            raise
        return "every draw grows with the batch (the loss is a mean: its rows cannot be compared)"


def _shared_by_examples(bench: Bench) -> list[tuple[str, tuple[int, ...]]]:
    """Draws that grow with the number of positions and not with that of examples.

    Of jaxreg's attention all that do not grow with the examples: none of it is drawn for weights.
    """
    try:
        found = sites.looked(bench)
    except NotApplicable:
        return []
    full, cut, fewer = found.full.drawn, found.cut.drawn, found.fewer.drawn
    if not len(full) == len(fewer) == len(cut):
        return []  # which of them are the same draw is not known
    return list(
        dict.fromkeys(
            (place or "the model", shape)
            for (place, shape), (_, of_fewer), (_, of_cut) in zip(full, fewer, cut)
            if shape == of_fewer and (shape != of_cut or draws.OURS in place)
        )
    )


def _left_out(bench: Bench) -> str:
    """What of the draws no shape was seen of: rows differ where one mask of several does."""
    unseen = bench.shapes(bench.batch()).unseen
    if not unseen:
        return ""
    return f"; draws in {' and '.join(unseen)} are not looked into, so one of several may be shared"


def _sees_every_draw(found: sites.Looked) -> bool:
    """Whether the shapes of all draws were compared between sizes, so that none was left out."""
    numbers = {len(each.drawn) for each in (found.full, found.cut, found.fewer)}
    return not found.full.unseen and len(numbers) == 1 and numbers != {0}


def _rows_differ(bench: Bench) -> str:
    batch = bench.repeated()
    found = np.stack([bench.row_numbers(batch, bench.key(i), True) for i in range(KEYS)])
    together, pairs = pairs_that_agree(found, bench.tolerance)
    if not pairs:
        raise NotApplicable(f"too little is random: under {KEYS} keys a row's loss seldom changes")
    require(
        not together,
        f"{SIZE} identical examples, {KEYS} keys: {len(together)} of {pairs} pairs of rows have the"
        f" same loss under every key (rows {together[0][0] if together else 0} and"
        f" {together[0][1] if together else 0})",
    )
    spread = np.ptp(found, 1).max()
    return f"{SIZE} identical examples: their losses spread by up to {spread:.3g} under one key"


def layers_differ(bench: Bench) -> str:
    """No two draws of one shape use one key: layers do not share a mask."""
    bench.require_draws()
    repeated, num_draws, num_pairs = _same_masks(bench)
    if not num_pairs:
        are = "is 1 draw" if num_draws == 1 else f"are {num_draws} draws, of {num_draws} shapes"
        raise NotApplicable(f"needs two draws of one shape; there {are}")
    require(
        not repeated,
        "the same bits again: "
        + ", ".join(
            f"{count} draws of {shape} from one key ({_places(places)})"
            for (shape, count), places in list(repeated.items())[:3]
        ),
    )
    return f"{num_draws} draws of random bits: no two of one shape from one key"


def _places(places: list[str]) -> str:
    named = list(dict.fromkeys(place or "the model" for place in places))
    return " and ".join(named[:2]) + (", ..." if len(named) > 2 else "")


def _same_masks(bench: Bench) -> tuple[dict, int, int]:
    """(shape, how often) -> places, of draws of one shape from one key; and the number of draws,
    and of pairs of one shape.
    """
    trace = bench.trace(with_mean=True)  # as site_means asks for: one program for both
    if not trace.draws:
        why = f" (not looked into: {', '.join(trace.unseen)})" if trace.unseen else ""
        raise NotApplicable(f"needs draws by jax.random that can be followed{why}")
    by_key = defaultdict(list)
    for draw in trace.draws:
        if math.prod(draw.shape) > 1 or len(draw.keys) > 1:
            for words, count in Counter(map(tuple, draw.keys.tolist())).items():
                by_key[words, draw.shape] += [draw.place] * count
    found: dict = {}
    for (_, shape), places in by_key.items():
        if len(places) > 1 and math.prod(shape) > 1:
            found.setdefault((shape, len(places)), []).extend(places)
    shapes = Counter(draw.shape for draw in trace.draws for _ in draw.keys)
    pairs = sum(math.comb(n, 2) for shape, n in shapes.items() if math.prod(shape) > 1)
    return found, len(trace.draws), pairs


def heads_differ(bench: Bench) -> str:
    """Heads do not share a mask of attention weights."""
    bench.require_draws()
    found = sites.looked(bench)
    if not found.weights:
        raise NotApplicable("no attention weights [B, H, T, T] are in the training program")
    masks = found.masks
    if not masks:
        raise _nothing_on_weights(bench, found)
    heads = {math.prod(shape) / (sites.SIZE * found.length**2) for shape, _, _ in found.weights}
    if max(heads) == 1:
        raise NotApplicable("there is one head")
    shared = [
        (place or "the model", shape)
        for place, shape, of_fewer in masks
        if _drawn_for(shape, of_fewer, found.length) < min(heads)
    ]
    require(
        not shared,
        f"{max(heads):.0f} heads, drawn for fewer: "
        + ", ".join(f"{shape} in {place}" for place, shape in dict.fromkeys(shared)),
    )
    return f"masks of {max(heads):.0f} heads: drawn for each"


def _drawn_for(shape: tuple[int, ...], of_fewer: tuple[int, ...], length: int) -> float:
    """For how many heads a mask of attention weights is drawn."""
    return math.prod(shape) / length**2 / (1 if shape == of_fewer else sites.SIZE)


def _nothing_on_weights(bench: Bench, found: sites.Looked) -> NotApplicable:
    """What to say where nothing random has the size of the attention weights.

    A rate may be off as the subject is, or be for other places. So it warns only where a rate is on
    the list of knobs, and none of them reaches the weights at any strength.
    """
    if found.full.unseen:
        return NotApplicable(
            f"attention weights {found.words()} exist; whether anything is dropped on them is not"
            f" seen: {' and '.join(found.full.unseen)} draws at random, and is not looked into"
        )
    said = f"attention weights {found.words()} exist, and nothing is dropped on them"
    if found.drops_weights():
        return NotApplicable(
            f"what is dropped on the attention weights {found.words()} is for parts"
        )
    knobs = strengths.rates(bench)
    for knob in knobs:
        at = strengths.on_value(strengths.off_value(bench, knob))
        if sites.looked(bench.at(knob, at)).drops_weights():
            return NotApplicable(f"{said}; {knob}={at:g} does")
    if not knobs or not found.full.drawn:
        return NotApplicable(said)
    return Warned(f"{said}; if {' or '.join(knobs)} is meant for them it does not reach them")


def key_reuse(bench: Bench) -> str:
    """No key is used twice, by `jax.debug_key_reuse`, in the loss and in a step."""
    bench.require_draws()
    try:
        repeated, *_ = _same_masks(bench)
    except NotApplicable:
        repeated = {}
    if repeated:
        raise NotApplicable("draws of one shape share a key: see layers_differ")
    calls = {"the loss": lambda key: bench.subject.loss(bench.state, bench.batch(), key, True)}
    step = bench.subject.step
    if step is not None:
        calls["a step"] = lambda key: bench.params(step(bench.state, bench.batch(), key))
    for name, call in calls.items():
        try:
            with jax.debug_key_reuse(True):
                compiled(call)(bench.key())
        except jax.errors.KeyReuseError as error:
            require(False, f"{name}: {one_line(error, 160)}")
        except Exception as error:
            raise NotApplicable(f"{name} cannot be looked at: {one_line(error, 100)}") from None
    return f"{' and '.join(calls)}: no key is consumed twice"


CHECKS: dict[str, Check] = {
    "key_matters": Check(
        holds="The training loss depends on the key.",
        symptom="Every strength of dropout gives the same curve.",
        why="A dropout rate that never reaches the model, or a flag that leaves training in"
        " evaluation mode, makes a study of nothing.",
        fix="Hand `train=True` (or `deterministic=False`) and the `dropout` key down to every"
        " module; where nothing is meant to be random, excuse it by `--known`.",
        needs=(),
        run=key_matters,
    ),
    "key_repeats": Check(
        holds="The same key, state and batch give the same bits.",
        symptom="A run cannot be repeated, nor a resumed one compared.",
        why="NumPy's global generator, a counter or the time takes part; compiled, such a draw is"
        " made once and stays.",
        fix="Draw with `jax.random` from the key that is handed in.",
        needs=(),
        run=key_repeats,
    ),
    "steps_differ": Check(
        holds="Two training steps draw different masks.",
        symptom="Dropout trains one fixed smaller network; validation is poor with it.",
        why="A key made inside the step (`jax.random.key(0)`) or never advanced gives one mask for"
        " the whole run.",
        fix="A new key per call, or in the step `jax.random.fold_in(key, n)`, n the step's number"
        " in the state (`state.step`, `state['step']`). In NNX do not rebuild or reseed `nnx.Rngs`"
        " in the step, and return the `RngCount` with the state.",
        needs=("step",),
        run=steps_differ,
    ),
    "evaluation_ignores_key": Check(
        holds="The loss and the logits in evaluation are the same for every key.",
        symptom="Evaluation is noisy, and looks worse than the model is.",
        why="Dropout in evaluation measures another model than the one that is used.",
        fix="`train=False`, `deterministic=True` or `model.eval()` must reach every module, in your"
        " own evaluation, too.",
        needs=(),
        run=evaluation_ignores_key,
    ),
    "examples_differ": Check(
        holds="Identical examples in one batch get different masks.",
        symptom="The gradient's noise does not fall with the batch size; dropout helps less.",
        why="One mask for all examples drops the same units everywhere: the mean over a batch no"
        " longer averages masks.",
        fix="Draw with the batch in the shape. Flax attention: `broadcast_dropout=False`;"
        " `jaxreg.attention_fn`: no `share`; `nn.Dropout`: no `broadcast_dims`; `vmap`: split the"
        " key.",
        needs=(),
        run=examples_differ,
    ),
    "layers_differ": Check(
        holds="No two draws of one shape use the same key, so layers have masks of their own.",
        symptom="Dropout acts as if on fewer layers.",
        why="The same units are dropped in every layer: the layers are one mask, not many.",
        fix="`split_rngs={'dropout': True}` in `nn.scan`; `jax.random.split` for the layers of a"
        " `lax.scan`; `fold_in` of the layer's number.",
        needs=(),
        run=layers_differ,
    ),
    "heads_differ": Check(
        holds="A mask of attention weights is drawn for every head.",
        symptom="Attention dropout acts on all heads at once.",
        why="Where all heads lose the same connection, no other head can carry it.",
        fix="Draw [B, H, T, T]; Flax attention: `broadcast_dropout=False`;"
        " `jaxreg.attention_fn`: no `share`.",
        needs=("inputs",),
        run=heads_differ,
    ),
    "key_reuse": Check(
        holds="No key is consumed twice in the loss or in a step, by `jax.debug_key_reuse`.",
        symptom="Two random things are correlated; nothing shows it.",
        why="Two draws from one key are the same bits, also where their shapes differ.",
        fix="`jax.random.split` the key, one part for each use.",
        needs=(),
        run=key_reuse,
        uses=("step",),
    ),
}
"""Name -> check."""
