"""No room but `numerics/` computes on emulated values by itself (law L1)."""

from pathlib import Path

import pytest

from tests.storeys.arithmetic_lint import OTHER_ROOMS, STRICT_ROOMS, raw_arithmetic
from tests.storeys.source import python_files, relative

STRICT = python_files(*(f"rdujax/{room}" for room in STRICT_ROOMS))
OTHER = python_files(*(f"rdujax/{room}" for room in OTHER_ROOMS))
HEAD = "import jax\nimport jax.numpy as jnp\nimport numpy as np\nfrom jax import lax\n"
HELP = "compute with rdujax.numerics, or say on the line `# not emulated: <reason>`"


@pytest.mark.parametrize("path", STRICT, ids=relative)
def test_rooms_that_handle_values_compute_through_numerics(path: Path):
    assert list(raw_arithmetic(path.read_text())) == [], HELP


@pytest.mark.parametrize("path", OTHER, ids=relative)
def test_rooms_that_handle_sizes_do_not_compute_on_arrays(path: Path):
    assert list(raw_arithmetic(path.read_text(), strict=False)) == [], HELP


RAW = [
    "x @ y",
    "x @= y",
    "x / y",
    "x /= y",
    "jnp.sum(x)",
    "jnp.prod(x)",
    "jnp.mean(x)",
    "jnp.max(x)",
    "jnp.exp(x)",
    "jnp.log(x)",
    "jnp.sqrt(x)",
    "jnp.tanh(x)",
    "jnp.dot(x, y)",
    "jnp.matmul(x, y)",
    "jnp.einsum('ij,jk', x, y)",
    "jnp.tensordot(x, y)",
    "jnp.linalg.norm(x)",
    "jnp.add(x, y)",
    "jnp.multiply(x, y)",
    "jnp.cumsum(x)",
    "jnp.maximum(x, y)",
    "jnp.fft.fft(x)",
    "jax.numpy.exp(x)",
    "jax.nn.silu(x)",
    "jax.scipy.special.erf(x)",
    "jax.lax.exp(x)",
    "lax.dot_general(x, y, d)",
    "lax.reduce(x, 0.0, f, (0,))",
    "lax.psum(x, 'i')",
    "lax.rsqrt(x)",
    "lax.reduce_precision(x, 8, 7)",
    "lax.convert_element_type(x, t)",
    "lax.bitcast_convert_type(x, t)",
    "jax.random.normal(key)",
    "x.astype(jnp.bfloat16)",
    "x.astype('bfloat16')",
    "x.astype(jnp.float32)",
    "x.astype(dtype=t)",
    "x.astype(jnp.float32 if wide else jnp.int32)",
    "jnp.bfloat16(x)",
    "jnp.asarray(x, jnp.bfloat16)",
    "jnp.asarray(x, dtype='bfloat16')",
    "x.sum()",
    "x.mean(axis=0)",
    "x.dot(y)",
    "x.view(t)",
    "np.exp(x)",
    "np.matmul(x, y)",
    "np.einsum('ij,jk', x, y)",
    "x.at[0].add(y)",
    "g = jnp.exp",
    "jax.tree.map(jnp.exp, x)",
]


@pytest.mark.parametrize("line", RAW)
def test_the_lint_catches(line: str):
    assert list(raw_arithmetic(HEAD + line))


@pytest.mark.parametrize(
    "text",
    [
        "from jax.numpy import exp\nexp(x)",
        "from jax.numpy import exp as e\ny = e(x)",
        "from jax.nn import silu",
        "from jax import nn\nnn.silu(x)",
        "import jax.nn as n\nn.silu(x)",
        "import jax.numpy\njax.numpy.exp(x)",
        "def f(x) -> jax.Array:\n    def g(y):\n        return y @ y\n    return g(x)",
        "x / y  # not emulated:",
        "def f(x) -> tuple[jax.Array, Counts]:\n    return x / 2, n",
        "def f(x) -> dict[str, Stream | Counts]:\n    return x / 2",
        "jnp.sum(x, dtype=jnp.float32)",
        "def priceless(x):\n    return x / 2",
        "jnp.exp(jnp.sum(x, dtype=jnp.int32))",
    ],
)
def test_the_lint_catches_disguises(text: str):
    assert list(raw_arithmetic(HEAD + text))


@pytest.mark.parametrize(
    "text",
    [
        "jnp.reshape(x, (2, 3))",
        "jnp.zeros((2,), jnp.float32)",
        "x.astype(jnp.int32)",
        "x.reshape(2, -1).transpose(1, 0)",
        "lax.scan(f, x, y)",
        "x.at[0].set(y)",
        "x.astype(np.float64 if is_float else np.int64)",
        "n // 2 + m * 3",
        "jnp.asarray(x, jnp.int32)",
        "jnp.prod(extent, dtype=jnp.int32)",
        "max(x, y)",
        "x / y  # not emulated: seconds per byte",
        "def price(x) -> Cost:\n    return x / 2 + jnp.sum(x)",
        "def bytes_per_cycle(x):\n    return x / 2",
        "def price(config, counts):\n    return x / 2",
        "def tally(x) -> dict[str, Counts]:\n    return jnp.prod(x)",
    ],
)
def test_the_lint_allows(text: str):
    assert list(raw_arithmetic(HEAD + text)) == []


def test_a_whole_file_may_be_a_reference_in_numpy():
    reference = HEAD + "# not emulated: the reference in float64\nx = np.exp(y) / z\n"
    assert list(raw_arithmetic(reference)) == []
    assert list(raw_arithmetic(reference + "jnp.exp(y)")) == ["line 7: jax.numpy.exp"]


def test_rooms_of_sizes_may_divide_but_not_call_jax():
    assert list(raw_arithmetic(HEAD + "x / np.sum(y)", strict=False)) == []
    assert list(raw_arithmetic(HEAD + "jnp.sum(x)", strict=False)) == ["line 5: jax.numpy.sum"]
