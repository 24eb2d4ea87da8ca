"""Cases of the memory tiers: symbols placed, written, copied between tiers and read."""

import numpy as np

from rdujax.ledger.counts import Counts
from rdujax.machines import tiny
from rdujax.numerics.formats import BF16, FP32, INT32
from rdujax.units.memory import contents
from rdujax.units.memory.contents import Symbol
from tests.laws.cases.case import Case

EXPERT = {"weights": Symbol((4, 3), BF16, read_only=True), "scale": Symbol((5,), FP32)}
CACHED = {"expert": Symbol((4, 3), BF16, read_only=True), "scale": Symbol((5,), FP32), "state": Symbol((2,), INT32)}
NAMES = {"weights": "expert", "scale": "scale"}


def _switch(weights, scale):
    """An expert from DDR into HBM; what nobody wrote is poison on both sides."""
    ddr = contents.allocate("ddr", tiny().ddr, EXPERT)
    ddr = contents.write(contents.place(ddr, "weights", weights), "scale", scale)
    hbm, counts = contents.copy(ddr, contents.allocate("hbm", tiny().hbm, CACHED), NAMES)
    return {name: contents.read(hbm, name) for name in CACHED}, counts


def _unwritten():
    ddr, hbm = (contents.allocate(tier, tiny().tier(tier), EXPERT) for tier in ("ddr", "hbm"))
    hbm, counts = contents.copy(ddr, hbm, {"weights": "weights"})
    return hbm.words, counts


def cases(rng: np.random.Generator) -> list[Case]:
    """A copy of what was written, and a copy of what was not."""
    weights = rng.integers(0, 2**16, (4, 3)).astype(np.uint16)
    scale = rng.normal(size=5).astype(np.float32)
    poison = np.full(2, -0x5A5A5A5B, np.int32)
    copied = {"expert": weights, "scale": scale.view(np.uint32), "state": poison}
    nothing = {"weights": np.full((4, 3), 0x7FC0, np.uint16), "scale": np.full(5, 0x7FC00000, np.uint32)}
    ddr = contents.allocate("ddr", tiny().ddr, EXPERT)
    hbm = contents.allocate("hbm", tiny().hbm, CACHED)
    return [
        Case("switch", _switch, (weights, scale), copied, contents.predict_copy(ddr, hbm, NAMES)),
        Case("unwritten", _unwritten, (), nothing, Counts({"ddr.read_bytes": 24, "hbm.written_bytes": 24})),
    ]
