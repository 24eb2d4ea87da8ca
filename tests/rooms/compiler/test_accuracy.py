"""Programs are as close to float64 as their formats allow, at every output."""

import jax
import numpy as np
import pytest

import rdujax as rdu
from rdujax.compiler.trips import of_float64
from tests.rooms.compiler.bounds import error_bounds
from tests.rooms.compiler.samples import Sample, random_sample, samples

FIXED = samples()[:4]
MORE = [pytest.param(random_sample(seed), marks=pytest.mark.full, id=f"random{seed}") for seed in range(2, 6)]
FLOATS = [*FIXED, *(random_sample(seed) for seed in range(2))]


@pytest.mark.parametrize("sample", [*(pytest.param(s, id=s.name.partition(":")[0]) for s in FLOATS), *MORE])
def test_outputs_stay_within_the_bound_of_their_formats(sample: Sample):
    program = rdu.compile(sample.fn, *sample.args, machine="sn40l")
    exact = {value: runs[()] for value, runs in of_float64(program.graph, list(sample.args)).items()}
    bounds = error_bounds(program.graph, exact)
    with jax.enable_x64(True):
        doubles = sample.fn(*(np.asarray(x, np.float64) for x in sample.args))
    for value, got, double in zip(
        program.graph.outputs, jax.tree.leaves(program(*sample.args)), jax.tree.leaves(doubles), strict=True
    ):
        # The reference itself, against the user's function in plain JAX at double precision.
        np.testing.assert_allclose(exact[value], np.asarray(double), rtol=1e-12, atol=1e-12)
        error = np.abs(np.asarray(got, np.float64) - exact[value])
        assert (error <= bounds[value]).all(), float((error - bounds[value]).max())
        assert error.max() > 0, "a program that rounds must differ somewhere"
        if sample in FIXED:  # a bound over many steps in a row grows far beyond what random errors do
            assert np.median(bounds[value]) < np.abs(exact[value]).max(), "the bound says nothing"
