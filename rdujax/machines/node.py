"""A node of SN40L sockets, as what serves people: its sockets, and what a run of a model takes before it begins."""

from typing import Any

from rdujax.base.facts import Fact, record
from rdujax.machines.machine import Facts, Machine
from rdujax.machines.sn40l import sn40l


@record("name")
class RduNode(Facts):
    """Sockets that share models out (`socket.p2p.sockets` of them), as a pytree of facts.

    start_s: of a run of a model, before its first kernel: what host software does for each request.
    """

    name: str
    socket: Machine
    start_s: Fact

    @property
    def sockets(self) -> Any:
        """How many there are."""
        return self.socket.p2p.sockets.value


# fmt: off
def sn40l_node() -> RduNode:
    """Eight SN40L."""
    return RduNode(
        name="sn40l-node",
        socket=sn40l(),
        start_s=Fact(0.0349, "s", "calibrated: 20 tokens take half as long as on a DGX A100 (calibration.py)", "assumed"),
    )
# fmt: on
