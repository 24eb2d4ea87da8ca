"""One pinned hash under every set of compiler flags, instruction set and number of devices.

The pinned value is the hash of the composite program run on the integer softfloat; the machine must reproduce it in
every process below. The special functions of FP32, whose values other tests judge, must agree with this process.
Not promised: fast math with the further licences (xla_cpu_fast_math_honor_division=false and its like) that let the
compiler replace a division by an approximation and ignore NaN: quotients and square roots do change there.
"""

import json
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.oracles import composite

PINNED = "3a0f86430b5cd3a94758173f16a81d0c2aadf52fa1a31f86af9e28ed918c6071"
ROOT = Path(__file__).parents[2]

FAST_MATH = "--xla_cpu_enable_fast_math=true"
EIGHT = "--xla_force_host_platform_device_count=8"
# name: (XLA flags, how to run, further environment)
QUICK = {
    "fast math": (FAST_MATH, "jit", {}),
    "SSE4.2, unoptimised": ("--xla_cpu_max_isa=SSE4_2 --xla_backend_optimization_level=0", "jit", {}),
}
FULL = {
    "eight devices, rows": (EIGHT, "rows", {}),
    "optimisation level 0": ("--xla_backend_optimization_level=0", "jit", {}),
    "optimisation level 1": ("--xla_backend_optimization_level=1", "jit", {}),
    "no excess precision": ("--xla_allow_excess_precision=false", "jit", {}),
    "vectors of 128": ("--xla_cpu_prefer_vector_width=128", "jit", {}),
    "vectors of 256": ("--xla_cpu_prefer_vector_width=256", "jit", {}),
    "vectors of 512": ("--xla_cpu_prefer_vector_width=512", "jit", {}),
    "no expensive passes": ("--xla_llvm_disable_expensive_passes=true", "jit", {}),
    "no ftz attribute": ("--xla_cpu_ftz=false", "jit", {}),
    "no algebraic simplifier": ("--xla_disable_hlo_passes=algsimp", "jit", {}),
    "no fusion": ("--xla_disable_hlo_passes=fusion", "jit", {}),
    "one thread": ("--xla_cpu_multi_thread_eigen=false", "jit", {}),
    "SSE4.2": ("--xla_cpu_max_isa=SSE4_2", "jit", {}),
    "AVX": ("--xla_cpu_max_isa=AVX", "jit", {}),
    "AVX2": ("--xla_cpu_max_isa=AVX2", "jit", {}),
    "AVX-512": ("--xla_cpu_max_isa=AVX512", "jit", {}),
    "AVX2, fast math, constants": (f"--xla_cpu_max_isa=AVX2 {FAST_MATH}", "constants", {}),
    "eight devices, features": (EIGHT, "features", {}),
    "jit disabled": ("", "eager", {"JAX_DISABLE_JIT": "1"}),
}
RUNS = [pytest.param(*run, id=name) for name, run in QUICK.items()]
RUNS += [pytest.param(*run, id=name, marks=pytest.mark.full) for name, run in FULL.items()]


@cache
def _here(road: str) -> dict[str, str]:
    return composite.machine_digests(road)


def _run(flags: str, road: str, extra: dict[str, str]) -> dict[str, str]:
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **extra}
    command = [sys.executable, "-m", "tests.oracles.composite", "--road", road]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_pin_is_the_law():
    """The pinned hash is that of the softfloat, not of some run of the machine."""
    assert composite.oracle_digest() == PINNED


@pytest.mark.parametrize("road", ["jit", "eager", pytest.param("constants", marks=pytest.mark.full)])
def test_here(road: str):
    """In this process, with its default flags."""
    assert _here(road) == {"law": PINNED, "special": _here("jit")["special"]}


@pytest.mark.parametrize(("flags", "road", "extra"), RUNS)
def test_elsewhere(flags: str, road: str, extra: dict[str, str]):
    """In a process of its own."""
    if "max_isa" in flags and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("caps on the instruction set are those of x86")
    assert _run(flags, road, extra) == {"law": PINNED, "special": _here("jit")["special"]}


def test_the_hash_sees_one_bit():
    """A single flipped bit anywhere, a sign of zero included, is another hash."""
    outputs = composite.program(composite.oracle_operations(), composite.inputs())
    for index, output in enumerate(outputs):
        changed = output.copy().ravel()
        changed[changed.size // 2] ^= 1
        assert composite.digest([*outputs[:index], changed.reshape(output.shape), *outputs[index + 1 :]]) != PINNED
