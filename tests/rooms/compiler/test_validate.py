"""`validate` finds no difference where there is no choice, and names the choice that made each difference (law L2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from tests.oracles import softfloat as sf
from tests.rooms.compiler.samples import Sample, draw, mlp, monarch, raw, samples, small

FP32, SPLIT = "stage_buffer_format=fp32", "k_splits=3"


def causes(found: rdu.Validation) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """(made here, inherited from) of every node that differs."""
    return {d.label: (d.made_by, d.inherited_from) for d in found.nodes if d.mismatches}


@pytest.mark.parametrize(
    "sample",
    [
        pytest.param(s, marks=pytest.mark.full if s.name in ("monarch_fp32", "heads") else (), id=s.name)
        for s in samples()
    ],
)
def test_fusion_alone_changes_no_bit(sample: Sample):
    found = rdu.validate(sample.fn, *sample.args, machine=small())
    assert found.bit_equal and found.mismatches == 0 and found.max_ulp == 0
    assert len(found.nodes) >= 3 and all(d.mismatches == 0 and d.reason == "" for d in found.nodes)
    assert "every output has the bits of the unfused program" in str(found)
    program = rdu.compile(sample.fn, *sample.args, machine=small())
    assert rdu.validate(program, *sample.args) == found


def wide_args() -> tuple[jax.Array, ...]:
    """Monarch's operands, such that large products cancel: what FP32 rounds away then shows in BF16."""
    rng = np.random.default_rng(5)
    large, small_, right, middle_ = (draw(rng, *s) for s in ((48, 20), (48, 20), (20, 16), (20, 16)))
    w0 = jnp.concatenate([large * 1024, small_, large * -1024], axis=1)
    x = jnp.concatenate([right, middle_, right])
    scale = draw(rng, 48, 16)
    last = draw(rng, 40, 16) * jnp.exp2(jnp.arange(16)).astype(jnp.bfloat16)[None, :]
    w1 = jnp.concatenate([last, last * jnp.bfloat16(-1 - 2.0**-7)], axis=1)
    return jnp.concatenate([x, x], axis=1), w0, jnp.concatenate([scale, scale], axis=1), w1


def test_fp32_stage_buffers_are_named_where_they_act():
    found = rdu.validate(monarch, *wide_args(), stage_buffer_format="fp32")
    assert causes(found) == {
        "gemm": ((FP32,), ()),
        "mul": ((), ("gemm",)),  # only a contraction reads it, which takes BF16: its buffer is not wide
        "transpose": ((), ("mul",)),
        "gemm#2": ((), ("transpose",)),
    }
    assert not found.bit_equal and found.max_ulp >= 1
    assert "stage buffers fp32" in str(found) and FP32 in str(found)


def test_an_output_that_a_reader_finds_wide_is_told_from_what_memory_holds():
    x, w0 = wide_args()[:2]

    def both(w, x):
        h = w @ x
        return h, jnp.tanh(h) * h

    found = rdu.validate(both, w0, x, stage_buffer_format="fp32")
    by_label = {d.label: d for d in found.nodes}
    assert by_label["gemm"].mismatches > 0 and by_label["gemm"].made_by == (FP32,)
    assert by_label["mul"].mismatches > 0 and "gemm" in by_label["mul"].reason
    in_memory, _ = found.outputs
    assert (in_memory.label, in_memory.mismatches) == ("gemm", 0)
    assert found.mismatches == by_label["mul"].mismatches


def test_choices_beside_a_program_compile_it_again():
    x, w0 = wide_args()[:2]
    program = rdu.compile(lambda w, x: w @ x, w0, x)
    assert causes(rdu.validate(program, w0, x, k_splits=3)) == {"gemm": ((SPLIT,), ())}
    with pytest.raises(rdu.UnknownNameError, match="k_split'(.|\n)*did you mean 'k_splits'"):
        rdu.validate(program, w0, x, k_split=3)


def test_values_are_needed():
    x, w0 = wide_args()[:2]
    with pytest.raises(rdu.ConcretenessError, match="outside of jit"):
        jax.jit(lambda w, x: rdu.validate(lambda w, x: w @ x, w, x).mismatches)(w0, x)


def test_k_in_segments_is_named_where_it_acts():
    found = rdu.validate(monarch, *wide_args(), k_splits={"gemm": 3})
    differ = causes(found)
    assert differ["gemm"] == ((SPLIT,), ())
    assert differ["mul"] == ((), ("gemm",)) and differ["gemm#2"][0] == ()
    second = rdu.validate(monarch, *wide_args(), k_splits={"gemm#2": 3})
    assert causes(second) == {"gemm#2": ((SPLIT,), ())}
    assert "k_splits gemm#2=3" in str(second)


