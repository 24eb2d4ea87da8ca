"""Link loads: how many packets each link of a mesh carries, for thousands of flows at once.

    load[link] = sum of the packets of all flows whose tree has the link

A dimension-order tree is known without walking it: along the first dimension it spans from its farthest target on one
side of the source to the farthest on the other, and along the second dimension likewise in each line that has targets.
Spans are summed as differences, so that the work grows with flows and links and not with their product.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from rdujax.base.errors import ArgumentError, ShapeError, describe, unknown
from rdujax.ledger.numbers import Number, Priced, ceil_div
from rdujax.units.rdn.mesh import UNIT_PORTS, Endpoint, Link, Mesh, Port, link_of
from rdujax.units.rdn.routing import ALONG, Along, Route

# not emulated: packets per link are counts of the host, no values of the machine


def link_loads(
    mesh: Mesh,
    sources: ArrayLike,
    targets: ArrayLike,
    packets: ArrayLike,
    flow: ArrayLike | None = None,
    along: Along = "row",
) -> np.ndarray:
    """Packets per link of flows routed in dimension order: int64 [rows, columns, slots] (see `Link.slot`).

    sources: int [n_flows, 3], (row, column, port) each, as `Endpoint`. targets: int [n_targets, 3].
    packets: int [n_flows]. flow: int [n_targets], the flow that each target belongs to (default: one target per flow);
    a flow with several is a multicast and loads a shared link once. along: the dimension travelled first.
    Raises ShapeError for arrays that do not fit together, ArgumentError for units that the mesh does not have.

    >>> loads = link_loads(Mesh(1, 3), [[0, 0, Port.PMU]], [[0, 2, Port.PCU]], [5])
    >>> loads[0, :, Port.EAST].tolist(), int(loads.sum())
    ([5, 5, 0], 20)
    """
    if along not in ALONG:
        raise unknown("dimension to travel first", along, ALONG)
    start, end, carried = (np.asarray(x, np.int64) for x in (sources, targets, packets))
    owner = np.arange(len(carried)) if flow is None else np.asarray(flow, np.int64)
    _check(mesh, start, end, carried, owner)
    if along == "column":
        turned = Mesh(mesh.columns, mesh.rows)
        loads = _row_first(turned, start[:, [1, 0, 2]], end[:, [1, 0, 2]], carried, owner)
        swap = [Port.WEST, Port.SOUTH, Port.EAST, Port.NORTH]
        return np.concatenate([loads[..., swap], loads[..., len(swap) :]], -1).swapaxes(0, 1)
    return _row_first(mesh, start, end, carried, owner)


def _row_first(
    mesh: Mesh, sources: np.ndarray, targets: np.ndarray, packets: np.ndarray, flow: np.ndarray
) -> np.ndarray:
    loads = np.zeros(mesh.shape, np.int64)
    np.add.at(loads, (sources[:, 0], sources[:, 1], sources[:, 2] + len(UNIT_PORTS)), packets)
    np.add.at(loads, (targets[:, 0], targets[:, 1], targets[:, 2]), packets[flow])
    start = sources[flow]
    low, high = _extent(flow, len(packets), sources[:, 1], targets[:, 1])
    rows = sources[:, 0]
    loads[..., Port.EAST] = _spans(mesh.rows, mesh.columns, rows, sources[:, 1], high, packets)
    loads[..., Port.WEST][:, 1:] = _spans(mesh.rows, mesh.columns, rows, low, sources[:, 1], packets)[:, :-1]
    # One branch along each column in which a flow has targets.
    _, first, branch = np.unique(flow * mesh.columns + targets[:, 1], return_index=True, return_inverse=True)
    column, turn, carried = targets[first, 1], start[first, 0], packets[flow[first]]
    low, high = _extent(branch, len(first), turn, targets[:, 0])
    loads[..., Port.SOUTH] = _spans(mesh.columns, mesh.rows, column, turn, high, carried).T
    loads[..., Port.NORTH][1:] = _spans(mesh.columns, mesh.rows, column, low, turn, carried).T[:-1]
    return loads


def _extent(group: np.ndarray, groups: int, origin: np.ndarray, reached: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest place of each group, its origin included."""
    low, high = origin.copy(), origin.copy()
    np.minimum.at(low, group, reached)
    np.maximum.at(high, group, reached)
    return low, high


