"""config.json: read in both dialects, refused where it asks for another arithmetic, written for both.

The older dialect has rope_theta, rope_scaling and torch_dtype; the newer one rope_parameters and dtype. Keys that are
named nowhere here are ignored. The usual ones are harmless: _name_or_path, transformers_version, use_cache,
initializer_range, attention_dropout, the ids of special tokens, and pretraining_tp, which sums the same products in
another order.
"""

import math
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from experts.checkpoints.errors import CheckpointError, refused
from experts.checkpoints.files import inside, read_object
from experts.llama import Config

NAME, MOST_BYTES = "config.json", 2**20
# key: (field of Config, largest value). Larger ones are refused before anything is computed from them.
SIZES = {
    "hidden_size": ("d_model", 2**17),
    "num_hidden_layers": ("layers", 2**10),
    "num_attention_heads": ("heads", 2**12),
    "intermediate_size": ("d_ff", 2**20),
    "vocab_size": ("vocab", 2**24),
    "max_position_embeddings": ("positions", 2**20),
}
OPTIONAL_SIZES = {"num_key_value_heads": ("kv_heads", 2**12), "head_dim": ("head_dim", 2**14)}
MOST_ANGLES = 2**27  # positions x d_head: nothing in the files of weights would bound that table
STORED = ("bfloat16", "float32", "float16")
# Keys that change the arithmetic, with the values that leave it as it is. null is as good as no key.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "hidden_act": ("silu", "swish"),  # two names of x sigmoid(x)
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "partial_rotary_factor": (1,),
    "sliding_window": (),
    "use_sliding_window": (False,),
    "layer_types": (),
    "quantization_config": (),
    "compression_config": (),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "query_pre_attn_scalar": (),
    "use_qk_norm": (False,),
    "qk_layernorm": (False,),
    "embedding_multiplier": (1,),
    "attention_multiplier": (),
    "residual_multiplier": (1,),
    "logits_scaling": (1,),
    "logit_scale": (1,),
    "no_rope_layers": (),
    "num_local_experts": (),
    "num_experts": (),
}
ROPE_KEYS = {"rope_theta", "rope_type", "type", "partial_rotary_factor"}


@dataclass(frozen=True)
class Stored:
    """config: of the model as it is loaded by default. dtype: of the tensors in the files, one of `STORED`."""

    config: Config
    dtype: str


def read_config(directory: str | PathLike[str]) -> Config:
    """The sizes of a checkpoint's model. Raises CheckpointError for a model that `experts.llama` does not compute.

    FP16, which the model does not have, becomes BF16. head_dim is None where it is d_model / heads.
    """
    return read_stored(Path(directory)).config


def read_stored(directory: Path) -> Stored:
    """The same, with the dtype of the files."""
    if not directory.is_dir():
        raise refused("there is no such directory", given=directory, do="name the directory of a checkpoint")
    path = inside(directory, NAME, directory)
    given = {key: value for key, value in read_object(path, MOST_BYTES).items() if value is not None}
    _check_kind(given, path)
    dtype = _dtype(given, path)
    sizes = {field: _size(given, key, most, path) for key, (field, most) in SIZES.items()}
    more = {field: _size(given, key, most, path) for key, (field, most) in OPTIONAL_SIZES.items() if key in given}
    sizes = {"kv_heads": sizes["heads"]} | sizes | more
    if sizes.get("head_dim", 0) * sizes["heads"] == sizes["d_model"]:
        del sizes["head_dim"]
    theta, epsilon = _theta(given, path), _number(given, "rms_norm_eps", path)
    tied = _one_of(given, "tie_word_embeddings", (False, True), False, path)
    try:
        config = Config(**sizes, theta=theta, epsilon=epsilon, tied=tied, dtype=computed(dtype))
    except ValueError as error:
        raise refused(f"{error}", where=path) from error
    if (angles := config.positions * config.d_head) > MOST_ANGLES:
        raise refused("too many positions for heads of that width", given=angles, allowed=MOST_ANGLES, where=path)
    return Stored(config, dtype)


def computed(stored: str) -> Literal["bfloat16", "float32"]:
    """The model's dtype for a dtype of files."""
    return "float32" if stored == "float32" else "bfloat16"


