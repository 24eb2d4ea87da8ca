"""Placement: every unit once and on the grid, exactly when the counts fit, always the same, and near what it serves."""

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from rdujax.compiler.flows import Units
from rdujax.compiler.place import Grid, Place, Placement, check_placement, grid_of, neighbours, place
from rdujax.compiler.wires import wires
from rdujax.units.rdn.mesh import Mesh
from tests.rooms.compiler.samples import mlp, monarch, samples, small


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


def all_at_one_place(needs, *_):
    return {label: (Place(0, 0, 0),) * count for label, count in needs}


@pytest.mark.parametrize("order", ["near", "counted"])
def test_what_is_placed_is_checked(order, monkeypatch):
    program = planned()
    monkeypatch.setattr("rdujax.compiler.place._along_curve", all_at_one_place)
    monkeypatch.setattr("rdujax.compiler.place._counted", all_at_one_place)
    with pytest.raises(rdu.ArgumentError, match="PCUs that are not there, or used twice"):
        place(program.graph, program.plan.kernels[0], program.machine, order)


def test_a_placement_is_always_the_same():
    program = planned()
    one, other = (place(program.graph, program.plan.kernels[0], program.machine) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("name", FUSED)
def test_the_pcus_of_a_stage_follow_one_another_and_stages_the_pipeline(name):
    program = planned(*FUSED[name])
    placement = place(program.graph, program.plan.kernels[0], program.machine)
    at = {p: i for i, p in enumerate(placement.grid.curve)}
    end = -1
    for places in placement.units.pcus.values():
        where = [at[p] for p in places]
        assert where == list(range(where[0], where[0] + len(where))) and where[0] > end
        end = where[-1]


def test_a_stage_that_fits_into_a_tile_is_not_cut_while_places_are_spare():
    program = planned(*FUSED["mlp"])
    placement = place(program.graph, program.plan.kernels[0], program.machine)
    assert all(len({p.tile for p in places}) == 1 for places in placement.units.pcus.values() if len(places) <= 260)
    kernel = program.plan.kernels[0]
    tight = on_grid(program, pcu=kernel.pcus)
    used = [p for places in tight.units.pcus.values() for p in places]
    assert set(used) == set(tight.grid.curve[: kernel.pcus])


@pytest.mark.parametrize("name", FUSED)
def test_wires_are_a_third_shorter_than_counted_out(name):
    program = planned(*FUSED[name])
    kernel = program.plan.kernels[0]
    near, counted = (
        wires(program.graph, kernel, place(program.graph, kernel, program.machine, order), program.machine)
        for order in ("near", "counted")
    )
    assert near.hops < 0.7 * counted.hops
    assert near.crossings.sum() < counted.crossings.sum()


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
    with pytest.raises(rdu.ArgumentError, match=r"PCUs that are not there, or used twice[\s\S]*tile 0 \(0,1\)"):
        check_placement(kernel, changed((pcus[first][1], *pcus[first][1:])))
    with pytest.raises(rdu.ArgumentError, match=r"not there, or used twice[\s\S]*tile 9 \(0,0\)"):
        check_placement(kernel, changed((Place(9, 0, 0), *pcus[first][1:])))
