"""Full fits, one byte more is refused, with what is needed and what is there (law L6)."""

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from tests.rooms.compiler.samples import assert_same, draw, samples

QUARTER_MIB = jax.ShapeDtypeStruct((512, 256), jnp.bfloat16)  # 262,144 bytes: four of them fill the tiny machine


def test_symbols_that_fill_hbm_to_the_last_byte_fit():
    tiny = rdu.machines.tiny()
    program = rdu.compile(lambda x, y: (x + y, x * y), QUARTER_MIB, QUARTER_MIB, machine=tiny)
    assert program.cost().cost.peak_bytes["hbm"] == 1_048_576 == tiny.hbm.capacity_bytes.value


def test_one_byte_more_is_refused():
    flag = jax.ShapeDtypeStruct((1,), jnp.bool_)
    with pytest.raises(rdu.CapacityError) as refused:
        rdu.compile(lambda x, y, flag: (x + y, x * y), QUARTER_MIB, QUARTER_MIB, flag, machine="tiny", tier="hbm")
    for part in ("1,048,577", "1,048,576", "x bf16[512x256]", "flag", "262,144"):
        assert part in str(refused.value), part


def test_values_between_kernels_take_their_place_too():
    """Unfused, the value between two operations rests in memory as well."""

    def fn(x: jax.Array) -> jax.Array:
        return jnp.tanh(x + x)

    total = 2 * 262_144
    machine = rdu.machines.tiny().replace({"hbm.capacity_bytes": total})
    assert rdu.compile(fn, QUARTER_MIB, machine=machine).cost().cost.peak_bytes["hbm"] == total
    with pytest.raises(rdu.CapacityError, match="786,432"):
        rdu.compile(fn, QUARTER_MIB, machine=machine, fusion="none", tier="hbm")
    enough = machine.replace({"hbm.capacity_bytes": 786_432})
    assert rdu.compile(fn, QUARTER_MIB, machine=enough, fusion="none").cost().cost.peak_bytes["hbm"] == 786_432


def test_a_kernel_larger_than_the_socket_is_refused_whole_and_cut_when_streaming(rng):
    def fn(x: jax.Array, *ws: jax.Array) -> jax.Array:
        for w in ws:
            x = x @ w
        return x

    args = (draw(rng, 16, 24), *(draw(rng, 24, 24) for _ in range(4)))
    machine = rdu.machines.tiny().replace({"pmu.count": 8, "pmu.capacity_bytes": 1024})
    with pytest.raises(rdu.CapacityError) as refused:
        rdu.compile(fn, *args, machine=machine, fusion=rdu.cut_after())
    for part in ("more PMUs than there are", "too many", "8 PMUs", "gemm", "bytes x", "where:", "do:"):
        assert part in str(refused.value), part
    program = rdu.compile(fn, *args, machine=machine)
    assert len(program.plan.kernels) > 1
    assert_same(program(*args), rdu.compile(fn, *args, machine="sn40l")(*args))


@pytest.mark.parametrize(
    ("fact", "unit", "used"),
    [("pmu.count", "PMUs", "pmus"), ("agcu.count", "AGCUs", "agcus"), ("pcu.count", "PCUs", "pcus")],
)
def test_every_unit_is_counted_at_its_limit(fact: str, unit: str, used: str):
    """The fewest units with which the pipeline fits at all, and one less."""
    sample = samples()[0]
    cut = rdu.cut_after()
    tiny = rdu.machines.tiny()
    for count in range(40):
        try:
            program = rdu.compile(sample.fn, *sample.args, machine=tiny.replace({fact: 40 - count}), fusion=cut)
        except rdu.CapacityError as refused:
            assert f"{40 - count} {unit}" in str(refused)
            break
        fewest = program
    (planned,) = fewest.plan.kernels
    assert getattr(planned, used) <= 41 - count < 40
    assert_same(fewest(*sample.args), rdu.compile(sample.fn, *sample.args, machine="sn40l")(*sample.args))


def test_no_kernel_of_any_sample_exceeds_its_machine():
    for sample in samples():
        for fusion in ("none", "streaming"):
            for planned in rdu.compile(sample.fn, *sample.args, machine="tiny", fusion=fusion).plan.kernels:
                assert planned.pcus <= 12 and planned.pmus <= 16 and planned.agcus <= 6
                assert planned.sram_bytes <= planned.pmus * 4096
                assert all(-(-b.tile_bytes * b.depth // 4096) <= b.pmus for b in planned.buffers)


def test_what_does_not_fit_is_named_with_its_line():
    """Of a kernel the lines of all its nodes, of a stage those of its members."""

    def fn(x: jax.Array, w: jax.Array) -> jax.Array:
        y = x @ w
        return jnp.tanh(y)

    line = fn.__code__.co_firstlineno
    square = jax.ShapeDtypeStruct((64, 64), jnp.bfloat16)
    full = rdu.machines.tiny().replace({"pmu.count": 1, "pmu.capacity_bytes": 64})
    with pytest.raises(
        rdu.CapacityError, match=rf"where: +kernel gemm \+ tanh, at test_capacity.py:{line + 1}, {line + 2}"
    ):
        rdu.compile(fn, square, square, machine=full, fusion=rdu.cut_after())
    with pytest.raises(rdu.CapacityError, match=rf"where: +stage gemm, at test_capacity.py:{line + 1}\n"):
        rdu.compile(fn, square, square, machine="tiny", fusion="primitives", k_splits=32)
