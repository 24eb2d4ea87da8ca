"""What the paper's Table 1 and Figure 6 run, in the order of its bars: models, phases, lengths, as functions of shapes.

Inference shares each model out over the eight sockets of a node (`parallel.py`); one sequence at a time. LLaVA's
picture is encoded by every socket. Training of Llama2 shares the model out, that of the sparse GPT the sequences, for
its pattern of blocks does not cut evenly: one sequence for each socket. FlashFFTConv runs on one socket, one channel.
Batch sizes, and how the paper shared out what it ran, are not published: all of this is assumed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.models import decoder, parallel, vision
from benchmarks.models.calls import MODEL_CACHE, START, TRAINED, Call, tokens_of
from benchmarks.models.decoder import Config, cache_shapes
from benchmarks.models.fftconv import ORDER_4, FlashFFTConv

Phase = Literal["prefill", "decode", "train", "convolution"]
SOCKETS = 8


@dataclass(frozen=True)
class Bar:
    """One benchmark. tokens: of a sequence, or points of a convolution. donated: arguments that are given away."""

    name: str
    phase: Phase
    tokens: int
    sockets: int
    call: Callable[[], Call]
    donated: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """As the paper's axis has it."""
        return f"{self.name}-{self.phase}"


def _inference(name: str, config: Config, length: int) -> tuple[Bar, Bar]:
    """A prompt of so many tokens, and one token with as many in the cache."""
    read, one = (partial(parallel.parallel_call, config, SOCKETS, tokens, length) for tokens in (length, 1))
    return (
        Bar(name, "prefill", length, SOCKETS, read, (MODEL_CACHE,)),
        Bar(name, "decode", length, SOCKETS, one, (MODEL_CACHE,)),
    )


def _training(name: str, config: Config, length: int) -> Bar:
    def call() -> Call:
        mesh, model = parallel.node(SOCKETS), decoder.abstract_model(config)
        if config.block is None:
            return parallel.parallel_train_call(config, mesh, model, tokens_of(length))
        each = jax.ShapeDtypeStruct((SOCKETS, length), jnp.int32)
        return parallel.replicated_train_call(mesh, model, each)

    return Bar(name, "train", length, SOCKETS, call, TRAINED)


def _llava(length: int) -> tuple[Bar, Bar]:
    """A picture and a text, together so many tokens; then one token with as many in the cache."""
    _, decode = _inference("llava1.5-llama7B", decoder.LLAMA2_7B, length)
    return Bar(decode.name, "prefill", length, SOCKETS, partial(llava_call, SOCKETS, length), (3,)), decode


def llava_call(
    sockets: int, length: int, seeing: vision.Config = vision.CLIP_VIT_L_336, reading: Config = decoder.LLAMA2_7B
) -> Call:
    """LLaVA-1.5, or one of other sizes, on so many sockets and positions, all of which a picture and a text take."""
    state = nnx.state(vision.abstract_llava(seeing, reading))
    pixels = jax.ShapeDtypeStruct((1, seeing.side, seeing.side, 3), jnp.bfloat16)
    args = (state, pixels, tokens_of(length - seeing.patches), cache_shapes(reading, 1, length), START)
    return parallel.parallel_llava(seeing, reading, parallel.node(sockets)), args


def convolution_call(channels: int = 1) -> Call:
    """FlashFFTConv of 1,048,576 points."""
    model = nnx.eval_shape(partial(FlashFFTConv, ORDER_4, channels))
    x = jax.ShapeDtypeStruct((1, channels, 32**4), jnp.bfloat16)
    return FlashFFTConv.__call__, (model, x, x)


K = 1024
BARS: tuple[Bar, ...] = (
    *_inference("llama7B-4k", decoder.LLAMA2_7B, 4 * K),
    _training("sparseGPT-13B", decoder.SPARSE_GPT_13B, 2 * K),
    *_inference("llama70B-4k", decoder.LLAMA2_70B, 4 * K),
    _training("llama7B-4k", decoder.LLAMA2_7B, 4 * K),
    *_inference("bloom176B-8k", decoder.BLOOM_176B, 8 * K),
    *_inference("mistral7B-2k", decoder.MISTRAL_7B, 2 * K),
    *_inference("mistral7B-4k", decoder.MISTRAL_7B, 4 * K),
    *_inference("falcon40B-2k", decoder.FALCON_40B, 2 * K),
    *_llava(4 * K),
    Bar("FlashFFTConv", "convolution", 32**4, 1, convolution_call),
)
