"""Bad input gets an error that names the argument, what was given, what is allowed, and the near miss."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu

B = jnp.ones((4, 5), jnp.bfloat16)
W = jnp.ones((5, 3), jnp.bfloat16)


def product(x: jax.Array, w: jax.Array) -> jax.Array:
    """x w."""
    return x @ w


PROGRAM = rdu.compile(product, B, W, machine="tiny")
compiled = partial(rdu.compile, product, B, W, machine="tiny")


def refused(error: type[Exception], call, *parts: str) -> None:
    """The call raises exactly this error, and its text holds every part."""
    with pytest.raises(error) as caught:
        call()
    for part in parts:
        assert part in str(caught.value), f"{part!r} is not in: {caught.value}"


@pytest.mark.parametrize(
    ("args", "error", "parts"),
    [
        ((B, W[0]), rdu.ShapeError, ("argument w", "(3,)", "(5, 3)")),
        ((B, W.T), rdu.ShapeError, ("argument w", "(3, 5)", "(5, 3)", "product")),
        ((B, W.astype(jnp.float32)), rdu.FormatError, ("argument w", "float32", "bfloat16")),
        ((B, 2.0), rdu.FormatError, ("argument w is no array", "2.0", "bfloat16[5, 3]")),
        (
            (B, jax.ShapeDtypeStruct((5, 3), jnp.bfloat16)),
            rdu.ConcretenessError,
            ("argument w has no values", "cost()"),
        ),
        ((B,), rdu.ArgumentError, ("2 arguments needed", "given:   1", "allowed: x, w", "product")),
        (({"x": B}, W), rdu.ArgumentError, ("argument 0 is of another structure", "{'x': *}", "x, w")),
        ((B, None), rdu.ArgumentError, ("argument 1 is of another structure", "given:   None")),
    ],
)
def test_a_call_with_other_arguments(args, error, parts):
    refused(error, lambda: PROGRAM(*args), *parts)
    refused(error, lambda: PROGRAM.execute(*args), *parts)
    refused(error, lambda: PROGRAM.tally(*args), *parts)


@pytest.mark.parametrize("dtype", ["float16", "float64", "complex64", "int8", "uint16", "int64"])
def test_dtypes_that_the_machine_does_not_have(dtype: str):
    bad = np.ones((5, 3), dtype)
    refused(
        rdu.FormatError,
        lambda: rdu.compile(product, B, bad),
        "argument w",
        dtype,
        "bfloat16, float32, int32, uint32, bool",
    )
    refused(rdu.FormatError, lambda: PROGRAM(B, bad), "argument w", dtype, "bfloat16")
    kernel = rdu.kernel()(lambda x, w: rdu.gemm(x, w))
    refused(rdu.FormatError, lambda: kernel.program(B, bad), "argument w", dtype, "bfloat16")


def test_a_dtype_inside_of_the_function_is_named_with_its_line():
    refused(rdu.FormatError, lambda: rdu.compile(lambda x: x.astype(jnp.float16), B), "float16", "test_bad_input.py")


@pytest.mark.parametrize(
    ("bad", "error", "parts"),
    [
        (np.ones((5, 0), np.float32), rdu.ShapeError, ("argument w", "an empty array", "(5, 0)")),
        (2.0, rdu.FormatError, ("argument w", "2.0", "jnp.asarray(x, jnp.bfloat16)")),
        (True, rdu.FormatError, ("argument w", "True")),
        ("text", rdu.FormatError, ("argument w", "str")),
        ([W, {"k": 1.5}], rdu.FormatError, ("argument w[1]['k']", "1.5")),
    ],
)
def test_arguments_that_are_no_arrays(bad, error, parts):
    refused(error, lambda: rdu.compile(product, B, bad), *parts)


@pytest.mark.parametrize(
    ("choices", "parts"),
    [
        ({"machine": "sn40"}, ("unknown machine", "'sn40'", "'sn40l'", "did you mean 'sn40l'?")),
        ({"fusion": "stream"}, ("unknown fusion", "'none'", "did you mean 'streaming'?", "cut_after")),
        ({"orchestration": "hardwear"}, ("unknown orchestration", "'looped', 'software'", "'hardware'?")),
        ({"tier": "hmb"}, ("unknown tier", "'ddr'", "did you mean 'hbm'?")),
        ({"stage_buffer_format": "fp23"}, ("unknown stage_buffer_format", "'declared'", "did you mean 'fp32'?")),
        ({"fusion": rdu.cut_after("gem")}, ("unknown node to cut after", "'gem'", "did you mean 'gemm'?")),
        ({"k_splits": {"gem": 2}}, ("unknown contraction", "'gem'", "k_splits", "did you mean 'gemm'?")),
    ],
)
def test_names_that_do_not_exist(choices, parts):
    refused(rdu.UnknownNameError, lambda: rdu.compile(product, B, W, **choices), *parts)
    refused(rdu.UnknownNameError, lambda: PROGRAM.replace(**choices), *parts)
    refused(rdu.UnknownNameError, lambda: rdu.validate(product, B, W, **choices), *parts)


def test_other_names_that_do_not_exist():
    tiny = rdu.machines.tiny()
    refused(rdu.UnknownNameError, lambda: tiny.replace({"pcu.cout": 3}), "unknown fact", "did you mean 'pcu.count'?")
    refused(rdu.UnknownNameError, lambda: tiny.tier("hbn"), "unknown memory tier", "did you mean 'hbm'?")
    refused(rdu.UnknownNameError, lambda: PROGRAM.execute(B, W, executor="scna"), "executor", "did you mean 'scan'?")
    refused(rdu.ArgumentError, lambda: PROGRAM.tally(B, W, executor="whole"), "whole", "'vmap', 'scan'")
    refused(rdu.UnknownNameError, lambda: rdu.kernel(orchestration="hard"), "orchestration", "'hardware'?")
    refused(rdu.UnknownNameError, lambda: rdu.kernel(machine="tinny"), "machine", "did you mean 'tiny'?")


def test_k_splits_where_nothing_is_contracted():
    x = jnp.ones((4, 4), jnp.bfloat16)
    for splits in (2, {"gemm": 2}):
        with pytest.raises((rdu.ArgumentError, rdu.UnknownNameError), match="k_splits"):
            rdu.compile(lambda x: x + x, x, k_splits=splits)
    assert rdu.compile(lambda x: x + x, x, k_splits=1)(x).tolist() == [[2.0] * 4] * 4


@pytest.mark.parametrize("splits", [0, 6, -1, {"gemm": 0}, {"gemm": 6}, {"gemm": 2.0}, {"gemm": True}])
def test_k_splits_out_of_range(splits):
    given = splits["gemm"] if isinstance(splits, dict) else splits
    refused(rdu.ArgumentError, lambda: compiled(k_splits=splits), "k_splits", repr(given), "from 1 to K = 5", "gemm")


@pytest.mark.parametrize("splits", [True, 2.0, "2", None])
def test_k_splits_that_are_no_integers(splits):
    refused(rdu.ArgumentError, lambda: compiled(k_splits=splits), "k_splits", repr(splits), "integer")


@pytest.mark.parametrize("splits", [1, 5, {"gemm": 5}, {}])
def test_k_splits_at_the_edges(splits):
    assert compiled(k_splits=splits)(B, W).tolist() == [[5.0] * 3] * 4


def test_segments_that_k_does_not_make():
    """Seven segments of two values each: three of them would be empty."""
    x, w = jnp.ones((4, 8), jnp.bfloat16), jnp.ones((8, 3), jnp.bfloat16)
    refused(
        rdu.ArgumentError, lambda: rdu.compile(product, x, w, k_splits=7),
        "does not make 7 segments", "given:   k_splits=7", "allowed: 1, 2, 3, 4, 8", "gemm",
    )  # fmt: skip


def test_a_program_inside_of_a_function_to_be_compiled():
    calls = rdu.kernel(machine="tiny")(lambda x, w: rdu.gemm(x, w))
    for inner in (PROGRAM, calls):
        refused(
            rdu.UnsupportedError, lambda: rdu.compile(lambda x, w: inner(x, w), B, W), "the compiled program",  # noqa: B023
            "test_bad_input.py", "compile the function that calls the original one",
        )  # fmt: skip
        refused(rdu.ArgumentError, lambda: rdu.compile(inner, B, W), "compiled again", "replace")  # noqa: B023


@pytest.mark.parametrize("machine", [[], 3, None])
def test_what_is_no_machine(machine):
    refused(rdu.ArgumentError, lambda: compiled(machine=machine), repr(machine), "sn40l", "tiny")


def test_a_tier_that_no_machine_has():
    refused(rdu.UnknownNameError, lambda: PROGRAM.cost().moved_bytes("hmb"), "memory tier", "did you mean 'hbm'")


def test_another_arithmetic_asked_of_a_contraction():
    def asks(x, w):
        return jax.lax.dot(x, w, precision=jax.lax.DotAlgorithmPreset.BF16_BF16_F32)

    f32 = [a.astype(jnp.float32) for a in (B, W)]
    refused(rdu.UnsupportedError, lambda: rdu.compile(asks, *f32), "BF16_BF16_F32", "leave precision out")


def test_tracers_where_values_are_needed():
    def closed_over(y: jax.Array) -> jax.Array:
        return rdu.compile(lambda x: x + y, B, machine="tiny")(B)

    refused(rdu.ConcretenessError, lambda: jax.jit(closed_over)(B), "closes over", "bfloat16[4,5]", "as an argument")
    refused(rdu.ConcretenessError, lambda: jax.vmap(closed_over)(B[None]), "closes over", "bfloat16[4,5]")
    tallied = jax.jit(lambda x: PROGRAM.tally(x, W)["pcu.macs"])
    refused(rdu.ConcretenessError, lambda: tallied(B), "a tally needs values", "outside of jit")


@pytest.mark.parametrize("fn", [jax.lax.lgamma, jax.lax.bessel_i0e, jax.scipy.special.digamma])
def test_primitives_without_a_rule(fn):
    """The name, why, and the line in this file; also where JAX's own library made the equation."""

    def wrapped(x: jax.Array) -> jax.Array:
        return fn(x.astype(jnp.float32))

    refused(
        rdu.UnsupportedError, lambda: rdu.compile(wrapped, B), "no rule for '", "test_bad_input.py:",
        "no table or algorithm of known error", "compute it outside",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fn", "parts"),
    [
        (lambda x: jax.lax.rem(x, x), ("rem does not exist in bf16", "int32", "test_bad_input.py")),
        (lambda x: x.at[0].apply(jnp.tanh), ("scatter", "test_bad_input.py")),
    ],
)
def test_forms_that_a_rule_does_not_have(fn, parts):
    refused(rdu.UnsupportedError, lambda: rdu.compile(fn, B), *parts)


