"""A decoder layer shared out over eight sockets has the same bits on one device, on eight and over two processes (L1).

And those of one socket that sums in eight segments where the sockets meet.
"""

import json
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from benchmarks.models.decoder import Layer
from rdujax.graph.graph import all_nodes
from rdujax.ops.contract import Contract
from tests.laws import layer_on_devices as here
from tests.oracles import processes
from tests.oracles.harness import in_full

MODULE = here.__name__
QUICK = ("bf16 prompt", "fp32 token")
REST = tuple(case for case in here.CASES if case not in QUICK)
SUMMED = (-4, -1)  # of a layer's contractions those whose rows are cut: after attention, and after the MLP


@pytest.fixture(autouse=True)
def _promoted():
    """Models are written as users write them: JAX promotes and broadcasts."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@cache
def alone(*cases: str) -> dict[str, dict[str, str]]:
    """All sockets on one device, in this process."""
    found = json.loads(json.dumps(here.on_devices(cases, 1)))
    assert all(list(map(int, each)) == list(range(here.SOCKETS)) for each in found.values())
    return found


def on_one_socket(case: str, segments: dict[int, int]) -> dict[str, dict[str, str]]:
    """The layer that nobody shares out, with K of some contractions, by number, summed in segments."""
    args = here.operands(case)
    labels = [n.label for n in all_nodes(rdu.compile(Layer.__call__, *args).graph) if isinstance(n.op, Contract)]
    program = rdu.compile(Layer.__call__, *args, k_splits={labels[i]: n for i, n in segments.items()})
    x, cache = program(*args)
    return json.loads(json.dumps(here.hashes(case, jnp.stack([x] * here.SOCKETS), cache)))


@pytest.mark.parametrize("cases", [QUICK, *in_full((REST,))], ids=", ".join)
def test_two_processes_change_no_bit(cases: tuple[str, ...]):
    """Four devices each; the sums of both cross the border of the processes in both directions."""
    found: Any = processes.printed_by_all(MODULE, 2, 4, *cases, "--devices", "8")
    assert [len(each[f"{cases[0]}, x"]) for each in found] == [4, 4]
    assert {name: found[0][name] | found[1][name] for name in found[0]} == alone(*cases)


@pytest.mark.full
@pytest.mark.parametrize("cases", [QUICK, REST], ids=", ".join)
def test_eight_devices_change_no_bit(cases: tuple[str, ...]):
    assert processes.printed(processes.start(MODULE, 8, *cases, "--devices", "8")) == alone(*cases)


@pytest.mark.parametrize("cases", [QUICK, *in_full((REST,))], ids=", ".join)
def test_one_socket_that_sums_in_segments_has_these_bits(cases: tuple[str, ...]):
    """What all sockets have is alike, too."""
    many = alone(*cases)
    for case in cases:
        assert len(set(many[f"{case}, x"].values())) == 1
        one = on_one_socket(case, dict.fromkeys(SUMMED, here.SOCKETS))
        assert one == {name: each for name, each in many.items() if name.startswith(case)}


@pytest.mark.parametrize("segments", [{SUMMED[0]: 8}, *in_full({SUMMED[1]: 8}, {}, dict.fromkeys(SUMMED, 4))])
def test_other_segments_have_other_bits(segments: dict[int, int]):
    """Where nothing is rounded afterwards; keys and values are made before any sum."""
    many, one = alone(*QUICK), on_one_socket("fp32 token", segments)
    assert {name: one[name] == many[name] for name in one} == {
        "fp32 token, x": False, "fp32 token, k": True, "fp32 token, v": True
    }  # fmt: skip
