"""Nodes and models: bytes and bandwidths by hand, and published capacities."""

from fractions import Fraction

import jax
import pytest

import rdujax as rdu
from experts.llama import LLAMA2_7B, Config
from rdujax.base.errors import ArgumentError, CapacityError, UnknownNameError
from rdujax.coe.models import Shapes, cache_bytes_per_token, call, kind_of, sizes_of, step_ps
from rdujax.coe.nodes import Options
from rdujax.coe.platforms import OnGpus, OnRdus, picoseconds
from rdujax.coe.policies import LeastRecentlyUsed
from rdujax.coe.requests import Served
from rdujax.coe.residency import Sizes
from rdujax.coe.serving import Server
from rdujax.coe.systems import system
from rdujax.coe.traffic import Closed, asks, cyclic
from rdujax.machines.dgx import dgx_a100, dgx_h100
from rdujax.machines.node import sn40l_node

SMALL = Config(256, 2, 8, 8, 512, 1024, 256)
RDUS, A100 = OnRdus(sn40l_node()), OnGpus(dgx_a100())
SHAPES = Shapes((1, 4), (32,), (64, 128))


@pytest.fixture(autouse=True)
def _promotions_of_users():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_sizes_are_published_ones():
    assert sizes_of(LLAMA2_7B) == Sizes(2 * 6_738_415_616)
    assert cache_bytes_per_token(LLAMA2_7B) == 524_288
    assert RDUS.hbm_bytes == 512 * 2**30 and RDUS.home_bytes == 12 * 2**40
    assert RDUS.home_bytes // sizes_of(LLAMA2_7B).in_bytes == 979
    assert A100.home_bytes // sizes_of(LLAMA2_7B).in_bytes == 148


def test_copies_take_bytes_over_bandwidth():
    amount = sizes_of(LLAMA2_7B).in_bytes
    by_hand = Fraction(amount, 8) / (200 * 10**9 * Fraction(62, 100)) * 10**12
    assert 0 <= RDUS.copy_ps(amount) - by_hand < 10**4  # whole cycles
    assert A100.copy_ps(amount) == -(-amount * 10**12 // (32 * 10**9))
    assert OnGpus(dgx_h100()).copy_ps(64) == 1000 and RDUS.copy_ps(0) == A100.copy_ps(0) == 0
    slow = OnRdus(sn40l_node().replace({"socket.hbm.bandwidth_bytes_per_s": 10**9}))
    assert slow.copy_ps(amount) == pytest.approx(amount / 8 / 0.85e9 * 1e12)  # the slower tier counts


def test_a_step_is_a_priced_program():
    taken = step_ps(SMALL, RDUS, 1, 32, 64)
    assert taken == picoseconds(RDUS.program(call(SMALL, 8, 1, 32, 64)).cost().total_s)
    assert step_ps(SMALL, OnRdus(sn40l_node(), "software"), 1, 32, 64) > taken
    assert step_ps(SMALL, A100, 1, 1, 64) < step_ps(SMALL, A100, 4, 32, 64)
    kind = kind_of(SMALL, RDUS, SHAPES)
    assert kind.phases.prefill_ps(1, 20) == RDUS.start_ps + taken
    assert kind.phases.decode_ps(1, 60, 10) == 5 * step_ps(SMALL, RDUS, 1, 1, 64) + 5 * step_ps(SMALL, RDUS, 1, 1, 128)


def test_a_system_serves_and_says_what_does_not_fit():
    of = system(RDUS, ["a", "b"], SMALL, SMALL, SHAPES, routed=(1, 4))
    assert of.node.pinned["router"] == sizes_of(SMALL).in_bytes
    server = Server(of.node, of.experts, LeastRecentlyUsed(), Options(batch=2))
    traffic = Closed(asks(cyclic(["a", "b"]), 32, 5), 2, 6)
    served = [each for each in server.serve(traffic) if isinstance(each, Served)]
    assert [each.hits for each in served] == [0, 0, 1, 1, 1, 1]
    first = served[0]
    assert first.route_ps == RDUS.start_ps + step_ps(SMALL, RDUS, 4, 32, 32)
    assert first.switch_ps == RDUS.copy_ps(sizes_of(SMALL).in_bytes)
    assert first.prefill_ps + first.decode_ps == RDUS.start_ps + step_ps(SMALL, RDUS, 1, 32, 64) + 4 * step_ps(
        SMALL, RDUS, 1, 1, 64
    )
    kept = system(RDUS, ["a", "b"], SMALL, SMALL, SHAPES, pinned=["b"])
    server = Server(kept.node, kept.experts, LeastRecentlyUsed())
    served = list(server.serve(Closed(asks(cyclic(["b", "a"]), 32, 5), 1, 2)))
    assert [isinstance(each, Served) and each.switch_ps > 0 for each in served] == [False, True]
    with pytest.raises(UnknownNameError, match="pinned"):
        system(RDUS, ["a"], SMALL, SMALL, SHAPES, pinned=["c"])
    few = OnGpus(dgx_a100().replace({"host.capacity_bytes": 2 * sizes_of(SMALL).in_bytes - 1}))
    of = system(few, ["a", "b"], SMALL, SMALL, SHAPES)
    with pytest.raises(CapacityError, match="home copies of 2 experts"):
        Server(of.node, of.experts, LeastRecentlyUsed())
    with pytest.raises(ArgumentError, match="told apart"):
        system(RDUS, ["a", "a"], SMALL, SMALL, SHAPES)


@pytest.mark.parametrize("bad", [{"prompts": ()}, {"tokens": (0,)}, {"positions": (True,)}, {"tokens": (600,)}])
def test_shapes_make_sense(bad: dict):
    with pytest.raises(ArgumentError, match=r"shapes|no cache holds"):
        Shapes(**bad)


def test_who_launches_is_known():
    with pytest.raises(ArgumentError, match="orchestration"):
        OnRdus(rdu.machines.sn40l_node(), "nobody")