def test_both_choices_at_once_are_both_named():
    found = causes(rdu.validate(monarch, *wide_args(), stage_buffer_format="fp32", k_splits=3))
    assert found["gemm"] == ((SPLIT, FP32), ())
    assert found["mul"] == ((), ("gemm",))
    assert found["gemm#2"] == ((SPLIT,), ("transpose",))


def test_mismatches_are_those_that_an_independent_computation_counts():
    """Softfloat: the product with K whole and with K in segments of 20, 20 and 20."""
    x, w0 = wide_args()[:2]
    a, b = (raw(m).astype(np.uint32) << 16 for m in (w0, x))
    whole = sf.to_bf16(sf.contract(a, b)).view(np.int32).astype(np.int64)
    split = sf.to_bf16(sf.contract(a, b, segments=(20, 20, 20))).view(np.int32).astype(np.int64)
    place = [np.where(m < 0, -(m & 0x7FFFFFFF), m) for m in (whole, split)]
    exact = np.asarray(w0, np.float64) @ np.asarray(x, np.float64)
    found = rdu.validate(lambda w, x: w @ x, w0, x, k_splits=3)
    (only,) = found.outputs
    assert only.mismatches == found.mismatches == int((whole != split).sum()) > 0
    assert only.max_ulp == int(np.abs(place[0] - place[1]).max() >> 16) >= 1
    for error, values in ((only.error, split), (only.baseline_error, whole)):
        assert error == np.abs(values.astype(np.int32).view(np.float32).astype(np.float64) - exact).max()


def test_errors_are_against_float64_at_every_node():
    sample = next(s for s in samples() if s.fn is mlp)
    found = rdu.validate(mlp, *sample.args, machine=small())
    x, gate = (np.asarray(a, np.float64) for a in sample.args[:2])
    emulated = np.asarray(rdu.compile(lambda x, g: x @ g, *sample.args[:2])(*sample.args[:2]), np.float64)
    first = found.nodes[0]
    assert first.error == first.baseline_error == np.abs(emulated - x @ gate).max() > 0


def test_integers_never_differ_by_segments_of_k():
    sample = next(s for s in samples() if s.name == "words")
    found = rdu.validate(sample.fn, *sample.args, machine=small(), k_splits=4)
    assert found.bit_equal and all(d.fmt in ("int32", "bool") for d in found.nodes)


def test_nan_against_a_number_is_the_largest_difference():
    """inf + (-3e38) stays inf in one chain; in two segments the sum is inf + (-inf)."""
    x = jnp.asarray([[3e38, 3e38, -3e38, -3e38]], jnp.float32)
    found = rdu.validate(lambda x, w: x @ w, x, jnp.ones((4, 1), jnp.float32), machine="tiny", k_splits=2)
    assert found.mismatches == 1 and found.max_ulp >= 1 << 31
    assert causes(found) == {"gemm": (("k_splits=2",), ())}


def test_a_kernel_by_hand_is_validated_too():
    def split(x: rdu.Stream, w: rdu.Stream) -> rdu.Stream:
        return rdu.gemm(x, w, k_splits=3)

    x, w0 = wide_args()[:2]
    kernel = rdu.kernel(machine="sn40l")(split)
    for each in (kernel, kernel.program(w0, x)):
        assert causes(rdu.validate(each, w0, x)) == {"gemm": ((SPLIT,), ())}


def test_a_view_of_a_scalar_is_held_against_float64():
    """NumPy gives a number for an array without axes, of which JAX would make a view: its errors would be FP32's."""
    x = jnp.asarray([1.0, 2.0**-12, 0.0, 0.0], jnp.float32)

    def fn(x):
        return jnp.full((3,), x.sum() * x.sum() + 1.0) - x[:3] * 0.0

    exact = np.float64((1 + 2.0**-12) ** 2 + 1)
    program = rdu.compile(fn, x, machine="tiny")
    found = {d.label: d for d in rdu.validate(program, x).nodes}
    error = abs(np.float64(np.asarray(program(x))[0]) - exact)
    assert error > 0 and {found[name].error for name in ("add", "broadcast", "sub")} == {error}


def test_every_row_names_the_line_of_its_node(rng):
    found = rdu.validate(monarch, *(draw(rng, *shape) for shape in ((8, 6), (4, 8), (4, 6), (5, 6))), machine="tiny")
    line = monarch.__code__.co_firstlineno + 2
    rows = str(found).splitlines()[2 : 2 + len(found.nodes)]
    assert len(rows) == len(found.nodes) and all(f"  samples.py:{line}  " in row for row in rows)
