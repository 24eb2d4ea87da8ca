"""One socket of the SN40L: published facts, and the named assumptions where nothing is published.

Check of the peak: 1040 PCUs x 32 x 6 cells x 2 FLOP x 1.6 GHz = 638.98 TFLOP/s (published: 638).
Check of the SRAM: 1040 PMUs x 512 KiB = 520 MiB (published: 520 MiB).

Not modelled here: tiles and dies of the socket, the on-chip network, links to other sockets.
"""

from rdujax.base.facts import Fact
from rdujax.machines.machine import MACHINES, Launch, Machine
from rdujax.units import agcu, memory, pcu, pmu

MICRO = "SN40L: Scaling the AI Memory Wall, MICRO 2024"
KIB, GIB, TIB = 1024, 1024**3, 1024**4
TERA, GIGA = 1_000_000_000_000, 1_000_000_000


# fmt: off
@MACHINES.register("sn40l")
def sn40l() -> Machine:
    """One SN40L socket: 1040 PCUs, 1040 PMUs, 520 MiB SRAM, 64 GiB HBM, 1.5 TiB DDR."""
    return Machine(
        name="sn40l",
        clock_hz=Fact(1_600_000_000, "Hz", "assumed: stated below 2 GHz; with 32 x 6 cells it gives the stated 638 TFLOP/s", "assumed"),
        pcu=pcu.Config(
            count=           Fact(1040, "PCUs",   f"{MICRO}, Table II", "stated"),
            systolic_rows=   Fact(32,   "cells",  "assumed array of 32 x 6: one 64-byte vector of BF16 on the rows; 192 cells fit peak and clock", "assumed"),
            systolic_columns=Fact(6,    "cells",  "assumed array of 32 x 6: as many as SIMD stages", "assumed"),
            lanes_bf16=      Fact(32,   "lanes",  "assumed: one 64-byte vector of BF16", "assumed"),
            lanes_32bit=     Fact(16,   "lanes",  "assumed: one 64-byte vector of 32-bit words", "assumed"),
            simd_stages=     Fact(6,    "stages", "assumed: as Plasticine, ISCA 2017", "assumed"),
        ),
        pmu=pmu.Config(
            count=               Fact(1040,      "PMUs",        f"{MICRO}, Table II", "stated"),
            capacity_bytes=      Fact(512 * KIB, "bytes",       f"{MICRO}, section I: 520 MiB over 1040 PMUs", "derived"),
            port_bytes_per_cycle=Fact(64,        "bytes/cycle", "assumed: one 64-byte vector in and one out per cycle; 213 TB/s in all, stated as hundreds of TB/s", "assumed"),
        ),
        agcu=agcu.Config(
            count=               Fact(64, "AGCUs",       "assumed: 16 per tile, enough to draw the HBM bandwidth", "assumed"),
            port_bytes_per_cycle=Fact(64, "bytes/cycle", "assumed: one 64-byte vector per cycle", "assumed"),
        ),
        hbm=memory.Config(
            capacity_bytes=       Fact(64 * GIB,      "bytes",   f"{MICRO}, Table II", "stated"),
            bandwidth_bytes_per_s=Fact(1800 * GIGA,   "bytes/s", f"{MICRO}, Table II (the text says about 2 TB/s)", "stated"),
            efficiency=           Fact(0.85,          "1",       f"{MICRO}, section VI-C: close to 85 % in fused decoding; taken for every long stream", "stated"),
        ),
        ddr=memory.Config(
            capacity_bytes=       Fact(3 * TIB // 2,  "bytes",   f"{MICRO}, Table II: up to 1.5 TiB", "stated"),
            bandwidth_bytes_per_s=Fact(200 * GIGA,    "bytes/s", f"{MICRO}, Table II", "stated"),
            efficiency=           Fact(0.62,          "1",       f"{MICRO}, Table V: 8 sockets copy at 31 x 32 GB/s = 0.992 TB/s of 1.6 TB/s", "derived"),
        ),
        host=memory.Config(
            capacity_bytes=       Fact(2 * TIB,       "bytes",   "assumed: a host with 2 TiB", "assumed"),
            bandwidth_bytes_per_s=Fact(32 * GIGA,     "bytes/s", "assumed: one PCIe Gen4 x16 link", "assumed"),
            efficiency=           Fact(1.0,           "1",       "assumed: no loss on the link", "assumed"),
        ),
        launch=Launch(
            software_s=Fact(0.0001,  "s", "assumed: 100 us, the host drives every launch", "assumed"),
            hardware_s=Fact(0.00001, "s", "assumed: 10 us, the schedule is kept by the AGCUs", "assumed"),
        ),
    )
# fmt: on
