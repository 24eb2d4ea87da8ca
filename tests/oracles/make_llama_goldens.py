"""Writes goldens_llama/: tiny random Llamas as transformers saves them, and what transformers computes with them.

    python tests/oracles/make_llama_goldens.py        (with the packages of the group "oracle" of pyproject.toml)

Of each model: config.json and weights; `expected.npz` with input tokens [2, 17], logits of all positions, 20 greedy
tokens after the first row; of the model named `LISTENED`, also the output of every sub-layer. All is computed in FP32
on the weights as they are stored. Norms are drawn around 1, and matrices so wide that logits are of order 1.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers

FOLDER = Path(__file__).parent / "goldens_llama"
LISTENED = "grouped"
LEAST_MARGIN = 1e-3  # between the two best logits of every greedy step: rounding must not be able to decide


class Sizes(NamedTuple):
    """A model, the dtype of its files, and their largest size."""

    d_model: int
    d_ff: int
    vocab: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    theta: float
    tied: bool
    dtype: torch.dtype = torch.float32
    most: str = "1GB"


MODELS = {
    "grouped": Sizes(24, 90, 257, 3, 4, 2, 6, 1e4, False, torch.bfloat16),
    "multi_query": Sizes(21, 33, 97, 1, 3, 1, 16, 5e5, False, torch.float16),
    "multi_head_tied": Sizes(16, 40, 257, 2, 2, 2, 8, 1e4, True),
    "wide_heads_tied": Sizes(12, 17, 131, 1, 2, 1, 10, 1234.5, True, torch.bfloat16),
    "sharded": Sizes(18, 31, 65, 2, 3, 3, 6, 300.0, False, torch.float32, "9kB"),
}


def random_model(sizes: Sizes, seed: int) -> transformers.LlamaForCausalLM:
    """A model with random weights, in its files' dtype."""
    config = transformers.LlamaConfig(
        hidden_size=sizes.d_model,
        intermediate_size=sizes.d_ff,
        vocab_size=sizes.vocab,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_theta": sizes.theta, "rope_type": "default"},
        tie_word_embeddings=sizes.tied,
        attn_implementation="eager",
    )
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            wide = torch.randn(parameter.shape)
            parameter.copy_(1 + wide / 4 if parameter.ndim == 1 else wide / parameter.shape[1] ** 0.5)
    return model.to(sizes.dtype)


def greedy(model: transformers.LlamaForCausalLM, prompt: torch.Tensor, steps: int) -> tuple[np.ndarray, float]:
    """Tokens that transformers' own loop appends, and the least margin by which one was best."""
    made = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=steps,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    best = torch.stack(made.logits).topk(2).values
    return made.sequences[0, prompt.shape[1] :].numpy(), float((best[..., 0] - best[..., 1]).min())


def sublayers(model: transformers.LlamaForCausalLM, tokens: torch.Tensor) -> dict[str, np.ndarray]:
    """Outputs of the embedding, of every norm, attention and MLP, by the module's name."""
    kept: dict[str, np.ndarray] = {}

    def listener(name: str):
        def keep(_module, _inputs, output):
            kept[name] = (output[0] if isinstance(output, tuple) else output).detach().numpy()

        return keep

    wanted = ("embed_tokens", "self_attn", "mlp", "norm", "layernorm")
    handles = [m.register_forward_hook(listener(n)) for n, m in model.named_modules() if n.endswith(wanted)]
    with torch.no_grad():
        model(tokens)
    for handle in handles:
        handle.remove()
    return kept


def write(name: str) -> None:
    """One folder; the first seed whose greedy tokens are clear."""
    folder, sizes = FOLDER / name, MODELS[name]
    for seed in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        random_model(sizes, seed).save_pretrained(folder, max_shard_size=sizes.most)
        # Read back, not converted: a conversion would round the frequencies of the rotations, which are no weights.
        model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        tokens = torch.randint(0, sizes.vocab, (2, 17), generator=torch.Generator().manual_seed(seed))
        appended, margin = greedy(model, tokens[:1], 20)
        if margin >= LEAST_MARGIN and len(set(appended.tolist())) > 6:
            break
    else:
        raise RuntimeError(f"{name}: no seed with clear greedy tokens")
    (folder / "generation_config.json").unlink(missing_ok=True)
    with torch.no_grad():
        logits = model(tokens).logits.numpy()
    outputs = sublayers(model, tokens) if name == LISTENED else {}
    expected = {"tokens": tokens.numpy().astype(np.int32), "logits": logits, "greedy": appended.astype(np.int32)}
    np.savez_compressed(folder / "expected.npz", **expected, **outputs)


if __name__ == "__main__":
    for each in MODELS:
        write(each)
