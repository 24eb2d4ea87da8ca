"""Sums over sockets that are only rounded afterwards: rounded before they are sent back, with the same bits."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

import rdujax as rdu
from tests.rooms.compiler.samples import assert_same

MESH = AbstractMesh((4,), ("s",), axis_types=(AxisType.Auto,))


def rounded(x):
    """The sum is read once, by what rounds it."""
    return jnp.tanh(lax.psum(x * 3, "s").astype(jnp.bfloat16))


def in_a_loop(x):
    return lax.scan(lambda c, _: (lax.psum(c * 0.3, "s").astype(jnp.bfloat16).astype(jnp.float32), None), x, None, 3)[0]


def read_twice(x):
    total = lax.psum(x * 3, "s")
    return total.astype(jnp.bfloat16).astype(jnp.float32) + total


def returned(x):
    total = lax.psum(x * 3, "s")
    return total, total.astype(jnp.bfloat16)


def largest(x):
    return lax.pmax(x * 3, "s").astype(jnp.bfloat16)


def program(fn, x):
    return rdu.compile(jax.shard_map(fn, mesh=MESH, in_specs=P("s"), out_specs=P(), check_vma=False), x, machine="tiny")


@pytest.mark.parametrize("fn", [rounded, in_a_loop])
def test_half_of_the_way_back_is_saved_and_no_bit_is_changed(fn, rng):
    x = jnp.asarray(rng.standard_normal((8, 12)) * 100, jnp.float32)
    ours = program(fn, x)
    assert "all_reduce sum->bf16" in str(ours)
    times = 3 if fn is in_a_loop else 1
    assert ours.predicted_counts()["p2p.sent_bytes"] == times * 3 * 24 * (4 + 2)
    assert ours.tally(x) == ours.predicted_counts()
    parts = jnp.split(x, 4)

    def by_hand(c):
        for _ in range(times):
            scaled = [part * jnp.float32(0.3 if fn is in_a_loop else 3) for part in c]
            total = ((scaled[0] + scaled[1]) + scaled[2]) + scaled[3]
            c = [total.astype(jnp.bfloat16).astype(jnp.float32)] * 4
        return c[0]

    want = by_hand(parts)
    found = ours(x)
    assert_same(
        found, want if fn is in_a_loop else rdu.compile(jnp.tanh, want.astype(jnp.bfloat16))(want.astype(jnp.bfloat16))
    )
    assert_same(ours.replace(fusion="none")(x), found)


@pytest.mark.parametrize("fn", [read_twice, returned, largest])
def test_where_more_than_the_rounding_is_needed_it_stays(fn, rng):
    x = jnp.asarray(rng.standard_normal((8, 12)), jnp.float32)
    assert "->bf16 over" not in str(program(fn, x))


def test_the_label_of_the_rounding_leads_to_the_sum():
    x = jax.ShapeDtypeStruct((8, 12), jnp.float32)
    assert program(rounded, x).graph.joined["convert"] == "all_reduce"
