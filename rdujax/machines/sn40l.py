"""One socket of the SN40L: published facts, and the named assumptions where nothing is published.

Check of the peak: 1040 PCUs x 32 x 6 cells x 2 FLOP x 1.6 GHz = 638.98 TFLOP/s (published: 638).
Check of the SRAM: 1040 PMUs x 512 KiB = 520 MiB (published: 520 MiB).
Check of the grid: 4 tiles x 26 x 10 pairs of a PCU and a PMU = 1040.

A node of several sockets is this socket and its P2P links; nothing else of a node is a fact here.
"""

from rdujax.base.facts import Fact
from rdujax.machines.machine import MACHINES, Machine
from rdujax.units import agcu, d2d, host_link, memory, p2p, pcu, pmu, rdn, tln
from rdujax.units.agcu import launch

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
        pcu=_pcu(),
        pmu=_pmu(),
        rdn=_rdn(),
        agcu=_agcu(),
        tln=_tln(),
        d2d=_d2d(),
        p2p=_p2p(),
        host_link=_host_link(),
        hbm=_hbm(),
        ddr=_ddr(),
        host=_host(),
        launch=_launch(),
    )


def _pcu() -> pcu.Config:
    """Compute units."""
    return pcu.Config(
        count=           Fact(1040,    "PCUs",        f"{MICRO}, Table II", "stated"),
        systolic_rows=   Fact(32,      "cells",       "assumed array of 32 x 6: one 64-byte vector of BF16 on the rows; 192 cells fit peak and clock", "assumed"),
        systolic_columns=Fact(6,       "cells",       "assumed array of 32 x 6: as many as SIMD stages", "assumed"),
        lanes_bf16=      Fact(32,      "lanes",       "assumed: one 64-byte vector of BF16", "assumed"),
        lanes_32bit=     Fact(16,      "lanes",       "assumed: one 64-byte vector of 32-bit words", "assumed"),
        simd_stages=     Fact(6,       "stages",      "assumed: as Plasticine, ISCA 2017", "assumed"),
        header_bytes=    Fact(4 * KIB, "bytes",       "assumed: broadcast buffer of 64 vectors", "assumed"),
        turns_per_cycle= Fact(1,       "turns/cycle", "assumed: a counter nest advances once per cycle", "assumed"),
    )


def _pmu() -> pmu.Config:
    """Memory units."""
    return pmu.Config(
        count=               Fact(1040,      "PMUs",            f"{MICRO}, Table II", "stated"),
        capacity_bytes=      Fact(512 * KIB, "bytes",           f"{MICRO}, section I: 520 MiB over 1040 PMUs", "derived"),
        port_bytes_per_cycle=Fact(64,        "bytes/cycle",     "assumed: one 64-byte vector in and one out per cycle; 213 TB/s in all, stated as hundreds of TB/s", "assumed"),
        banks=               Fact(16,        "banks",           "assumed: 16 banks of 32 KiB, as Plasticine, ISCA 2017", "assumed"),
        address_stages=      Fact(12,        "stages",          "assumed: integer ALU stages, shared between read and write streams", "assumed"),
        addresses_per_cycle= Fact(4,         "addresses/cycle", "Hot Chips 2024: up to 4 addresses per cycle", "stated"),
        latency_cycles=      Fact(6,         "cycles",          "assumed: from address to data", "assumed"),
    )


def _rdn() -> rdn.Config:
    """On-chip network."""
    return rdn.Config(
        tiles=            Fact(4,  "tiles",         f"{MICRO}, Figure 5", "stated"),
        rows=             Fact(26, "rows",          "assumed: 26 x 10 pairs per tile, 260 of 1040", "assumed"),
        columns=          Fact(10, "columns",       "assumed: 26 x 10 pairs per tile, 260 of 1040", "assumed"),
        vector_bytes=     Fact(64, "bytes",         "assumed: 16 words of 32 bits, as Plasticine, ISCA 2017", "assumed"),
        scalar_bytes=     Fact(4,  "bytes",         "assumed: one 32-bit word", "assumed"),
        control_wires=    Fact(64, "wires",         "assumed: a bundle of 64 circuits per link and direction", "assumed"),
        packets_per_cycle=Fact(1,  "packets/cycle", "assumed: one packet per link, direction and cycle", "assumed"),
        hop_cycles=       Fact(2,  "cycles",        "assumed: switch and wire", "assumed"),
        credits=          Fact(8,  "packets",       "assumed: input queue of a switch port; more than the round trip of a hop", "assumed"),
        flows=            Fact(64, "flows",         "assumed: flow ids that a switch port decodes", "assumed"),
    )


def _agcu() -> agcu.Config:
    """Bridges to the outside."""
    return agcu.Config(
        count=               Fact(64,  "AGCUs",           "assumed: 16 per tile, enough to draw the HBM bandwidth", "assumed"),
        port_bytes_per_cycle=Fact(64,  "bytes/cycle",     "assumed: one 64-byte vector per cycle", "assumed"),
        segments=            Fact(64,  "segments",        "assumed: entries of the segment lookaside buffer that Hot Chips 2024 names", "assumed"),
        request_bytes=       Fact(256, "bytes",           "assumed: largest coalesced request, four vectors", "assumed"),
        granule_bytes=       Fact(64,  "bytes",           "assumed: smallest access of a memory tier, one burst", "assumed"),
        addresses_per_cycle= Fact(1,   "addresses/cycle", "assumed: one request per cycle", "assumed"),
    )


