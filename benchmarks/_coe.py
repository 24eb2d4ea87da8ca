"""The paper's compositions: experts of Llama2-7B on a node of SN40L, on a DGX A100 and on a DGX H100.

The use case is the paper's: a prompt of 128 tokens, for which the router chooses an expert, which writes 20 or 200. A
batch of 8 is 8 prompts that each go to an expert of their own, one expert after the other. Experts are asked in turn,
so that where not all fit into HBM every prompt switches, as it does in the paper's figures.
"""

from dataclasses import dataclass
from functools import lru_cache

from experts.llama import LLAMA2_7B
from rdujax.base.errors import CapacityError
from rdujax.coe.metrics import Summary, summed
from rdujax.coe.models import Shapes, sizes_of
from rdujax.coe.nodes import Options
from rdujax.coe.platforms import OnGpus, OnRdus, Platform
from rdujax.coe.policies import LeastRecentlyUsed
from rdujax.coe.serving import Server
from rdujax.coe.systems import System, system
from rdujax.coe.traffic import SECOND_PS, Closed, asks, cyclic
from rdujax.machines.dgx import dgx_a100, dgx_h100
from rdujax.machines.node import sn40l_node

SHAPES = Shapes(prompts=(1,), tokens=(128,), positions=(256, 512))
PROMPT = 128  # tokens
EXPERTS = 150  # of the paper's comparison
RDU, A100, H100 = "SN40L", "DGX A100", "DGX H100"


@lru_cache(maxsize=16)
def platform(name: str, stack: str = "nemo-2024") -> Platform:
    """A node by the name that the paper's figures have."""
    if name == RDU:
        return OnRdus(sn40l_node())
    return OnGpus({A100: dgx_a100, H100: dgx_h100}[name](stack))


def composed(on: Platform, experts: int) -> System:
    """So many experts of Llama2-7B and their router."""
    return system(on, [f"expert {at}" for at in range(experts)], LLAMA2_7B, LLAMA2_7B, SHAPES)


@dataclass(frozen=True)
class Served:
    """What a batch takes in the steady state, in seconds, by part; and how many of its experts were in HBM."""

    route_s: float
    switch_s: float
    run_s: float
    hits: int

    @property
    def total_s(self) -> float:
        """From the arrival of the batch to its last token."""
        return self.route_s + self.switch_s + self.run_s


def served(on: Platform, experts: int, batch: int, tokens: int, ahead: int = 0) -> Served | None:
    """One batch, after every expert has been asked twice; None where home copies do not fit: out of memory.

    ahead: how many experts are copied while one runs.
    """
    of = composed(on, experts)
    turns = -(-2 * experts // batch) * batch
    traffic = Closed(asks(cyclic(list(of.experts)), PROMPT, tokens), batch, turns + batch)
    try:
        server = Server(of.node, of.experts, LeastRecentlyUsed(), Options(batch=batch, prefetch=ahead))
    except CapacityError:
        return None
    last: list = []
    for each in server.serve(traffic):
        last = [*last[-batch + 1 :], each] if batch > 1 else [each]
    summary: Summary = summed(last)
    seconds = {part: value / SECOND_PS for part, value in summary.parts_ps.items()}
    run_s = seconds["prefill_ps"] + seconds["decode_ps"]
    return Served(last[0].route_ps / SECOND_PS, seconds["switch_ps"], run_s, summary.hits)


def most(on: Platform) -> int:
    """How many experts a node has a home for."""
    return on.home_bytes // sizes_of(LLAMA2_7B).in_bytes


def switching_from(on: Platform, batch: int) -> int | None:
    """The least number of experts of which some are not in HBM when it is their turn; None where all that fit are."""
    least, beyond = batch, most(on) + 1
    while least < beyond:
        middle = (least + beyond) // 2
        found = served(on, middle, batch, 20)
        if found is None or found.hits < batch:
            beyond = middle
        else:
            least = middle + 1
    return least if least <= most(on) else None