@pytest.mark.parametrize("fn", [3, None, "product"])
def test_what_is_compiled_must_be_a_function(fn):
    refused(rdu.ArgumentError, lambda: rdu.compile(fn, B), "must be a function", repr(fn), "argument fn")
    refused(rdu.ArgumentError, lambda: rdu.validate(fn, B), "must be a function", repr(fn))


def test_operands_of_two_kinds_are_refused():
    mixed = partial(jax.lax.dot, preferred_element_type=jnp.float32)
    refused(rdu.FormatError, lambda: rdu.compile(mixed, B, W.astype(jnp.int32)), "formats of a contraction", "int32")


def test_a_product_of_bf16_and_fp32_is_one_of_fp32():
    mixed = partial(jax.lax.dot, preferred_element_type=jnp.float32)
    wide = W.astype(jnp.float32) * 1.1
    got, want = (rdu.compile(mixed, x, wide)(x, wide) for x in (B, B.astype(jnp.float32)))
    assert got.dtype == jnp.float32 and np.array_equal(np.asarray(got), np.asarray(want))


X = jnp.ones((4, 5), jnp.float32)
REPEATED = rdu.compile(lambda x: jax.lax.while_loop(lambda c: c.sum() < 99, lambda c: c * 2, x), X, machine="tiny")
CHOSEN = rdu.compile(lambda p, x: jax.lax.cond(p, jnp.sin, jnp.cos, x), jnp.array(True), X, machine="tiny")


