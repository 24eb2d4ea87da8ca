"""One Llama2 on several devices: heads, hidden units and the vocabulary shared out, layers under one `lax.scan`.

    model = parallel(config, mesh)                        of a mesh with one axis, abstract or of devices
    logits, cache = model(weights, tokens, cache, start)  as a `Llama`, with its weights as an argument

Hidden states and norms are alike on all devices. They meet where rows are cut: once after attention and once after the
MLP, in sums of FP32, and at both ends, for the vocabulary. Weights of layers and the cache are stacked: their first
axis is that of layers.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from experts.llama import DTYPES, Config, Layer, Llama, RMSNorm

Weights = dict[str, Any]
Stacked = dict[str, Any]  # "k" and "v": [layers, batch, length, kv_heads, d_head]
# The axis that is cut of a weight, from the last one on, by the name of its part of the model.
CUT = {"q": -1, "k": -1, "v": -1, "gate": -1, "up": -1, "o": -2, "down": -2, "embed": -2, "head": -1}


@dataclass(frozen=True)
class Share(Config):
    """The sizes of one device's share of a model: of heads, hidden units and vocabulary. axis: of the mesh.

    Layers of such sizes join what they make with those of the other devices.
    """

    axis: str | None = None  # pyright: ignore[reportIncompatibleVariableOverride]


def parallel(config: Config, mesh: Mesh | AbstractMesh) -> Callable[..., tuple[jax.Array, Stacked]]:
    """`model(weights, tokens, cache, start)` on all devices; weights as of `weights_of`, cache as of `cache_shapes`.

    tokens: int32 [batch, length]; logits FP32 [batch, vocab], of the last position. Raises ValueError for sizes that
    cannot be shared out evenly, and for a mesh of several axes.
    """
    if len(mesh.axis_names) != 1:
        raise ValueError(f"a mesh of one axis is needed, given: {mesh.axis_names}")
    axis = mesh.axis_names[0]
    own = _share(config, mesh.shape[axis], axis)
    layer_kind, norm_kind = (nnx.split(_abstract(make, own))[0] for make in (Layer, _norm))

    def one_device(weights: Weights, tokens: jax.Array, cache: Stacked, start: jax.Array) -> tuple[jax.Array, Stacked]:
        length = tokens.shape[1]
        angles = tuple(jax.lax.dynamic_slice_in_dim(weights[name], start, length, 0) for name in ("cos", "sin"))

        def step(x: jax.Array, of: tuple[Any, Stacked]) -> tuple[jax.Array, Stacked]:
            layer, kept = of
            return nnx.merge(layer_kind, layer)(x, angles, kept, start)

        x, cache = jax.lax.scan(step, _embedded(weights["embed"], tokens, axis), (weights["layers"], cache))
        head = weights["head"] if "head" in weights else weights["embed"].T
        last = nnx.merge(norm_kind, weights["norm"])(x[:, -1])
        mine = jnp.matmul(last, head, preferred_element_type=jnp.float32)
        return jax.lax.all_gather(mine, axis, axis=1, tiled=True), cache

    whole, heads = PartitionSpec(), PartitionSpec(None, None, None, axis)
    cut = jax.tree_util.tree_map_with_path(lambda path, leaf: _cut(path, leaf.ndim, axis), abstract_weights(config))
    specs = (cut, whole, {"k": heads, "v": heads}, whole)
    return jax.shard_map(one_device, mesh=mesh, in_specs=specs, out_specs=(whole, specs[2]), check_vma=False)


def weights_of(model: Llama) -> Weights:
    """The weights and tables of a model, layers stacked."""
    layers = [nnx.state(layer) for layer in model.layers]
    found = {
        "embed": model.embed.embedding[...],
        "norm": nnx.state(model.norm),
        "cos": model.cos[...],
        "sin": model.sin[...],
    }
    found["layers"] = jax.tree.map(lambda *each: jnp.stack(each), *layers)
    return found if model.head is None else found | {"head": model.head.kernel[...]}


def abstract_weights(config: Config) -> Weights:
    """Their shapes and dtypes: enough to compile and to price."""
    found = nnx.eval_shape(lambda: weights_of(Llama(replace(config, layers=1), nnx.Rngs(0))))
    layers = jax.tree.map(lambda s: jax.ShapeDtypeStruct((config.layers, *s.shape[1:]), s.dtype), found["layers"])
    return found | {"layers": layers}


def cache_shapes(config: Config, batch: int, length: int) -> Stacked:
    """Of a cache of so many positions for so many sequences."""
    shape = (config.layers, batch, length, config.kv_heads, config.d_head)
    return dict.fromkeys(("k", "v"), jax.ShapeDtypeStruct(shape, DTYPES[config.dtype]))


def _share(config: Config, devices: int, axis: str) -> Share:
    """One device's share."""
    amounts = {name: getattr(config, name) for name in ("heads", "kv_heads", "d_ff", "vocab")}
    if uneven := {name: amount for name, amount in amounts.items() if amount % devices}:
        raise ValueError(f"sizes cannot be shared out evenly over {devices} devices: {uneven}")
    shares = {name: amount // devices for name, amount in amounts.items()}
    return Share(**asdict(replace(config, **shares, head_dim=config.d_head)), axis=axis)


def _abstract(make: Callable[[Config, nnx.Rngs], Any], config: Config) -> Any:
    return nnx.eval_shape(lambda: make(config, nnx.Rngs(0)))


def _norm(config: Config, rngs: nnx.Rngs) -> RMSNorm:
    return RMSNorm(config)


def _cut(path: tuple[Any, ...], rank: int, axis: str) -> PartitionSpec:
    """How a weight is cut, by the names on its path."""
    names = [str(getattr(key, "key", "")) for key in path]
    at = next((CUT[name] for name in names if name in CUT), None)
    return PartitionSpec() if at is None else PartitionSpec(*[None] * (rank + at), axis)


def _embedded(rows: jax.Array, tokens: jax.Array, axis: str) -> jax.Array:
    """Embeddings of tokens. A device has rows of its share of the vocabulary; of others it adds -0: nothing."""
    place = tokens - jax.lax.axis_index(axis) * rows.shape[0]
    is_mine = (place >= 0) & (place < rows.shape[0])
    found = rows[jnp.clip(place, 0, rows.shape[0] - 1)]
    return jax.lax.psum(jnp.where(is_mine[..., None], found, jnp.asarray(-0.0, found.dtype)), axis)
