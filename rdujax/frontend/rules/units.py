"""Unit calls of kernels written by hand: the same operations, with what their author fixed."""

from rdujax.base.registry import Registry
from rdujax.frontend.rule import Rule, Site
from rdujax.graph.graph import Pins
from rdujax.numerics.formats import lookup
from rdujax.ops.contract import Contract
from rdujax.ops.map import Map
from rdujax.ops.move import Move
from rdujax.streams import visible
from rdujax.streams.access import Transpose
from rdujax.units.pcu.contraction import Contraction
from rdujax.units.pcu.expression import from_json

UNIT = visible.PREFIX
UNITS: Registry[Rule] = Registry("unit call")


def unit_rule(site: Site, name: str) -> tuple[int, ...]:
    """The nodes of one unit call, from the description in its name."""
    description = visible.describe(name)
    described = Site(site.builder, site.primitive, site.operands, description, site.results, site.scope, site.source)
    return UNITS[description["unit"]](described)


def _pins(site: Site) -> Pins:
    tile = site.parameters["tile"]
    return Pins(site.parameters["pcus"], tuple(tile) if tile is not None else None, own_stage=True)


@UNITS.register("gemm")
def _gemm(site: Site) -> tuple[int, ...]:
    *axes, k_splits = site.parameters["contraction"]
    config = Contraction(*(tuple(a) for a in axes), k_splits=k_splits)
    op = Contract(config, lookup(site.parameters["output"]))
    return (site.add(op, site.value(0), site.value(1), pins=_pins(site)),)


@UNITS.register("simd")
def _simd(site: Site) -> tuple[int, ...]:
    expression = from_json(site.parameters["expression"])
    return (site.add(Map(expression), *(site.value(i) for i in range(len(site.operands))), pins=_pins(site)),)


@UNITS.register("transpose")
def _transpose(site: Site) -> tuple[int, ...]:
    return (site.add(Move(Transpose(tuple(site.parameters["permutation"]))), site.value(0)),)


@UNITS.register("retile")
def _retile(site: Site) -> tuple[int, ...]:
    return (site.value(0),)