def written(config: Config) -> dict[str, Any]:
    """config.json of a model, in the older dialect, which both generations of readers understand."""
    sizes = {key: getattr(config, field) for key, (field, _) in SIZES.items()}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **sizes,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.d_head,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "rms_norm_eps": config.epsilon,
        "rope_theta": config.theta,
        "rope_scaling": None,
        "tie_word_embeddings": config.tied,
        "torch_dtype": config.dtype,
    }


def with_dtype(stored: Stored, dtype: str | None) -> Config:
    """The configuration in the dtype that is asked for. Raises CheckpointError for one that the model does not have."""
    if dtype is None:
        return stored.config
    try:
        return replace(stored.config, dtype=dtype)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _check_kind(given: dict[str, Any], path: Path) -> None:
    """Refuses other models than Llama's causal one, and Llamas with other arithmetic."""
    do = "only plain Llama models are computed; convert the checkpoint, or use another one"
    if given.get("model_type") != "llama":
        raise refused(
            "another kind of model", given=repr(given.get("model_type")), allowed="'llama'", where=path, do=do
        )
    if given.get("architectures", ["LlamaForCausalLM"]) != ["LlamaForCausalLM"]:
        raise refused(
            "another kind of model", given=given["architectures"], allowed="LlamaForCausalLM", where=path, do=do
        )
    for key, allowed in NEUTRAL.items():
        if key in given and not any(_same(given[key], each) for each in allowed):
            shown = " or ".join(map(repr, allowed)) or "null, or no such key"
            raise refused(f"{key} changes the arithmetic", given=repr(given[key]), allowed=shown, where=path, do=do)


def _same(given: object, allowed: object) -> bool:
    """Equal, where 1 is 1.0 but not True, and 0 not False."""
    return given == allowed and isinstance(given, bool) == isinstance(allowed, bool)


def _size(given: dict[str, Any], key: str, most: int, path: Path) -> int:
    value = given.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise refused(f"{key} is no size of a model", given=repr(value), allowed=f"1 to {most}", where=path)
    return value


def _number(given: dict[str, Any], key: str, path: Path) -> float:
    value: Any = given.get(key)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf or value > 1e30:
        raise refused(f"{key} is no number above 0", given=repr(value), allowed="above 0, at most 1e30", where=path)
    return float(value)


def _one_of(given: dict[str, Any], key: str, allowed: tuple[Any, ...], default: object, path: Path) -> Any:
    value = given.get(key, default)
    if not any(_same(value, each) for each in allowed):
        raise refused(f"{key} is none of the allowed", given=repr(value), allowed=allowed, where=path)
    return value


def _agreed(given: dict[str, Any], keys: tuple[str, ...], default: object, path: Path) -> Any:
    """The value of whichever key is there. Both dialects at once must say the same."""
    values = {key: given[key] for key in keys if key in given}
    if any(not _same(value, next(iter(values.values()))) for value in values.values()):
        raise refused("two keys contradict each other", given=values, where=path, do="remove the wrong one")
    return next(iter(values.values()), default)


def _dtype(given: dict[str, Any], path: Path) -> str:
    """The files' dtype; FP32 where none is named."""
    dtype = _agreed(given, ("dtype", "torch_dtype"), "float32", path)
    return _one_of({"dtype": dtype}, "dtype", STORED, None, path)


def _theta(given: dict[str, Any], path: Path) -> float:
    """The base of the rotations, 10000 where none is named. Refuses every scaling of them."""
    bases = {"rope_theta": given["rope_theta"]} if "rope_theta" in given else {}
    for key in ("rope_parameters", "rope_scaling"):
        rope = given.get(key, {})
        if not isinstance(rope, dict):
            raise refused(f"{key} is no object", given=repr(rope), where=path)
        rope = {name: value for name, value in rope.items() if value is not None}
        kind = _agreed(rope, ("rope_type", "type"), "default", path)
        if kind != "default" or rope.keys() - ROPE_KEYS or not _same(rope.get("partial_rotary_factor", 1), 1):
            raise refused(f"{key} scales the rotations", given=rope, allowed="rope_type 'default'", where=path)
        if "rope_theta" in rope:
            bases[f"{key}.rope_theta"] = rope["rope_theta"]
    return _number({"rope_theta": _agreed(bases, tuple(bases), 10000.0, path)}, "rope_theta", path)
