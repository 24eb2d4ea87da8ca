"""Programs of several sockets: values against parts that are joined by hand, counts, prices, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import rdujax as rdu
from rdujax.base.errors import ArgumentError, FormatError, UnsupportedError
from rdujax.estimate.pipeline import pipeline_of
from rdujax.machines import tiny
from rdujax.units import p2p
from rdujax.units.p2p import collective_times
from rdujax.units.p2p.collective_traffic import Collective
from tests.oracles.harness import in_full
from tests.oracles.processes import printed, start
from tests.rooms.compiler.samples import assert_same
from tests.rooms.frontend.sharded import CASES, RING, SOCKETS, layers_over, normal, operand, weights

MESH = AbstractMesh((SOCKETS,), ("s",), axis_types=(AxisType.Auto,))
EXPLICIT = AbstractMesh((SOCKETS,), ("s",), axis_types=(AxisType.Explicit,))


def rows(x: np.ndarray) -> list[np.ndarray]:
    return np.split(x, SOCKETS)


def columns(x: np.ndarray) -> list[np.ndarray]:
    return np.split(x, SOCKETS, axis=1)


def moved(x: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
    parts, got = rows(x), [np.zeros_like(part) for part in rows(x)]
    for source, target in pairs:
        got[target] = parts[source]
    return np.concatenate(got)


BY_HAND = {
    "sum": lambda x: sum(rows(x)),
    "mean": lambda x: sum(rows(x)) / SOCKETS,
    "maximum": lambda x: np.max(columns(x), axis=0),
    "minimum": lambda x: np.min(rows(x), axis=0),
    "gather, tiled": lambda x: np.tile(np.concatenate(rows(x), axis=1), (SOCKETS, 1)),
    "gather, stacked": lambda x: np.tile(np.stack(rows(x), axis=1), (SOCKETS, 1, 1)),
    "scatter, tiled": lambda x: SOCKETS * x,
    "scatter, stacked": lambda x: (SOCKETS * x[:4]).ravel(),
    "swap, tiled": lambda x: x,
    "swap, stacked": lambda x: np.concatenate([np.stack([row] * SOCKETS, axis=1) for row in x[:4]]),
    "swap, stacked behind": lambda x: np.concatenate([np.stack([column] * SOCKETS) for column in x[:, :4].T]),
    "ring": lambda x: moved(x, RING),
    "two of four": lambda x: moved(x, [(0, 2), (3, 3)]),
    "place": lambda x: x + np.repeat(np.arange(SOCKETS), 2)[:, None],
}
QUICK = ("mean", "gather, stacked", "scatter, tiled", "swap, stacked", "two of four", "place")


@pytest.mark.parametrize("name", [*QUICK, *in_full(*(n for n in CASES if n not in QUICK))])
def test_collectives_are_what_they_are_by_hand(rng, name):
    x = operand(rng)
    program = rdu.compile(CASES[name].over(MESH), x, machine="tiny")
    assert_same(program(x), BY_HAND[name](np.asarray(x)).astype(np.float32), name)
    assert program.tally(x) == program.predicted_counts()


@pytest.mark.parametrize("names", [("mean", "gather, stacked", "two of four"), *in_full((tuple(CASES),))], ids=len)
def test_four_devices_give_the_bits_of_one(names):
    found = printed(start("tests.rooms.frontend.sharded", SOCKETS, *names))
    assert len(found) == 2 * len(names) + 2 + 3 * 13 and set(found.values()) == {0}, found


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_sums_are_chained_in_the_order_of_the_sockets_and_rounded_once(rng, dtype):
    x = (normal(rng, SOCKETS, 9) * 100).astype(dtype)
    program = rdu.compile(CASES["sum"].over(MESH), x)
    total = np.zeros(9, np.float32)
    for row in np.asarray(x, np.float32):
        total = total + row
    assert_same(program(x), jnp.asarray(total[None]).astype(dtype))


def test_a_loop_of_layers_with_a_sum_in_each(rng):
    """One socket's kernels, as often as the loop turns, and a collective in every trip."""
    w, x = weights(rng), normal(rng, 3, 6)
    program = rdu.compile(layers_over(MESH), w, x, machine="tiny")
    want = np.asarray(x, np.float64)
    for up, down in zip(np.asarray(w["up"], np.float64), np.asarray(w["down"], np.float64), strict=True):
        want = want + np.tanh(want @ up) @ down
    np.testing.assert_allclose(program(w, x), want, rtol=1e-4, atol=1e-4)
    assert_same(program.execute(w, x, executor="scan"), program(w, x))
    assert_same(program.replace(fusion="none")(w, x), program(w, x))
    counts = program.predicted_counts()
    assert program.tally(w, x) == counts
    assert counts["pcu.macs"] == 2 * 2 * 3 * 6 * 16
    assert counts["p2p.sent_bytes"] == 2 * 2 * (SOCKETS - 1) * 3 * 6 * 4
    (kernel,) = program.cost().kernels
    assert (kernel.launches, len(kernel.inside)) == (2, 1)


