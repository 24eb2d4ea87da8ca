"""Matrix products."""

from rdujax.base import compat
from rdujax.frontend.rule import Site, rule
from rdujax.numerics.formats import BF16, FP32, format_of
from rdujax.ops.contract import Contract
from rdujax.ops.map import Map
from rdujax.units.pcu.contraction import Contraction
from rdujax.units.pcu.expression import CONVERT, Expression, Instruction


@rule("dot_general")
def _dot_general(site: Site) -> tuple[int, ...]:
    precision = site.parameters.get("precision")
    if compat.is_dot_algorithm(precision):
        raise site.unsupported(
            f"the algorithm {precision} asks for another arithmetic than the machine's",
            "leave precision out: products and sums are FP32, in increasing k",
        )
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = site.parameters["dimension_numbers"]
    config = Contraction(tuple(lhs_contract), tuple(rhs_contract), tuple(lhs_batch), tuple(rhs_batch))
    # The result's dtype is what JAX inferred from the operands or the user's preferred_element_type.
    output = format_of(site.results[0].dtype, where=site.source)
    return (site.add(Contract(config, output), *(widened(site, i) for i in range(2))),)


def widened(site: Site, i: int) -> int:
    """Operand i; of a BF16 and an FP32 one, as slopes of a product with FP32 results are, the BF16 one made FP32."""
    value, other = site.value(i), site.value(1 - i)
    if site.builder.types[value].fmt is not BF16 or site.builder.types[other].fmt is not FP32:
        return value
    return site.add(Map(Expression((BF16,), (Instruction(CONVERT, BF16, (0,), target=FP32),))), value)
