"""Placement: every unit once and on the grid, exactly when the counts fit, always the same, never worse than naive."""

from functools import cache

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from benchmarks import placement
from rdujax.compiler import place as place_
from rdujax.compiler.flows import Units
from rdujax.compiler.grid import Grid, Place, Placement, grid_of
from rdujax.compiler.layouts import layouts
from rdujax.compiler.place import check_placement, neighbours, place
from rdujax.compiler.wires import priced_cycles, wires
from rdujax.units.pcu.systolic import Fork
from rdujax.units.rdn.mesh import Mesh
from tests.rooms.compiler.kernels import without_sums
from tests.rooms.compiler.samples import mlp, monarch, random_sample, samples, small


def planned(fn=monarch, shapes=((128, 1024), (1024, 128), (1024, 1024), (128, 1024)), machine="sn40l", **choices):
    structs = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]
    return rdu.compile(fn, *structs, machine=machine, fusion=rdu.cut_after(), **choices)


FUSED = {
    "monarch": (monarch, ((128, 1024), (1024, 128), (1024, 1024), (128, 1024))),
    "mlp": (mlp, ((128, 512), (512, 1408), (512, 1408), (1408, 512))),
}


def on_grid(program, **counts):
    """The first kernel of a program placed on its machine with other numbers of units."""
    machine = program.machine.replace({f"{unit}.count": count for unit, count in counts.items()})
    return place(program.graph, program.plan.kernels[0], machine)


def test_the_curve_visits_every_place_once_step_by_step():
    for tiles, rows, columns in ((1, 1, 1), (1, 4, 4), (4, 3, 5), (4, 26, 10), (3, 2, 2)):
        grid = Grid(tiles, Mesh(rows, columns), 1, 1, 0)
        assert len(set(grid.curve)) == len(grid.curve) == tiles * rows * columns
        assert len({grid.spot(p) for p in grid.curve}) == len(grid.curve)
        for before, after in zip(grid.curve, grid.curve[1:], strict=False):
            if before.tile == after.tile:
                (a, b), (c, d) = grid.spot(before), grid.spot(after)
                assert abs(a - c) + abs(b - d) == 1


def test_tiles_of_a_die_lie_below_each_other_and_dies_side_by_side():
    grid = Grid(4, Mesh(26, 10), 1, 1, 64)
    assert [grid.corner(tile) for tile in range(4)] == [(0, 0), (26, 0), (26, 10), (0, 10)]
    assert len(grid.agcu_places) == 64 and {p.column for p in grid.agcu_places} == {0, 9}
    assert [sum(p.tile == tile for p in grid.agcu_places) for tile in range(4)] == [16] * 4


@pytest.mark.parametrize("order", ["near", "counted"])
@pytest.mark.parametrize("sample", samples(), ids=str)
def test_every_unit_has_a_place_of_its_own(sample, order):
    program = rdu.compile(sample.fn, *sample.args, machine=small())
    grid = grid_of(program.machine)
    for kernel in program.plan.kernels:
        placement = place(program.graph, kernel, program.machine, order)
        check_placement(kernel, placement)
        units = placement.units
        assert {s.label: share.pcus for s, share in zip(kernel.kernel.stages, kernel.shares, strict=True)} == {
            label: len(places) for label, places in units.pcus.items()
        }
        assert {b.label: b.pmus for b in kernel.buffers} == {label: len(p) for label, p in units.pmus.items()}
        assert {s.label: s.agcus for s in kernel.streams} == {label: len(p) for label, p in units.agcus.items()}
        for kind, there in (
            (units.pcus, grid.curve[:12]),
            (units.pmus, grid.curve[:14]),
            (units.agcus, grid.agcu_places),
        ):
            used = [p for places in kind.values() for p in places]
            assert len(set(used)) == len(used) and set(used) <= set(there)


def test_a_kernel_fits_exactly_if_its_units_can_be_counted_out():
    program = planned()
    kernel = program.plan.kernels[0]
    full = {"pcu": kernel.pcus, "pmu": kernel.pmus, "agcu": kernel.agcus}
    check_placement(kernel, on_grid(program, **full))
    for unit, count in full.items():
        with pytest.raises(rdu.CapacityError, match=f"needs more {unit.upper()}s than there are to place") as error:
            on_grid(program, **full | {unit: count - 1})
        assert f"{count:,}" in str(error.value) and f"{count - 1:,}" in str(error.value)