def test_the_price_is_that_of_one_socket(rng):
    machine, x, w = tiny(), normal(rng, 8, 16), normal(rng, 16, 4)
    fn = jax.shard_map(
        lambda x, w: lax.psum(x @ w, "s"), mesh=MESH, in_specs=(P(None, "s"), P("s")), out_specs=P(), check_vma=False
    )
    program = rdu.compile(fn, x, w, machine=machine)
    cost, (kernel,) = program.cost(), program.plan.kernels
    assert cost.flops == 2 * 8 * 4 * 4 + 8 * (SOCKETS - 1) and cost.launches == 1
    assert cost.moved_bytes("hbm") == 4 * (8 * 4 + 4 * 4 + 8 * 4)  # parts and sum; what is summed stays
    by_label = {stage.name: stage.service_cycles for stage in pipeline_of(program.graph, kernel, machine).stages}
    tile = kernel.tiling.tile(kernel.kernel.writes[0].value, (8, 4))
    one = Collective("all_reduce", SOCKETS, tile[0] * tile[1], 4)
    there = collective_times.cycles(machine.p2p, machine.clock_hz.value, one)
    assert by_label["all_reduce"] + by_label["all_reduce arriving"] == there
    assert kernel.bridges["links to sockets"] == 2  # a port each way is faster than the links
    assert program.timeline().cycles == program.report().data["total"]["cycles_with_launches"]
    assert sum(row["cycles"] for row in program.report().data["attribution"]) == program.timeline().cycles


@pytest.mark.parametrize("loops", [False, True], ids=["once", "in a loop"])
def test_what_all_sockets_cost_together_is_what_their_units_count(rng, loops):
    """Every socket has its own part of x, or of the weights; what a socket moves of its memory, all move as often."""
    args = (weights(rng), normal(rng, 3, 6)) if loops else (operand(rng),)
    program = rdu.compile(layers_over(MESH) if loops else CASES["gather, tiled"].over(MESH), *args, machine="tiny")
    cost, counts, report = program.cost(), program.tally(*args), program.report()
    assert (cost.sockets, cost.sent_bytes) == (SOCKETS, counts["p2p.sent_bytes"]) and cost.sent_bytes > 0
    assert cost.node.read_bytes["hbm"] == counts["hbm.read_bytes"] == SOCKETS * cost.cost.read_bytes["hbm"]
    assert cost.node.written_bytes["hbm"] == counts["hbm.written_bytes"]
    assert cost.node.peak_bytes["hbm"] == SOCKETS * cost.peak_bytes("hbm")
    assert (cost.node.cycles, cost.node.flops) == (cost.cycles, SOCKETS * cost.flops)
    total = report.data["total"]
    assert total["node"]["sent_bytes"] == cost.sent_bytes
    assert total["node"]["moved_bytes"] == {"hbm": SOCKETS * total["moved_bytes"]["hbm"]}
    for text in (str(report), str(cost)):
        assert "4 sockets" in text and f"{cost.sent_bytes:,} bytes sent" in text
        assert f"{cost.node.moved_bytes('hbm'):,} bytes" in text


def test_a_node_is_a_mesh_in_one_line(rng):
    x = operand(rng)
    total = jax.shard_map(lambda x: lax.psum(x, "sockets"), mesh=rdu.node(4), in_specs=P("sockets"), out_specs=P())
    program = rdu.compile(total, x, machine="tiny")
    assert_same(program(x), sum(rows(np.asarray(x))))
    assert program.cost().sockets == 4 and rdu.node() == AbstractMesh((8,), ("sockets",), axis_types=(AxisType.Auto,))
    for wrong in (0, True, 2.0):
        with pytest.raises(ArgumentError, match="sockets of a node"):
            rdu.node(wrong)
    many = jax.shard_map(lambda x: lax.psum(x, "sockets"), mesh=rdu.node(8), in_specs=P("sockets"), out_specs=P())
    with pytest.raises(ArgumentError, match=r"more sockets than a node has\n +given: +8\n +allowed: +1 to 4"):
        rdu.compile(many, x, machine="tiny")


def test_one_socket_alone_is_its_own_node(rng):
    program = rdu.compile(lambda x: x * 2, operand(rng), machine="tiny")
    cost = program.cost()
    assert (cost.sockets, cost.sent_bytes, cost.node) == (1, 0, cost.cost)
    assert "together" not in str(cost) and "together" not in str(program.report())


