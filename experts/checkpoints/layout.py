"""Which tensor of a checkpoint is which weight of the model: names, shapes, orientation, and how each is divided."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from experts.checkpoints.errors import refused
from experts.llama import Config

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
Address = tuple[str | int, ...]


@dataclass(frozen=True)
class Entry:
    """path: of the weight in the model. name, shape: of the tensor in the file.

    transposed: whether the file has [out, in] where the model has [in, out]. split: the file's axis that the ranks of
    tensor parallelism divide among them, None where each has all of it.
    """

    path: Address
    name: str
    shape: tuple[int, ...]
    transposed: bool = False
    split: int | None = None


def entries(config: Config) -> list[Entry]:
    """Every weight of a model of these sizes, in the model's order."""
    table = (config.vocab, config.d_model)
    found = [Entry(("embed", "embedding"), EMBEDDING, table)]
    for index in range(config.layers):
        found += _layer(config, index)
    found.append(Entry(("norm", "weight"), "model.norm.weight", (config.d_model,)))
    return found if config.tied else [*found, Entry(("head", "kernel"), HEAD, table, transposed=True)]


def _layer(config: Config, index: int) -> Iterable[Entry]:
    """Queries, keys, values, gate and up are divided by outputs (heads, hidden units), o and down by inputs."""
    d, own, kv = config.d_model, config.heads * config.d_head, config.kv_heads * config.d_head
    path, name = ("layers", index), f"model.layers.{index}."
    yield Entry((*path, "norm_attention", "weight"), f"{name}input_layernorm.weight", (d,))
    yield Entry((*path, "norm_mlp", "weight"), f"{name}post_attention_layernorm.weight", (d,))
    for each, shape, split in (("q", (own, d), 0), ("k", (kv, d), 0), ("v", (kv, d), 0), ("o", (d, own), 1)):
        yield Entry((*path, "attention", each, "kernel"), f"{name}self_attn.{each}_proj.weight", shape, True, split)
    for each, shape, split in (
        ("gate", (config.d_ff, d), 0),
        ("up", (config.d_ff, d), 0),
        ("down", (d, config.d_ff), 1),
    ):
        yield Entry((*path, "mlp", each, "kernel"), f"{name}mlp.{each}_proj.weight", shape, True, split)


def ignored(name: str) -> bool:
    """Whether a tensor is a table that older checkpoints carry along and the model computes itself."""
    return name.endswith(".rotary_emb.inv_freq")


def rank_config(config: Config, index: int, of: int) -> Config:
    """The sizes of one tensor-parallel rank. Raises CheckpointError for a division that leaves a rest."""
    if of < 1 or not 0 <= index < of:
        raise refused("no such shard", given=f"index {index} of {of}", allowed="0 <= index < of")
    divided = {name: getattr(config, name) for name in ("heads", "kv_heads", "d_ff")}
    if uneven := {name: size for name, size in divided.items() if size % of}:
        raise refused(f"sizes do not divide by {of}", given=uneven, allowed="a divisor of all", do="fewer shards")
    if of == 1:
        return config
    return replace(config, head_dim=config.d_head, **{name: size // of for name, size in divided.items()})