def _tln() -> tln.Config:
    """Top-level network."""
    return tln.Config(
        bytes_per_cycle=Fact(4096, "bytes/cycle", "assumed: every AGCU port at once, so that it is never the limit", "assumed"),
        latency_cycles= Fact(40,   "cycles",      "assumed: across half the die and back", "assumed"),
    )


def _d2d() -> d2d.Config:
    """Between the dies."""
    return d2d.Config(
        links=               Fact(26, "links",       "assumed: one vector link per mesh row across the cut", "assumed"),
        link_bytes_per_cycle=Fact(64, "bytes/cycle", "assumed: one vector per cycle", "assumed"),
        latency_cycles=      Fact(8,  "cycles",      "assumed: synchronisers and wires across the cut", "assumed"),
    )


def _p2p() -> p2p.Config:
    """Between sockets."""
    return p2p.Config(
        sockets=              Fact(8,          "sockets", f"{MICRO}, section V: an SN40L node has 8 sockets", "stated"),
        ports=                Fact(10,         "ports",   f"{MICRO}, Figure 5: 5 ports per die", "stated"),
        bandwidth_bytes_per_s=Fact(275 * GIGA, "bytes/s", "an SN50 announcement: 2.2 TB/s both ways, four times the SN40L", "derived"),
        latency_s=            Fact(0.000001,   "s",       "assumed: 1 us from socket to socket, all to all within a node", "assumed"),
    )


def _host_link() -> host_link.Config:
    """To the host."""
    return host_link.Config(
        bandwidth_bytes_per_s=Fact(32 * GIGA, "bytes/s", "assumed: one PCIe Gen4 x16 link", "assumed"),
        latency_s=            Fact(0.000001,  "s",       "assumed: 1 us per transfer", "assumed"),
    )


def _hbm() -> memory.Config:
    """The near tier."""
    return memory.Config(
        capacity_bytes=       Fact(64 * GIB,    "bytes",   f"{MICRO}, Table II", "stated"),
        bandwidth_bytes_per_s=Fact(1800 * GIGA, "bytes/s", f"{MICRO}, Table II (the text says about 2 TB/s)", "stated"),
        efficiency=           Fact(0.85,        "1",       f"{MICRO}, section VI-C: close to 85 % in fused decoding; taken for every long stream", "stated"),
        latency_s=            Fact(0.0000001,   "s",       "assumed: 100 ns from a request to its first byte, controller included", "assumed"),
    )


def _ddr() -> memory.Config:
    """The far tier."""
    return memory.Config(
        capacity_bytes=       Fact(3 * TIB // 2, "bytes",   f"{MICRO}, Table II: up to 1.5 TiB", "stated"),
        bandwidth_bytes_per_s=Fact(200 * GIGA,   "bytes/s", f"{MICRO}, Table II", "stated"),
        efficiency=           Fact(0.62,         "1",       f"{MICRO}, Table V: 8 sockets copy at 31 x 32 GB/s = 0.992 TB/s of 1.6 TB/s", "derived"),
        latency_s=            Fact(0.00000015,   "s",       "assumed: 150 ns from a request to its first byte, controller included", "assumed"),
    )


def _host() -> memory.Config:
    """Host memory."""
    return memory.Config(
        capacity_bytes=       Fact(2 * TIB,    "bytes",   "assumed: a host with 2 TiB", "assumed"),
        bandwidth_bytes_per_s=Fact(204 * GIGA, "bytes/s", "assumed: eight channels of DDR4-3200; streams of a tile pass the host link, too", "assumed"),
        efficiency=           Fact(1.0,        "1",       "assumed: the link is what loses", "assumed"),
        latency_s=            Fact(0.000001,   "s",       "assumed: 1 us, the round trip over PCIe", "assumed"),
    )


def _launch() -> launch.Config:
    """Kernel launches."""
    return launch.Config(
        program_load_s= Fact(0.000006, "s", "assumed: 6 us, the larger part of 10 us per launch, as program load is on the SN10", "assumed"),
        argument_load_s=Fact(0.000001, "s", "assumed: 1 us, written straight into registers (US patent 12079157)", "assumed"),
        execute_s=      Fact(0.000003, "s", "assumed: 3 us to fill and to drain a pipeline of some tens of stages", "assumed"),
        host_s=         Fact(0.000001, "s", "assumed: 1 us, one message over the host link", "assumed"),
        host_argument_s=Fact(0.00000316, "s", "calibrated: Mistral-7B decodes 13 times as fast (calibration.py)", "assumed"),
        advance_s=      Fact(0.0000001, "s", "assumed: 100 ns, a control token from the last store to every AGCU (36 hops and the top-level network, 70 ns) and a step of its counters", "assumed"),
    )
# fmt: on
