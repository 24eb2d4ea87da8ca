"""Kernels that differ in names and numbers alone are of one configuration; all else still tells them apart."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from rdujax.graph.configuration import configuration


def layers(x, weights):
    for w in weights:
        x = jax.nn.silu(x @ w)
    return x


def struct(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.bfloat16)


def program(*widths: int) -> rdu.Program:
    """Layers of these widths, each a product and a silu, by operators: two kernels each."""
    pairs = zip((16, *widths), widths, strict=False)
    return rdu.compile(layers, struct(8, 16), [struct(*pair) for pair in pairs], machine="tiny", fusion="none")


@pytest.mark.parametrize(("widths", "different"), [((16,), 2), ((16, 16, 16), 2), ((16, 24, 16), 5), ((16, 24, 24), 5)])
def test_kernels_that_are_alike_are_the_same(widths: tuple[int, ...], different: int):
    """Two for a layer of 16 by 16; a wider one has a silu of its own, and a product for every pair of widths."""
    made = program(*widths)
    found = [configuration(made.graph, kernel) for kernel in made.plan.kernels]
    assert len(found) == 2 * len(widths)
    assert len(set(found)) == different


def test_every_decision_tells_kernels_apart():
    made = program(16)
    kernel, graph = made.plan.kernels[0], made.graph
    stream, buffer, share = kernel.streams[0], kernel.buffers[0], kernel.shares[0]
    other = [
        replace(kernel, streams=(replace(stream, agcus=stream.agcus + 1), *kernel.streams[1:])),
        replace(kernel, streams=(replace(stream, tier="ddr"), *kernel.streams[1:])),
        replace(kernel, buffers=(replace(buffer, depth=buffer.depth + 1), *kernel.buffers[1:])),
        replace(kernel, shares=(replace(share, rows=share.rows + 1), *kernel.shares[1:])),
        replace(kernel, tiling=replace(kernel.tiling, resident=frozenset(kernel.kernel.loads))),
        replace(kernel, wide=frozenset(kernel.kernel.loads[:1])),
    ]
    assert len({configuration(graph, each) for each in (kernel, *other)}) == 1 + len(other)
    named = replace(kernel, kernel=replace(kernel.kernel, name="7: other"))
    assert configuration(graph, named) == configuration(graph, kernel)