def test_more_units_than_places_are_refused():
    with pytest.raises(rdu.CapacityError, match="more PCUs than places on the grid") as error:
        on_grid(planned(), pcu=1041)
    assert "4 tiles of 26 x 10 places" in str(error.value)
    with pytest.raises(rdu.CapacityError, match="more PMUs than places on the grid"):
        on_grid(planned(), pmu=1041)
    with pytest.raises(rdu.CapacityError, match="more AGCUs than switches at the west and east edges") as error:
        on_grid(planned(), agcu=209)
    assert "209" in str(error.value) and "208, 4 tiles of 26 x 10 places" in str(error.value)
    assert "do:      replace rdn.tiles or rdn.rows of the machine" in str(error.value)
    assert len(grid_of(planned().machine.replace({"agcu.count": 208})).agcu_places) == 208
    check_placement(planned().plan.kernels[0], on_grid(planned(), pcu=1040, pmu=1040))


def test_what_is_placed_is_checked(monkeypatch):
    program = planned()
    kernel = program.plan.kernels[0]
    monkeypatch.setattr("rdujax.compiler.place._best", lambda *args: args[-1] * 0)
    with pytest.raises(rdu.ArgumentError, match="PCUs that are not there, or used twice"):
        place(program.graph, kernel, program.machine)
    twice = {label: (Place(0, 0, 0),) * n for label, n in zip(kernel_labels(kernel), kernel_pcus(kernel), strict=True)}
    naive = place(program.graph, kernel, program.machine, "counted")
    wrong = Placement(naive.grid, Units(twice, naive.units.pmus, naive.units.agcus))
    monkeypatch.setattr("rdujax.compiler.place._counted", lambda *_: wrong)
    with pytest.raises(rdu.ArgumentError, match="PCUs that are not there, or used twice"):
        place(program.graph, kernel, program.machine, "counted")


def kernel_labels(kernel):
    return [stage.label for stage in kernel.kernel.stages]


def kernel_pcus(kernel):
    return [share.pcus for share in kernel.shares]


def test_a_placement_is_always_the_same():
    program = planned()
    one, other = (place(program.graph, program.plan.kernels[0], program.machine) for _ in range(2))
    assert one == other


def quality(program, kernel, order):
    """(hops, crossings, how much the wires slow the kernel down) of a placement."""
    machine = program.machine
    loads = wires(program.graph, kernel, place(program.graph, kernel, machine, order), machine)
    cycles = priced_cycles(program.graph, kernel, machine)
    return loads.hops, int(loads.crossings.sum()), max(1, max(loads.least_cycles(machine).values()) / cycles)


