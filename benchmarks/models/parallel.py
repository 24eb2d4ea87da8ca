"""Tensor parallelism: a decoder on several sockets, as one `jax.shard_map` that the user might have written.

Heads and their cache, the columns of the MLP and the vocabulary are shared out; hidden states and norms are alike on
all sockets. They meet where rows are cut: once after attention and once after the MLP, in sums of FP32.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
from flax import nnx
from jax.sharding import AbstractMesh, AxisType, Mesh, PartitionSpec

from benchmarks.models import vision
from benchmarks.models.calls import START, Call, first_state, model_call, tokens_of, train_step
from benchmarks.models.decoder import Cache, Config, Decoder, abstract_model, cache_shapes

AXIS = "sockets"
# Which axis of a parameter is cut, from the last one on, by its name and by that of its part of the model.
CUT = {
    **{(part, kind): -1 for part in ("q", "k", "v", "gate", "up") for kind in ("kernel", "bias")},
    **{(part, "kernel"): -2 for part in ("o", "down")},
    ("", "embed"): -2, ("", "head"): -1, ("tables", "slopes"): -1,
}  # fmt: skip


def share(config: Config, sockets: int) -> Config:
    """One socket's share of a model. Raises ValueError for what cannot be shared out evenly."""
    amounts = {name: getattr(config, name) for name in ("heads", "kv_heads", "d_ff", "vocab")}
    uneven = [f"{name}={amount}" for name, amount in amounts.items() if amount % sockets]
    if uneven or config.block is not None:
        what = ", ".join(uneven) or "block-sparse weights"
        raise ValueError(f"{what} cannot be shared out evenly over {sockets} sockets")
    shares = {name: amount // sockets for name, amount in amounts.items()}
    return replace(config, **shares, head_dim=config.d_head, axis=AXIS)


def parallel(config: Config, mesh: Mesh | AbstractMesh) -> Callable[..., tuple[jax.Array, Cache]]:
    """`model(tokens, cache, start)` as a function of the model's state too, on all sockets of a mesh of one axis.

    The state is that of the whole model, `nnx.state(model)`, and so is the cache.
    """
    kind, _ = nnx.split(abstract_model(share(config, mesh.shape[AXIS])))
    state = nnx.state(abstract_model(config))
    cut, whole, cache = cut_of(state), PartitionSpec(), cache_cut()

    def one_socket(state: Any, tokens: jax.Array, cache: Cache, start: jax.Array) -> tuple[jax.Array, Cache]:
        return nnx.merge(kind, state)(tokens, cache, start)

    specs = (cut, whole, cache, whole)
    return jax.shard_map(one_socket, mesh=mesh, in_specs=specs, out_specs=(whole, cache), check_vma=False)


def parallel_llava(
    seeing: vision.Config, reading: Config, mesh: Mesh | AbstractMesh
) -> Callable[..., tuple[jax.Array, Cache]]:
    """`llava(pixels, tokens, cache, start)` as a function of the model's state too: the decoder is shared out.

    Every socket encodes the picture, and projects it.
    """
    kind, _ = nnx.split(vision.abstract_llava(seeing, share(reading, mesh.shape[AXIS])))
    state = nnx.state(vision.abstract_llava(seeing, reading))
    whole, cache = PartitionSpec(), cache_cut()
    cut = jax.tree.map(lambda _: whole, state)
    cut["decoder"] = cut_of(state["decoder"])

    def one_socket(state: Any, pixels: jax.Array, tokens: jax.Array, cache: Cache, start: jax.Array) -> Any:
        return nnx.merge(kind, state)(pixels, tokens, cache, start)

    specs = (cut, whole, whole, cache, whole)
    return jax.shard_map(one_socket, mesh=mesh, in_specs=specs, out_specs=(whole, cache), check_vma=False)


def parallel_call(config: Config, sockets: int, tokens: int, positions: int) -> Call:
    """A model on so many sockets and tokens of one sequence, with a cache of so many positions."""
    state, cache = nnx.state(abstract_model(config)), cache_shapes(config, 1, positions)
    return parallel(config, node(sockets)), (state, tokens_of(tokens), cache, START)


def shared_call(config: Config, sockets: int, tokens: int, positions: int) -> Call:
    """The same on one socket as it is, on several as `parallel_call`."""
    if sockets == 1:
        return model_call(config, tokens, positions)
    return parallel_call(config, sockets, tokens, positions)


def parallel_train_call(config: Config, mesh: Mesh | AbstractMesh, model: Decoder, tokens: Any) -> Call:
    """`calls.train_call` of a whole model on all sockets of a mesh of one axis, which share it out."""
    kind, _, _ = nnx.split(abstract_model(share(config, mesh.shape[AXIS])), nnx.Param, ...)
    _, params, rest = nnx.split(model, nnx.Param, ...)
    args = (params, first_state(params), rest, tokens)
    step = partial(train_step, lambda p, rest, tokens: nnx.merge(kind, p, rest).loss(tokens))
    cut = cut_of(args)
    return jax.shard_map(step, mesh=mesh, in_specs=cut, out_specs=(*cut[:2], PartitionSpec())), args


def replicated_train_call(mesh: Mesh | AbstractMesh, model: Decoder, tokens: Any) -> Call:
    """`calls.train_call` of a model that every socket of a mesh of one axis has, each with sequences of its own."""
    kind, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params: Any, rest: Any, tokens: jax.Array) -> jax.Array:
        return jax.lax.pmean(nnx.merge(kind, params, rest).loss(tokens), AXIS)

    whole = PartitionSpec()
    specs = (whole, whole, whole, PartitionSpec(AXIS))
    step = jax.shard_map(partial(train_step, loss), mesh=mesh, in_specs=specs, out_specs=whole)
    return step, (params, first_state(params), rest, tokens)


def node(sockets: int) -> AbstractMesh:
    """So many sockets."""
    return AbstractMesh((sockets,), (AXIS,), axis_types=(AxisType.Auto,))


def cut_of(state: Any) -> Any:
    """How parameters, and what an optimiser keeps of them, are cut; all else is alike on all sockets."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _spec(path, leaf.ndim), state)


def cache_cut() -> dict[str, PartitionSpec]:
    """How the cache is cut: by its heads."""
    return {name: PartitionSpec(None, None, None, AXIS) for name in ("k", "v")}


def _spec(path: tuple[Any, ...], rank: int) -> PartitionSpec:
    """How a parameter is cut, by its name."""
    names = ["", "", *(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))]
    axis = CUT.get((names[-2], names[-1]))
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * (rank + axis), AXIS)