def test_the_price_has_a_slope_by_the_links(rng):
    x = normal(rng, 512, 12)
    program = rdu.compile(CASES["sum"].over(MESH), x, machine="tiny")

    def seconds(bandwidth):
        return program.cost(tiny().replace({"p2p.bandwidth_bytes_per_s": bandwidth})).total_s

    bandwidth = float(p2p_bandwidth())
    slope = jax.grad(seconds)(jnp.float32(bandwidth / 64))
    assert slope < 0 and np.isfinite(slope)


def p2p_bandwidth() -> float:
    config: p2p.Config = tiny().p2p
    return config.bandwidth_bytes_per_s.value


def test_gradients_through_a_program_of_sockets(rng):
    w, x = weights(rng), normal(rng, 3, 6) * 0.5
    program = rdu.compile(layers_over(MESH), w, x, machine="tiny")

    def plain(w, x):
        for up, down in zip(w["up"], w["down"], strict=True):
            x = x + jnp.tanh(x @ up) @ down
        return x

    ours, theirs = (jax.grad(lambda w, x, f=f: (f(w, x) ** 2).sum(), argnums=(0, 1))(w, x) for f in (program, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), ours, theirs)


def test_a_train_step_over_data_and_features(rng):
    """A mesh of two axes; the gradient is taken inside, and summed over the axis of the data."""
    mesh = AbstractMesh((2, 2), ("data", "s"), axis_types=(AxisType.Auto,) * 2)
    w, x, y = normal(rng, 6, 4), normal(rng, 8, 6), normal(rng, 8, 4)

    def loss(w, x, y):
        partial = lax.psum(x @ w, "s") - y
        return (partial**2).sum()

    def step(w, x, y):
        return w - 0.01 * lax.psum(jax.grad(loss)(w, x, y) / lax.psum(1, "s"), "data")

    fn = jax.shard_map(
        step, mesh=mesh, in_specs=(P("s"), P("data", "s"), P("data")), out_specs=P("s"), check_vma=False
    )  # fmt: skip
    program = rdu.compile(fn, w, x, y, machine="tiny")
    want = w - 0.01 * jax.grad(lambda w: ((x @ w - y) ** 2).sum())(w)
    np.testing.assert_allclose(program(w, x, y), want, rtol=1e-4, atol=1e-4)
    assert program.tally(w, x, y) == program.predicted_counts()


@pytest.mark.full
def test_one_axis_cut_over_two_of_the_mesh(rng):
    mesh, x = AbstractMesh((2, 3), ("a", "b"), axis_types=(AxisType.Auto,) * 2), normal(rng, 12, 5)
    fn = jax.shard_map(
        lambda x: (lax.psum(x, ("a", "b")), x * 2), mesh=mesh, in_specs=P(("b", "a")), out_specs=(P(), P(("b", "a")))
    )
    total, twice = rdu.compile(fn, x, machine="tiny")(x)
    assert_same(twice, x * 2)
    np.testing.assert_allclose(total, sum(np.split(np.asarray(x), 6)), rtol=1e-5, atol=1e-5)


def test_what_is_alike_on_all_sockets_is_not_moved(rng):
    """JAX's own check of what is alike puts casts into the text; they cost nothing."""
    fn = jax.shard_map(lambda x: lax.psum(jax.nn.relu(x), "s"), mesh=MESH, in_specs=P("s"), out_specs=P())
    x = operand(rng)
    program = rdu.compile(jax.jit(fn), x, machine="tiny")
    assert [node.op.name for node in program.graph.nodes] == ["max", "all_reduce"]
    assert_same(program(x), sum(np.maximum(part, 0) for part in rows(np.asarray(x))))


def sharded(fn, taken=None, given=None, **more):
    specs = {"in_specs": P("s") if taken is None else taken, "out_specs": P() if given is None else given}
    return jax.shard_map(fn, mesh=MESH, check_vma=False, **specs, **more)


HELD = jnp.asarray(np.eye(8, 12), jnp.float32)
REFUSED = {
    "here is more around it": lambda x: sharded(lambda x: lax.psum(x, "s"))(x) * 2,
    "groups of an axis": sharded(lambda x: lax.all_gather(x, "s", axis_index_groups=[[0, 1], [2, 3]])),
    "a constant that is cut": lambda x: sharded(lambda x, y: lax.psum(x + y, "s"), (P("s"), P("s")))(x, HELD),
    "argument x cut in two ways": lambda x: sharded(lambda x, y: x[:, :3] + y[:2], (P("s"), P(None, "s")))(x, x),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_the_program_of_one_socket_is_refused(rng, what):
    with pytest.raises(UnsupportedError, match=rf"{what}(.|\n)*test_sockets.py(.|\n)*do: "):
        rdu.compile(REFUSED[what], operand(rng))


def laid(x: jax.Array, *axes: str | None, mesh=EXPLICIT) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, P(*axes)))