@pytest.mark.parametrize("sample", [*samples(), *map(random_sample, range(3))], ids=str)
@pytest.mark.parametrize("slow", [1, 8])
def test_a_placement_is_never_worse_than_the_naive_one(sample, slow):
    """Also on networks that are too slow: links that a packet takes 8 cycles to pass are over capacity."""
    program = rdu.compile(sample.fn, *sample.args, machine=small())
    program = program.replace(machine=program.machine.replace({"rdn.vector_bytes": max(1, 16 // slow)}))
    for kernel in program.plan.kernels:
        near, naive = (quality(program, kernel, order) for order in ("near", "counted"))
        columns = int(program.machine.rdn.columns.value)
        assert near[0] + columns * near[1] <= naive[0] + columns * naive[1] and near[2] <= naive[2]


@pytest.mark.parametrize("name", FUSED)
def test_wires_are_half_as_long_as_counted_out(name):
    program = planned(*FUSED[name])
    near, counted = (quality(program, program.plan.kernels[0], order) for order in ("near", "counted"))
    assert near[0] < 0.6 * counted[0] and near[1] < counted[1]


@cache
def prefill():
    """A decoder layer of Llama2-7B, 2,048 positions at once."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return placement.layer(*placement.MODELS["Llama2-7B"], "prefill")


@cache
def apart():
    """The same, cut by hand before and behind its attention and its MLP."""
    ends = ("rotary/convert#6", "bhgts,bshd->bthgd/gemm", "rms_norm/convert#6", "gemm#7")
    return prefill().replace(fusion=rdu.cut_after(*ends))


def test_multicasts_to_rows_of_a_fork_share_no_columns():
    """The MLP: two rows of 167 PCUs in each of two forks, every row fed 0.8 packets per cycle."""
    [kernel] = without_sums(apart(), 3).plan.kernels
    assert [str(share) for share in kernel.shares].count("fork 2x167x1") == 2
    assert quality(prefill(), kernel, "counted")[2] > 1.5 and quality(prefill(), kernel, "near")[2] < 1.01


def test_what_was_hot_once_is_kept_away_from(monkeypatch):
    """Attention, in which no placement fits: the second time, PMUs would go back to where the first time was hot."""
    kernel = apart().plan.kernels[1]
    twice = quality(prefill(), kernel, "near")[2]
    monkeypatch.setattr(place_, "COOLED", 1)
    assert 1 < twice < 0.9 * quality(prefill(), kernel, "near")[2]


@pytest.mark.parametrize(
    "model, phase",
    [
        ("small", "prefill"),
        ("small", "decode"),
        ("Llama2-7B", "decode"),
        pytest.param("Llama2-7B", "prefill", marks=pytest.mark.full),
    ],
)
def test_wires_of_a_decoder_layer_are_less_than_70_percent_of_the_naive_ones(model, phase):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        row = placement.measured("layer", placement.layer(*placement.MODELS[model], phase))
    assert 0 < row.placed_hops < 0.7 * row.naive_hops
    assert row.placed_busiest < row.naive_busiest and 1 <= row.placed_slowdown <= row.naive_slowdown


@pytest.mark.parametrize("tight", [False, True])
def test_candidates_use_every_place_once_at_most(tight):
    for name in FUSED:
        program = planned(*FUSED[name])
        kernel = program.plan.kernels[0]
        facts = {"pcu.count": kernel.pcus} if tight else {}
        grid = grid_of(program.machine.replace(facts))
        found = layouts(kernel, grid, {})
        there = set(grid.curve[: grid.pcus])
        assert len(found) > 4 and len({candidate.tobytes() for candidate in found}) == len(found)
        for candidate in found:
            used = {Place(*each) for each in candidate.tolist()}
            assert len(used) == kernel.pcus and used <= there


def test_a_candidate_has_the_groups_of_a_fork_in_straight_lines():
    """Strips as wide as a row of the fork: one operand goes along the mesh's rows, the other along its columns."""
    structs = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in ((96, 512), (512, 288))]
    program = rdu.compile(jnp.matmul, *structs, machine=rdu.machines.sn40l().replace({"pcu.count": 1040}))
    kernel = program.plan.kernels[0]
    [share] = kernel.shares
    assert isinstance(share, Fork) and min(share.rows, share.columns) > 1 and share.splits == 1
    straight = 0
    for candidate in layouts(kernel, grid_of(program.machine), {}):
        fork = candidate.reshape(share.rows, share.columns, 3)
        for lines in (fork, fork.swapaxes(0, 1)):
            if all(len({tuple(at) for at in line[:, :2].tolist()}) == 1 for line in lines):
                across = [{tuple(at) for at in line[:, [0, 2]].tolist()} for line in lines.swapaxes(0, 1)]
                straight += all(len(columns) <= 4 for columns in across)  # one in each tile
    assert straight


def test_neighbours_are_the_stages_at_a_buffer():
    kernel = planned(*FUSED["mlp"]).plan.kernels[0]
    first, second, product, last = (s.label for s in kernel.kernel.stages)
    around = neighbours(kernel)
    assert around["x"] == (first, second)
    assert around[first] == (first, product) and around[last] == (last,)


def test_an_unknown_order_is_refused():
    program = planned()
    with pytest.raises(rdu.UnknownNameError, match="did you mean 'near'"):
        place(program.graph, program.plan.kernels[0], program.machine, "nera")


def test_a_wrong_placement_is_refused():
    program = planned()
    kernel, good = program.plan.kernels[0], on_grid(program)
    pcus = dict(good.units.pcus)
    first = next(iter(pcus))

    def changed(places):
        return Placement(good.grid, Units({**pcus, first: places}, good.units.pmus, good.units.agcus))

    with pytest.raises(rdu.ArgumentError, match="other numbers of PCUs than planned"):
        check_placement(kernel, changed(pcus[first][1:]))
    with pytest.raises(rdu.ArgumentError, match="PCUs that are not there, or used twice") as error:
        check_placement(kernel, changed((pcus[first][1], *pcus[first][1:])))
    assert str(pcus[first][1]) in str(error.value)
    with pytest.raises(rdu.ArgumentError, match=r"not there, or used twice[\s\S]*tile 9 \(0,0\)"):
        check_placement(kernel, changed((Place(9, 0, 0), *pcus[first][1:])))
