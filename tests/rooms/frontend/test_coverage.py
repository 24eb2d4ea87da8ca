"""Every primitive that programs are known to use, and every one that JAX exports: a rule, or a reason for none."""

import jax
import jax.extend.core.primitives as exported
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import rdujax as rdu
from rdujax.base.errors import FormatError, UnsupportedError
from rdujax.frontend.refused import REFUSED
from rdujax.frontend.rule import RULES
from rdujax.frontend.rules.complexes import COMPLEX_RULES
from rdujax.frontend.rules.control import REGIONS
from rdujax.frontend.rules.random import KEY_RULES
from rdujax.frontend.trace import CALLS

KNOWN = {*RULES, *COMPLEX_RULES, *KEY_RULES, *REGIONS, *CALLS}
# What the models of Table 1 are made of, to be run and trained.
MODELS = """
    jit remat2 scan custom_jvp_call custom_vjp_call closed_call eval_jaxpr dot_general conv_general_dilated add add_any
    sub mul div neg max integer_pow pow sqrt rsqrt exp log logistic tanh erfc sin cos stop_gradient copy
    convert_element_type select_n eq gt lt le and reduce_sum reduce_max argmax broadcast_in_dim reshape transpose
    squeeze slice split concatenate pad iota gather scatter-add dynamic_update_slice fft one_minus_square
"""
# Modules, samplers, mixtures of experts, optimisers.
LIBRARIES = """
    square abs sign ge ne or min clamp is_finite log1p expm1 round exp2 erf erf_inv cumsum sort top_k rev dynamic_slice
    scatter scatter-max while cond ragged_dot_general random_bits random_wrap bitcast_convert_type shift_right_logical
    name optimization_barrier reduce_precision
"""
# Seen less often.
OTHERS = """
    reduce_window_max reduce_window_sum complex real imag conj cumlogsumexp not xor rem floor ceil argmin reduce_and
    reduce_or reduce_prod select_and_scatter_add composite population_count clz nextafter reduce
"""
BETWEEN_SOCKETS = "psum psum_invariant pmax pmin all_gather reduce_scatter all_to_all ppermute axis_index pvary"
# Refused ones that JAX does not export: of its internals, or of newer versions.
NOT_EXPORTED = """
    addupdate cholesky_update debug_callback debug_print empty_ref geqrf infeed io_callback lu_pivots_to_permutation
    new_ref outfeed pure_callback scaled_dot shard_map
"""
EXPORTED = {value.name for key, value in vars(exported).items() if key.endswith("_p")}


@pytest.mark.parametrize("family", [MODELS, LIBRARIES, OTHERS, BETWEEN_SOCKETS])
def test_what_programs_use_has_a_rule(family):
    assert set(family.split()) - KNOWN == set()


def test_every_primitive_of_jax_has_a_rule_or_a_reason():
    assert EXPORTED - KNOWN - set(REFUSED) == set()


def test_what_is_refused_has_no_rule_and_says_what_to_do():
    assert KNOWN & set(REFUSED) == set()
    assert all(reason and do for reason, do in REFUSED.values())
    assert set(REFUSED) - EXPORTED == set(NOT_EXPORTED.split()) - EXPORTED, "a name that no primitive has"


X = jnp.asarray(np.random.default_rng(2).normal(size=(4, 4)), jnp.float32)
UNSUPPORTED = {
    r"rem does not exist in fp32(.|\n)*write x - y \* jnp.floor": lambda x: x % 0.75,
    "calls the host": lambda x: jax.pure_callback(np.sin, x, x),
    "factorisations and solvers": lambda x: jnp.linalg.cholesky(x @ x.T),
    "table or algorithm of known error": lambda x: jax.lax.lgamma(x),
    "how far it is from the largest": lambda x: jax.lax.approx_max_k(x, 2),
    "a place for a value": lambda x: jax.device_put(x, jax.devices()[0]) + 1,
    "several tensors reduced at once": lambda x: jax.lax.reduce(
        (x, x), (0.0, 0.0), lambda a, b: (a[0] + b[0], a[1] * b[1]), (0,)
    ),
    "the combination mul add": lambda x: jax.lax.reduce(x, 0.0, lambda a, b: a * b + b, (0,)),
}


@pytest.mark.parametrize("reason", UNSUPPORTED)
def test_a_refusal_tells_the_reason_the_place_and_the_way_out(reason):
    with pytest.raises(UnsupportedError, match=rf"(?=(.|\n)*{reason})(.|\n)*test_coverage.py(.|\n)*do: "):
        rdu.compile(UNSUPPORTED[reason], X)


def test_what_is_advised_for_a_remainder_is_near_it():
    advised = rdu.compile(lambda x: x - 0.75 * jnp.floor(x / 0.75), X, machine="tiny")
    np.testing.assert_allclose(advised(X), X % 0.75, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "int8", "int4", "float16", "uint8", "int16"])
def test_narrow_formats_are_refused_by_name(dtype):
    with pytest.raises(FormatError, match=rf"given: +{dtype}\n +allowed: bfloat16, float32(.|\n)*test_coverage.py"):
        rdu.compile(lambda x: x.astype(dtype).astype(jnp.float32), X)


def test_reduce_precision_to_what_the_machine_has_not():
    with pytest.raises(UnsupportedError, match=r"5 exponent bits and 2 mantissa bits(.|\n)*8 and 7: bf16"):
        rdu.compile(lambda x: jax.lax.reduce_precision(x, 5, 2), X)


def test_what_says_something_about_values_costs_nothing():
    """Names for remat and layouts over devices: no node of the program."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("d",))
    layout = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))

    def fn(x):
        x = checkpoint_name(x, "kept")
        return jax.device_put(jax.lax.with_sharding_constraint(x, layout)) * 2

    program = rdu.compile(fn, X)
    assert [node.op.name for node in program.graph.nodes] == ["mul"]
    np.testing.assert_array_equal(program(X), X * 2)


MAPPED = {
    "psum": lambda x: jax.lax.psum(x, "i"),
    "pmax": lambda x: jax.lax.pmax(x, "i"),
    "pmin": lambda x: jax.lax.pmin(x, "i"),
    "all_gather": lambda x: jax.lax.all_gather(x, "i", axis=0, tiled=True),
    "reduce_scatter": lambda x: jax.lax.psum_scatter(x, "i", tiled=True),
    "all_to_all": lambda x: jax.lax.all_to_all(x, "i", 0, 0),
    "ppermute": lambda x: jax.lax.ppermute(x, "i", [(j, (j + 1) % 4) for j in range(4)]),
    "axis_index": lambda x: x + jax.lax.axis_index("i").astype(jnp.float32),
}


@pytest.mark.parametrize("name", MAPPED)
def test_a_mapped_axis_with_a_name_is_an_axis(rng, name):
    x, fn = jnp.asarray(rng.integers(-9, 9, (4, 4)), jnp.float32), jax.vmap(MAPPED[name], axis_name="i")
    np.testing.assert_array_equal(rdu.compile(fn, x, machine="tiny")(x), fn(x))