def test_over_explicit_axes_a_function_takes_arguments_as_they_are_laid_out(rng):
    """Three programs of one function: JAX takes from the types of its arguments how it cuts them."""
    fn, x = jax.shard_map(lambda x: lax.psum(x, "s"), mesh=EXPLICIT, out_specs=P()), operand(rng)
    by_rows, by_columns, whole = (
        rdu.compile(fn, given, machine="tiny")(x) for given in (laid(x, "s"), laid(x, None, "s"), x)
    )
    assert_same(by_rows, sum(rows(np.asarray(x))))
    assert_same(by_columns, sum(columns(np.asarray(x))))
    assert_same(whole, SOCKETS * x)


def test_what_only_lays_out_around_a_shard_map_is_passed_over(rng):
    x = operand(rng)

    def fn(x):
        parts = jax.reshard(x, NamedSharding(EXPLICIT, P("s")))
        total, twice = jax.jit(
            jax.shard_map(lambda x: (lax.psum(x, "s"), x * 2), mesh=EXPLICIT, out_specs=(P(), P("s")))
        )(parts)
        return jax.reshard(twice, NamedSharding(EXPLICIT, P(None, "s"))), total

    for given in (x, laid(x, None, "s")):
        program = rdu.compile(fn, given, machine="tiny")
        twice, total = program(x)
        assert_same(twice, x * 2)
        assert_same(total, sum(rows(np.asarray(x))))
        assert program.tally(x) == program.predicted_counts()


def test_layouts_in_a_function_of_one_socket_are_passed_over(rng):
    x = operand(rng)
    w = jnp.asarray(rng.integers(-9, 10, (12, 4)), jnp.float32)

    def fn(x, w):
        y = jnp.einsum("ij,jk->ik", x, w, out_sharding=NamedSharding(EXPLICIT, P("s")))
        return jax.reshard(y, NamedSharding(EXPLICIT, P(None, "s"))).T

    program = rdu.compile(fn, laid(x, None, "s"), laid(w, "s"), machine="tiny")
    assert [node.op.name for node in program.graph.nodes] == ["gemm", "transpose"]
    assert_same(program(x, w), (x @ w).T)


def test_an_argument_that_is_laid_out_in_another_way_is_refused(rng):
    mesh = jax.make_mesh((1,), ("s",), axis_types=(AxisType.Explicit,))
    x = operand(rng)
    there, other = (jax.device_put(x, NamedSharding(mesh, spec)) for spec in (P("s"), P(None, "s")))
    program = rdu.compile(jax.shard_map(lambda x: lax.psum(x, "s"), mesh=mesh, out_specs=P()), there, machine="tiny")
    for given in (x, there):
        assert_same(program(given), x)
        assert program.tally(given) == program.predicted_counts()
    message = r"argument x is laid out in another way\n +given: .*None, 's'.*\n +allowed: .*'s', None(.|\n)*do: "
    for road in (program, program.tally, jax.jit(program), program.captured):
        with pytest.raises(ArgumentError, match=message):
            road(other)
    implicit = rdu.compile(
        CASES["sum"].over(AbstractMesh((1,), ("s",), axis_types=(AxisType.Auto,))), x, machine="tiny"
    )
    assert_same(implicit(other), x)  # says itself how it is cut


def test_sums_that_are_not_made_yet_are_no_parts(rng):
    x = operand(rng)
    given = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(EXPLICIT, P(unreduced={"s"})))
    fn = jax.shard_map(lambda x: lax.psum(x, "s"), mesh=EXPLICIT, out_specs=P(), check_vma=False)
    with pytest.raises(UnsupportedError, match=r"sums that are not made yet(.|\n)*test_sockets.py(.|\n)*jax.lax.psum"):
        rdu.compile(fn, given)


def test_some_axes_of_a_mesh_are_not_enough(rng):
    mesh = AbstractMesh((4, 2), ("s", "t"), axis_types=(AxisType.Auto,) * 2)
    fn = jax.shard_map(lambda x: lax.psum(x, "s"), mesh=mesh, in_specs=P("s"), out_specs=P(), axis_names={"s"})
    with pytest.raises(UnsupportedError, match=r"left to XLA(.|\n)*all of s, t(.|\n)*leave axis_names out"):
        rdu.compile(fn, operand(rng))


def test_predicates_have_no_sum_and_sockets_no_validation_alone(rng):
    with pytest.raises(FormatError, match=r"a max over sockets\n +given: +uint32\n +allowed: +bf16, fp32, int32"):
        rdu.compile(sharded(lambda x: lax.pmax(x, "s")), jnp.ones((8, 2), jnp.uint32))
    with pytest.raises(UnsupportedError, match=r"need those of the others\n +given: +4 sockets"):
        rdu.validate(CASES["sum"].over(MESH), operand(rng), machine="tiny")
