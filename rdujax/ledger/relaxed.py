"""The makespan as a smooth function of the services: the recurrence of `recurrence.py` in JAX floats.

The state is the finish of every node (`waits.py`) in the last rounds, as many as the law looks back; one round is a
max-plus linear map of it. Short streams are scanned, round by round. Long ones take a power of that map, by squaring:
the matrix product whose sum is max and whose product is +. Derivatives go through both: the gradient by a service is
the number of its turns on the critical path, shared evenly where paths tie, and services times gradients sum to the
makespan.
"""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, ShapeError, describe
from rdujax.ledger.numbers import common
from rdujax.ledger.pipeline import Pipeline
from rdujax.ledger.waits import Form, expand

SCANNED_ROUNDS = 512
MOST_ROUNDS = 1_000_000
LARGEST_MATRIX = 160
LARGEST_STATE = 2**16


def relaxed_makespan_cycles(pipeline: Pipeline, iterations: int) -> jax.Array:
    """The makespan as a float scalar, differentiable in all services; under jit, grad and vmap alike.

    Exact for whole services, value and gradient, while times stay below 2**24 (2**53 on float64 services); beyond,
    rounded some tens of times, not once per round. Paths that differ by less than the rounding then tie: some 1e-7 of
    all turns are shared out among stages that are not on the critical path, and hide the few turns of a fill
    (`attribution` on exact services has them). A second derivative is zero almost everywhere. Raises ShapeError for
    services that are no scalars (vmap batches), ArgumentError for a deadlock and for buffers too deep for such a
    stream.
    """
    form = expand(pipeline)
    first = [
        pipeline.stages[stage].service_cycles if turn else pipeline.stages[stage].first_cycles
        for stage, turn in form.turns
    ]
    later = [pipeline.stages[stage].service_cycles for stage, _ in form.turns]
    services = common(*first, *later)
    size = sum(_reaches(form))
    if size > (LARGEST_STATE if iterations <= MOST_ROUNDS else LARGEST_MATRIX):
        raise ArgumentError(
            describe(
                "buffers too deep for a stream of this length to be differentiated",
                given=f"{iterations:,} iterations, {size:,} finish times in the state",
                allowed=f"{MOST_ROUNDS:,} iterations with a state of at most {LARGEST_STATE:,}, "
                f"or any number with one of at most {LARGEST_MATRIX}",
                do="use closed_form_cycles, or exact services (attribution gives the gradient)",
            )
        )
    for at, cycles in enumerate(services):
        if cycles.ndim:
            raise ShapeError(
                describe(
                    "the service of a stage is one number",
                    given=f"an array of shape {cycles.shape}",
                    where=f"stage {form.stages[form.turns[at % len(later)][0]]!r}",
                    do="jax.vmap evaluates many pipelines at once",
                )
            )
    rows = jnp.stack(services).reshape(2, -1)
    return _makespan(form, iterations, rows[0], rows[1])


@partial(jax.jit, static_argnames=("form", "iterations"))
def _makespan(form: Form, iterations: int, first: jax.Array, later: jax.Array) -> jax.Array:
    rounds, late = iterations + form.last_lag, form.last_lag
    state = jnp.zeros(len(_kept(form)), later.dtype)
    if rounds <= SCANNED_ROUNDS or len(state) > LARGEST_MATRIX:
        state, base = _scanned(form, iterations, range(rounds), state, first, later)
        return base + jnp.max(state)
    state, base = _scanned(form, iterations, range(late + 1), state, first, later)
    state = _power(form, iterations - late - 1, state, later)
    if late:
        state, more = _scanned(form, iterations, range(iterations, rounds), state, first, later)
        base = base + more
    return base + jnp.max(state)


def _reaches(form: Form) -> list[int]:
    """How many rounds ago anything waits for a node, at the most."""
    reach = [1] * len(form.turns)
    for waits in form.waits:
        for wait in waits:
            reach[wait.on] = max(reach[wait.on], wait.delay)
    return reach