@pytest.mark.parametrize("said", [3, [0], "while", 2.5])
def test_a_course_is_said_by_labels(said):
    for price in (REPEATED.cost, REPEATED.report, REPEATED.timeline, REPEATED.predicted_counts):
        refused(rdu.ArgumentError, lambda: price(trips=said), "trips", "by label", repr(said), "trips={'while': 1}")  # noqa: B023
    refused(rdu.ArgumentError, lambda: CHOSEN.cost(branches=said), "branches", repr(said), "branches={'cond': 1}")
    refused(rdu.ArgumentError, lambda: PROGRAM.cost(branches=said), "branches", repr(said), "leave branches out")


@pytest.mark.parametrize("tiers", ["ddr", ["ddr"], 3, {3: "ddr"}])
def test_tiers_are_said_by_labels(tiers):
    for call in (compiled, PROGRAM.replace):
        refused(rdu.ArgumentError, lambda: call(tiers=tiers), "tiers", repr(tiers), '{"x": "ddr"')  # noqa: B023
    assert compiled(tiers=None).choices.tiers == {} == PROGRAM.replace(tiers=None).choices.tiers
    refused(rdu.ArgumentError, lambda: compiled(tiers="ddr"), "do:      tier='ddr' is where all values rest")


def test_arguments_of_a_program_are_positional():
    calls = rdu.kernel(machine="tiny")(lambda x, w: rdu.gemm(x, w))
    for call in (PROGRAM, PROGRAM.execute, PROGRAM.tally, calls):
        refused(rdu.ArgumentError, lambda: call(B, w=W), "positional", "given:   w=...", "x, w", "in this order")  # noqa: B023