def _spans(
    lines: int, length: int, line: np.ndarray, low: np.ndarray, high: np.ndarray, packets: np.ndarray
) -> np.ndarray:
    """[lines, length]: packets over the step from each place to the next, of spans low..high of a line."""
    steps = np.zeros((lines, length + 1), np.int64)
    np.add.at(steps, (line, low), packets)
    np.add.at(steps, (line, high), -packets)
    return np.cumsum(steps, 1)[:, :length]


def _check(mesh: Mesh, sources: np.ndarray, targets: np.ndarray, packets: np.ndarray, flow: np.ndarray) -> None:
    flows, ends = len(packets), len(targets)
    if sources.shape != (flows, 3) or targets.shape != (ends, 3) or flow.shape != (ends,):
        given = f"sources {sources.shape}, targets {targets.shape}, packets {packets.shape}, flow {flow.shape}"
        allowed = "sources [n_flows, 3], targets [n_targets, 3], packets [n_flows], flow [n_targets]"
        raise ShapeError(describe("flows that do not fit together", given=given, allowed=allowed))
    named = np.bincount(flow, minlength=flows) if ends and flow.min() >= 0 else np.zeros(flows)
    if flows and (len(named) > flows or not named.all()):
        raise ArgumentError(
            describe(
                "a flow without a target, or a target without a flow",
                allowed=f"flows 0 to {flows - 1}, each once or more",
            )
        )
    if (packets < 0).any():
        raise ArgumentError(describe("a negative number of packets", given=int(packets.min()), allowed="0 or more"))
    for places in (sources, targets):
        row, column, port = places.T
        edge = (column == 0) | (column == mesh.columns - 1)
        there = (0 <= row) & (row < mesh.rows) & (0 <= column) & (column < mesh.columns)
        there &= edge | (port != Port.AGCU)
        for wrong in places[~np.isin(port, UNIT_PORTS)][:1].tolist():
            allowed = ", ".join(f"{each.name} {each.value}" for each in UNIT_PORTS)
            raise ArgumentError(describe("not the port of a unit", given=wrong[2], allowed=allowed))
        for wrong in places[~there][:1].tolist():
            mesh.check_endpoint(Endpoint(wrong[0], wrong[1], Port(wrong[2])))


def route_loads(mesh: Mesh, routes: Sequence[Route], packets: Sequence[int]) -> np.ndarray:
    """Packets per link of any routes: int64 [rows, columns, slots]."""
    if len(routes) != len(packets):
        raise ShapeError(describe("one number of packets per route", given=f"{len(packets)} for {len(routes)} routes"))
    loads = np.zeros(mesh.shape, np.int64)
    for route, carried in zip(routes, packets, strict=True):
        for link in route.links:
            loads[link.row, link.column, link.slot] += carried
    return loads


def busiest(loads: np.ndarray, count: int = 1) -> list[tuple[Link, int]]:
    """The `count` links that carry most, with their packets; in order of place where equal."""
    order = np.argsort(-loads, axis=None, kind="stable")[:count]
    places = zip(*np.unravel_index(order, loads.shape), strict=True)
    return [(link_of(*map(int, place)), int(loads[place])) for place in places]


def bottleneck_cycles(loads: np.ndarray, packets_per_cycle: Number | Fraction) -> Priced:
    """Cycles that the busiest link needs: no schedule of the same packets is faster."""
    return ceil_div(int(loads.max(initial=0)), packets_per_cycle)