@lru_cache(maxsize=256)
def _kept(form: Form) -> list[tuple[int, int]]:
    """What the state holds: (node, rounds ago), ago being 1, 2 ... as far as anything waits for the node."""
    return [(node, ago) for node, most in enumerate(_reaches(form)) for ago in range(1, most + 1)]


@lru_cache(maxsize=256)
def _ranks(form: Form) -> list[tuple[np.ndarray, np.ndarray]]:
    """How a round is evaluated: (nodes [n], what they wait for [n, most]) for nodes that do not wait for one another.

    What they wait for are places in [-inf, *state, *this round so far]; 0 fills up.
    """
    place = {kept: at for at, kept in enumerate(_kept(form), start=1)}
    rank: dict[int, int] = {}
    for node in form.order:
        rank[node] = max((rank[wait.on] + 1 for wait in form.waits[node] if wait.delay == 0), default=0)
    plan = []
    for level in range(max(rank.values()) + 1):
        nodes = [node for node in form.order if rank[node] == level]
        waits = [[place[w.on, w.delay] for w in form.waits[node]] for node in nodes]
        most = max(map(len, waits))
        plan.append((np.array(nodes), np.array([row + [0] * (most - len(row)) for row in waits])))
        place |= {(node, 0): len(place) + 1 + at for at, node in enumerate(nodes)}
    return plan


def _round(form: Form, state: jax.Array, service: jax.Array, live: jax.Array | None = None) -> jax.Array:
    """The state one round on: state [kept], service [nodes] -> [kept]. Nodes that do not live wait for their stage."""
    known = jnp.concatenate([jnp.full(1, -jnp.inf, state.dtype), state])
    for nodes, waits in _ranks(form):
        row = jnp.max(known[waits], axis=1) + service[nodes]
        if live is not None:
            row = jnp.where(live[nodes], row, known[waits[:, 0]])
        known = jnp.concatenate([known, row])
    place = {kept: at for at, kept in enumerate(_kept(form), start=1)}
    nodes = [node for nodes, _ in _ranks(form) for node in nodes]
    place |= {(node, 0): 1 + len(state) + at for at, node in enumerate(nodes)}
    return known[np.array([place[node, ago - 1] for node, ago in _kept(form)])]


def _scanned(
    form: Form, iterations: int, rounds: range, state: jax.Array, first: jax.Array, later: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The state after some rounds, one after another, and what was taken off it."""
    iteration = np.array(rounds)[:, None] - np.array(form.lags)
    live, begins = (iteration >= 0) & (iteration < iterations), iteration == 0

    def step(state: jax.Array, tables: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return _lowered(_round(form, state, jnp.where(tables[1], first, later), tables[0] if form.last_lag else None))

    if len(rounds) == 1:
        return step(state, (jnp.asarray(live[0]), jnp.asarray(begins[0])))
    state, lowered = jax.lax.scan(step, state, (jnp.asarray(live), jnp.asarray(begins)))
    return state, jnp.sum(lowered)


def _lowered(state: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The state near zero, where sums are exact, and what was taken off; its derivative would cancel."""
    base = jax.lax.stop_gradient(jnp.max(state))
    return state - base, base


def _power(form: Form, rounds: int, state: jax.Array, service: jax.Array) -> jax.Array:
    """The state many rounds on, by squaring the map of one round."""
    unit = jnp.where(jnp.eye(len(state), dtype=bool), 0, -jnp.inf).astype(state.dtype)
    matrix = jax.vmap(lambda column: _round(form, column, service), out_axes=1)(unit)
    digits = np.array([bool(rounds >> digit & 1) for digit in range(rounds.bit_length())])

    @jax.checkpoint
    def step(carry: tuple[jax.Array, jax.Array], digit: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        state, matrix = carry
        state = jnp.where(digit, jnp.max(matrix + state[None], axis=1), state)
        return (state, jax.vmap(lambda row: jnp.max(row[:, None] + matrix, axis=0))(matrix)), None

    (state, _), _ = jax.lax.scan(step, (state, matrix), digits)
    return state
