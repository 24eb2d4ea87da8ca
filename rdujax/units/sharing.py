"""How streams share a channel: every tier, network and link divides its bandwidth in the same way.

    rate of a stream = min(its own limit, level)        level: so that the rates of all active streams fill the
    bandwidth

Where the limits together are less than the bandwidth, each stream runs at its own. This is max-min fairness: no
stream gets more than its limit, and what one leaves over the others divide evenly. Rates change when a stream begins
or ends. Times are exact Fractions of a cycle; not differentiable (a pipeline's turns use the static share, which is).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import jax.numpy as jnp

from rdujax.base.errors import ArgumentError, describe
from rdujax.ledger.numbers import Exact, Number, Priced, common, exact, is_exact, whole


@dataclass(frozen=True)
class Flow:
    """One stream through a shared channel.

    amount_bytes: what it moves. start_cycles: when it begins. limit_bytes_per_cycle: what it can take by itself (the
    ports of its AGCUs), None for no limit. Raises ArgumentError for a negative amount or start and a limit of zero or
    less.
    """

    name: str
    amount_bytes: Number
    start_cycles: Number = 0
    limit_bytes_per_cycle: Number | None = None

    def __post_init__(self) -> None:
        where = f"flow {self.name!r}"
        whole(self.amount_bytes, what="amount_bytes", where=where)
        limit = self.limit_bytes_per_cycle
        if exact(self.start_cycles, where=where) < 0 or (limit is not None and exact(limit, where=where) <= 0):
            raise ArgumentError(
                describe(
                    "a flow begins at cycle 0 or later and takes more than nothing",
                    given=f"start_cycles={self.start_cycles}, limit_bytes_per_cycle={limit}",
                    where=where,
                )
            )


def unless_nothing(amount: Number, cycles: Number) -> Priced:
    """`cycles`, and none where the amount that takes them is zero: what does not move does not wait for a latency.

    Exact on exact numbers; on JAX values the derivative is that of `cycles` above zero, and zero at it.

    >>> [unless_nothing(amount, 7 + amount) for amount in (0, 1)]
    [0, 8]
    """
    moved, time = common(amount, cycles)
    if is_exact(moved):
        return time if moved else 0
    return jnp.where(moved > 0, time, jnp.zeros_like(time))


def finish_cycles(flows: Sequence[Flow], bytes_per_cycle: Number, latency_cycles: Number = 0) -> dict[str, Exact]:
    """When the last byte of each flow has arrived, by name; exact.

    bytes_per_cycle: bandwidth of the channel. latency_cycles: from the channel's entry to its exit, once per flow. A
    flow of no bytes has arrived when it begins. Raises ArgumentError for two flows of one name and for no bandwidth.

    >>> finish_cycles([Flow("a", 30), Flow("b", 10)], bytes_per_cycle=2)
    {'a': 20, 'b': 10}
    """
    width, latency = exact(bytes_per_cycle, where="bytes_per_cycle"), exact(latency_cycles, where="latency_cycles")
    names = [flow.name for flow in flows]
    if len(set(names)) < len(names) or width <= 0 or latency < 0:
        raise ArgumentError(
            describe(
                "a channel has flows of different names, some bandwidth, and no negative latency",
                given=f"flows {names}, {width} bytes/cycle, {latency} cycles",
            )
        )
    left = {flow.name: Fraction(exact(flow.amount_bytes)) for flow in flows}
    done = {flow.name: exact(flow.start_cycles) for flow in flows if not left[flow.name]}
    now: Exact = 0
    while len(done) < len(flows):
        waiting = [exact(flow.start_cycles) for flow in flows if exact(flow.start_cycles) > now]
        active = [flow for flow in flows if flow.name not in done and exact(flow.start_cycles) <= now]
        rates = fair_rates({flow.name: flow.limit_bytes_per_cycle for flow in active}, width)
        ends = [left[name] / rate for name, rate in rates.items()]  # not emulated: cycles
        step = min([*ends, *(begin - now for begin in waiting)])
        now = exact(now + step)
        for name, rate in rates.items():
            left[name] -= rate * step
            if not left[name]:
                done[name] = exact(now + latency)
    return {name: done[name] for name in names}


def fair_rates(limits: Mapping[str, Number | None], bytes_per_cycle: Number) -> dict[str, Exact]:
    """Bytes per cycle of each active flow under max-min fairness, from their limits (None for none); exact."""
    order = sorted(limits, key=lambda name: (limits[name] is None, exact(limits[name] or 0), name))
    rest, rates = Fraction(exact(bytes_per_cycle)), {}
    for place, name in enumerate(order):
        even, limit = rest / (len(order) - place), limits[name]  # not emulated: bandwidth
        rates[name] = exact(even if limit is None else min(Fraction(exact(limit)), even))
        rest -= rates[name]
    return rates