def test_keywords_of_compile_are_choices():
    def scaled(x: jax.Array, *, k: float = 1.0) -> jax.Array:
        return x * k

    partial_ = "functools.partial(f, name=value)"
    refused(rdu.ArgumentError, lambda: rdu.compile(scaled, X, k=2.0), "positional", "k=2.0", "close over it", partial_)
    refused(rdu.ArgumentError, lambda: rdu.compile(product, B, w=W), "positional", "pass it by its place", partial_)
    for name in ("static_argnums", "static_argnames"):
        refused(rdu.ArgumentError, lambda: rdu.compile(scaled, X, 2, **{name: 1}), "static", f"{name}=1", partial_)  # noqa: B023
    for call in (rdu.compile, rdu.validate):
        refused(rdu.ArgumentError, lambda: call(scaled, X, fuson="none"), "choice", "did you mean 'fusion'?")  # noqa: B023
        refused(rdu.ArgumentError, lambda: call(jnp.sin, X, zzz=3), "unknown choice", "zzz=3", "machine, fusion")  # noqa: B023
    assert rdu.compile(partial(scaled, k=2.0), X, machine="tiny")(X).sum() == 40


def test_a_wrong_dtype_says_how_to_convert():
    refused(
        rdu.FormatError, lambda: PROGRAM(B.astype(jnp.float32), W), "float32", "convert it with .astype('bfloat16')"
    )
    assert PROGRAM(B.astype(jnp.float32).astype("bfloat16"), W).shape == (4, 3)
    assert PROGRAM(np.ones((4, 5)).astype("bfloat16"), W).shape == (4, 3)
    keys = jax.random.split(jax.random.key(0), 4)
    of_numbers = rdu.compile(lambda x: x * 2, jnp.ones(4), machine="tiny")
    refused(rdu.FormatError, lambda: of_numbers(keys), "argument x", "key<fry>", "allowed: float32", "draw numbers")
    of_keys = rdu.compile(lambda key: jax.random.uniform(key), keys[0], machine="tiny")
    refused(rdu.FormatError, lambda: of_keys(jnp.ones(())), "argument key", "float32", "jax.random.key(seed)")


@pytest.mark.parametrize("shape", [(-1, 3), (2.5,), (None, 3)])
def test_lengths_are_whole_numbers_of_one_or_more(shape):
    class Given:
        dtype = jnp.dtype(jnp.float32)

        def __init__(self):
            self.shape = shape

    refused(rdu.ShapeError, lambda: rdu.compile(jnp.sin, Given()), "lengths", str(shape), "whole numbers, 1 or more")
