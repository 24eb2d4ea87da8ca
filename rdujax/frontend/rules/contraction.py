"""Matrix products."""

from rdujax.base import compat
from rdujax.frontend.rule import Site, rule
from rdujax.numerics.formats import format_of
from rdujax.ops.contract import Contract
from rdujax.units.pcu.systolic import Contraction


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
    return (site.add(Contract(config, output), site.value(0), site.value(1)),)
