"""Tiers that are nearly too small: a choice that holds the program is found, in a few plans, or what lacks is said."""

from itertools import product

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from rdujax.compiler import driver
from rdujax.compiler.memory import ROUNDS, planned
from rdujax.compiler.planner import Seen

QUARTER = jax.ShapeDtypeStruct((512, 256), jnp.bfloat16)  # 262,144 bytes


def uneven(x, y, flags):
    """Symbols of very different size, moved differently often: five groups."""
    return x * 2, jnp.tanh(y), flags + 1


UNEVEN = [jax.ShapeDtypeStruct((n,), jnp.float32) for n in (200, 50, 6)]


ROOMS = ((1000, 824), (1000, 823), (824, 1000), (1200, 712), (1200, 711), (1900, 24), (256, 1))


@pytest.mark.parametrize("rooms", [*ROOMS[:2], *(pytest.param(rooms, marks=pytest.mark.full) for rooms in ROOMS[2:])])
def test_whatever_choice_of_tiers_holds_a_program_one_is_found_that_moves_least(rooms: tuple[int, int]):
    """Against all choices, each pinned by hand; a symbol that DDR does not hold is passed over for others."""
    machine = rdu.machines.tiny().replace({"hbm.capacity_bytes": rooms[0], "ddr.capacity_bytes": rooms[1]})
    labels = [s.label for s in rdu.compile(uneven, *UNEVEN, machine="tiny", fusion="none").plan.memory.symbols]
    assert len(labels) == 6

    def moved(**choices) -> int | None:
        try:
            program = rdu.compile(uneven, *UNEVEN, machine=machine, fusion="none", **choices)
        except rdu.CapacityError:
            return None
        assert all(program.plan.peak_bytes(tier) <= room for tier, room in zip(("hbm", "ddr"), rooms, strict=True))
        return program.cost().moved_bytes("ddr")

    every = (
        moved(tiers=dict(zip(labels, tiers, strict=True))) for tiers in product(("hbm", "ddr"), repeat=len(labels))
    )
    assert moved() == min((each for each in every if each is not None), default=None)


def test_tiers_that_are_too_small_together_are_refused_with_what_is_missing():
    machine = rdu.machines.tiny().replace({"hbm.capacity_bytes": 1000, "ddr.capacity_bytes": 824})
    x, y, flags = UNEVEN
    fn = lambda x, y, flags: (x * 2,)  # noqa: E731
    program = rdu.compile(fn, x, y, flags, machine=machine)
    assert [program.plan.peak_bytes(tier) for tier in ("hbm", "ddr")] == [1000, 824]
    # With a byte less, HBM holds only the 824 bytes that were in DDR before, and the other 1,000 have to go there.
    messages = {
        "ddr": ("824 bytes, 1 too many", "hbm, with 1,000 of 1,000, has no room for them"),
        "hbm": ("1,000 bytes, 176 too many", "hbm, with 824 of 999, has no room for them"),
    }
    for tier, parts in messages.items():
        name = f"{tier}.capacity_bytes"
        with pytest.raises(rdu.CapacityError) as refused:
            rdu.compile(fn, x, y, flags, machine=machine.replace({name: machine.facts()[name].value - 1}))
        for part in (*parts, "do not fit into ddr", "800 bytes  hbm", "800 bytes  ddr", "24 bytes", "a larger tier"):
            assert part in str(refused.value), (tier, part)
        assert "another tier" not in str(refused.value)


@pytest.mark.parametrize("length", [3, 8])
def test_cuts_that_flee_from_ddr_come_to_an_end(length: int):
    """A planner that always cuts where the value still rests in HBM, if there is one such; HBM holds none of them."""

    def fn(x):
        for _ in range(length + 1):
            x = jnp.tanh(x)
        return x.sum()

    program = rdu.compile(fn, QUARTER, machine="sn40l")
    graph, made = program.graph, []
    chain = [node for node in graph.nodes if node.label.startswith("tanh")][:length]

    def make(tiers, cuts):
        near = [node for node in chain if tiers[node.result] == "hbm"] or chain[-1:]
        choices = driver.Choices(fusion=rdu.cut_after(near[0].label))
        made.append(driver._Planning(machine, choices, tiers, frozenset(), Seen()).planned(graph, cuts, 1))
        return made[-1]

    machine = program.machine.replace({"hbm.capacity_bytes": 262_144 + 100})
    plan = planned(graph, machine, "auto", {"x": "hbm"}, make)
    assert len(made) == (length + 1 if length < ROUNDS else ROUNDS + 1)
    assert [s.label for s in plan.memory.of_tier("ddr")] == [chain[min(length, ROUNDS) - 1].label]
    assert {s.tier for k in plan.kernels for s in k.streams if s.value in {n.result for n in chain}} == {"ddr"}


def test_a_plan_that_nothing_holds_gives_way_to_one_with_less_in_memory():
    """As if cuts were at a large value where memory is near, and at a small one where it is far."""
    fn = lambda x: (jnp.tanh(x[:, :8]) + jnp.tanh(x)[:, :8]).sum()  # noqa: E731
    program = rdu.compile(fn, QUARTER, machine="sn40l")
    graph = program.graph
    small, large = sorted(
        (n for n in graph.nodes if n.label.startswith("tanh")), key=lambda n: graph.types[n.result].size_bytes
    )

    def make(tiers, cuts):
        at = large if tiers[large.result] == "hbm" else small
        choices = driver.Choices(fusion=rdu.cut_after(at.label))
        return driver._Planning(machine, choices, tiers, frozenset(), Seen()).planned(graph, cuts, 1)

    machine = program.machine.replace({"hbm.capacity_bytes": 262_144 + 4, "ddr.capacity_bytes": 2 * 512 * 8 + 4})
    plan = planned(graph, machine, "auto", {}, make)
    assert {s.label for s in plan.memory.of_tier("ddr")} == {small.label}
