"""Small networks, units and flows for the tests of the network."""

import numpy as np

from rdujax.base.facts import override
from rdujax.machines.tiny import tiny
from rdujax.units import rdn
from rdujax.units.rdn.mesh import Endpoint, Mesh
from rdujax.units.rdn.routing import ALONG, Along, Route, multicast
from rdujax.units.rdn.traffic import Flow


def network(**facts: int) -> rdn.Config:
    """The network of the machine for tests, with some of its facts replaced."""
    config = tiny().rdn
    for name, value in facts.items():
        config = override(config, name, value)
    return config


def units_of(mesh: Mesh) -> list[Endpoint]:
    """Every unit of a mesh."""
    return [link.target for link in mesh.links if link.target]


def random_route(rng: np.random.Generator, mesh: Mesh, most: int = 1, along: Along = "row") -> Route:
    """A dimension-order tree from a unit to 1 up to `most` others."""
    units = units_of(mesh)
    chosen = rng.permutation(len(units))[: 1 + int(rng.integers(1, most + 1))]
    source, *targets = (units[int(i)] for i in chosen)
    return multicast(mesh, source, targets, along)


def random_flows(rng: np.random.Generator, mesh: Mesh, count: int, most: int = 3, packets: int = 12) -> list[Flow]:
    """Flows in one dimension order, with starts, throttles and tokens, so that they meet."""
    along = ALONG[int(rng.integers(2))]
    return [
        Flow(
            random_route(rng, mesh, most, along),
            int(rng.integers(0, packets)),
            int(rng.integers(0, 6)),
            int(rng.choice([0, 0, 1, 3])),
            int(rng.choice([0, 0, 1, 4])),
        )
        for _ in range(count)
    ]
