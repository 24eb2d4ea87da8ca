"""P2P: collectives against sockets that add in NumPy hop by hop, and their time against messages one by one."""

import time
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np

from benchmarks._timing import compiled, race
from benchmarks.units.row import Row, row
from rdujax.ledger.counts import total
from rdujax.machines import sn40l
from rdujax.numerics.formats import FP32
from rdujax.units.p2p import collective_times, collectives
from rdujax.units.p2p.collective_traffic import ROUTES, Collective, predict

SOCKETS = 8
CLOCK_HZ = int(sn40l().clock_hz.value)


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this unit; smaller tensors and fewer sizes where `quick`."""
    size = 2**12 if quick else 2**18
    yield _sums("chain", _chain, size)
    yield _sums("ring", _ring, size)
    yield _sums("tree", _tree, size)
    yield _times(20 if quick else 200)


def _sums(order: collectives.Order, by_hand: Callable[[np.ndarray], np.ndarray], size: int) -> Row:
    """Bits and counts of an all-reduce of FP32 values of ordinary size, which NumPy adds as the law does."""
    x = np.random.default_rng(4).normal(size=(SOCKETS, size)).astype(np.float32)
    reduce = compiled(lambda x: collectives.all_reduce(x, FP32, order=order), jnp.asarray(x))
    got, counts = reduce.run(jnp.asarray(x))
    wrong = int((np.asarray(got).view(np.uint32) != by_hand(x).view(np.uint32)).sum())
    wrong += total(counts) != predict(Collective("all_reduce", SOCKETS, size, 4, collectives.ROUTE_OF[order]))
    seconds = race({"reduce": reduce}, 5)["reduce"]
    checked = f"all-reduce over {SOCKETS} sockets, {order}, against NumPy"
    return row("p2p", checked, got.size, "elements", wrong, got.size / seconds)


def _chain(x: np.ndarray) -> np.ndarray:
    total_of = x[0].copy()
    for each in x[1:]:
        total_of += each
    return np.broadcast_to(total_of, x.shape)


def _ring(x: np.ndarray) -> np.ndarray:
    """Every chunk travels once round the ring and ends at its owner."""
    chunks = np.split(x, SOCKETS, axis=1)
    sums = []
    for owner, chunk in enumerate(chunks):
        travelling = chunk[(owner + 1) % SOCKETS].copy()
        for hop in range(2, SOCKETS + 1):
            travelling += chunk[(owner + hop) % SOCKETS]
        sums.append(travelling)
    return np.broadcast_to(np.concatenate(sums), x.shape)


def _tree(x: np.ndarray) -> np.ndarray:
    while len(x) > 1:
        x = x[: len(x) // 2] + x[len(x) // 2 :]
    return np.broadcast_to(x[0], (SOCKETS, x.shape[1]))


def _times(sizes: int) -> Row:
    """Every kind and route, in several pieces: the closed form against the last arrival of the messages."""
    config = sn40l().p2p
    rng = np.random.default_rng(5)
    cases = [
        (
            Collective(kind, SOCKETS, SOCKETS * int(rng.integers(1, 10**6)) * 4, 4, route, 2),
            1 if route == "halving" else 4,
        )
        for kind, routes in ROUTES.items()
        for route in routes
        for _ in range(sizes)
    ]
    start = time.perf_counter()
    closed = [collective_times.cycles(config, CLOCK_HZ, work, pieces) for work, pieces in cases]
    seconds = time.perf_counter() - start
    wrong = sum(
        cycles != max(collective_times.finish_cycles(config, CLOCK_HZ, work, pieces))
        for (work, pieces), cycles in zip(cases, closed, strict=True)
    )
    return row(
        "p2p", "times in closed form against each message", len(cases), "collectives", wrong, len(cases) / seconds
    )
