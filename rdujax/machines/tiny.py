"""A machine small enough that a test reaches its every limit; nothing about it is a claim on real hardware."""

from rdujax.base.facts import Fact
from rdujax.machines.machine import MACHINES, Machine
from rdujax.units import agcu, d2d, host_link, memory, p2p, pcu, pmu, rdn, tln
from rdujax.units.agcu import launch

WHY = "chosen: small, so that tests reach the limit"


# fmt: off
@MACHINES.register("tiny")
def tiny() -> Machine:
    """12 PCUs with arrays of 4 x 2, 16 PMUs of 4 KiB, 1 MiB of HBM."""
    return Machine(
        name="tiny",
        clock_hz=Fact(1_000_000, "Hz", WHY, "assumed"),
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
        count=           Fact(12, "PCUs",        WHY, "assumed"),
        systolic_rows=   Fact(4,  "cells",       WHY, "assumed"),
        systolic_columns=Fact(2,  "cells",       WHY, "assumed"),
        lanes_bf16=      Fact(4,  "lanes",       WHY, "assumed"),
        lanes_32bit=     Fact(2,  "lanes",       WHY, "assumed"),
        simd_stages=     Fact(2,  "stages",      WHY, "assumed"),
        header_bytes=    Fact(64, "bytes",       WHY, "assumed"),
        turns_per_cycle= Fact(1,  "turns/cycle", WHY, "assumed"),
    )


def _pmu() -> pmu.Config:
    """Memory units."""
    return pmu.Config(
        count=               Fact(16,   "PMUs",            WHY, "assumed"),
        capacity_bytes=      Fact(4096, "bytes",           WHY, "assumed"),
        port_bytes_per_cycle=Fact(8,    "bytes/cycle",     WHY, "assumed"),
        banks=               Fact(4,    "banks",           WHY, "assumed"),
        address_stages=      Fact(6,    "stages",          WHY, "assumed"),
        addresses_per_cycle= Fact(2,    "addresses/cycle", WHY, "assumed"),
        latency_cycles=      Fact(2,    "cycles",          WHY, "assumed"),
    )


def _rdn() -> rdn.Config:
    """On-chip network."""
    return rdn.Config(
        tiles=            Fact(1, "tiles",         WHY, "assumed"),
        rows=             Fact(4, "rows",          WHY, "assumed"),
        columns=          Fact(4, "columns",       WHY, "assumed"),
        vector_bytes=     Fact(8, "bytes",         WHY, "assumed"),
        scalar_bytes=     Fact(4, "bytes",         WHY, "assumed"),
        control_wires=    Fact(4, "wires",         WHY, "assumed"),
        packets_per_cycle=Fact(1, "packets/cycle", WHY, "assumed"),
        hop_cycles=       Fact(2, "cycles",        WHY, "assumed"),
        credits=          Fact(2, "packets",       WHY, "assumed"),
        flows=            Fact(8, "flows",         WHY, "assumed"),
    )


def _agcu() -> agcu.Config:
    """Bridges to the outside."""
    return agcu.Config(
        count=               Fact(6,  "AGCUs",           WHY, "assumed"),
        port_bytes_per_cycle=Fact(8,  "bytes/cycle",     WHY, "assumed"),
        segments=            Fact(8,  "segments",        WHY, "assumed"),
        request_bytes=       Fact(16, "bytes",           WHY, "assumed"),
        granule_bytes=       Fact(8,  "bytes",           WHY, "assumed"),
        addresses_per_cycle= Fact(1,  "addresses/cycle", WHY, "assumed"),
    )


def _tln() -> tln.Config:
    """Top-level network."""
    return tln.Config(
        bytes_per_cycle=Fact(48, "bytes/cycle", WHY, "assumed"),
        latency_cycles= Fact(4,  "cycles",      WHY, "assumed"),
    )


def _d2d() -> d2d.Config:
    """Between the dies."""
    return d2d.Config(
        links=               Fact(4, "links",       WHY, "assumed"),
        link_bytes_per_cycle=Fact(8, "bytes/cycle", WHY, "assumed"),
        latency_cycles=      Fact(4, "cycles",      WHY, "assumed"),
    )


def _p2p() -> p2p.Config:
    """Between sockets."""
    return p2p.Config(
        sockets=              Fact(4,         "sockets", WHY, "assumed"),
        ports=                Fact(4,         "ports",   WHY, "assumed"),
        bandwidth_bytes_per_s=Fact(4_000_000, "bytes/s", WHY, "assumed"),
        latency_s=            Fact(0.00001,   "s",       WHY, "assumed"),
    )


def _host_link() -> host_link.Config:
    """To the host."""
    return host_link.Config(
        bandwidth_bytes_per_s=Fact(1_000_000, "bytes/s", WHY, "assumed"),
        latency_s=            Fact(0.00001,   "s",       WHY, "assumed"),
    )


def _hbm() -> memory.Config:
    """The near tier."""
    return memory.Config(
        capacity_bytes=       Fact(1_048_576,  "bytes",   WHY, "assumed"),
        bandwidth_bytes_per_s=Fact(16_000_000, "bytes/s", WHY, "assumed"),
        efficiency=           Fact(1.0,        "1",       WHY, "assumed"),
        latency_s=            Fact(0.00001,    "s",       WHY, "assumed"),
    )


def _ddr() -> memory.Config:
    """The far tier."""
    return memory.Config(
        capacity_bytes=       Fact(8_388_608, "bytes",   WHY, "assumed"),
        bandwidth_bytes_per_s=Fact(2_000_000, "bytes/s", WHY, "assumed"),
        efficiency=           Fact(0.5,       "1",       WHY, "assumed"),
        latency_s=            Fact(0.00002,   "s",       WHY, "assumed"),
    )


def _host() -> memory.Config:
    """Host memory."""
    return memory.Config(
        capacity_bytes=       Fact(8_388_608, "bytes",   WHY, "assumed"),
        bandwidth_bytes_per_s=Fact(4_000_000, "bytes/s", WHY, "assumed"),
        efficiency=           Fact(1.0,       "1",       WHY, "assumed"),
        latency_s=            Fact(0.00005,   "s",       WHY, "assumed"),
    )


def _launch() -> launch.Config:
    """Kernel launches."""
    return launch.Config(
        program_load_s= Fact(0.00005, "s", WHY, "assumed"),
        argument_load_s=Fact(0.00002, "s", WHY, "assumed"),
        execute_s=      Fact(0.00003, "s", WHY, "assumed"),
        host_s=         Fact(0.0009,  "s", WHY, "assumed"),
        host_argument_s=Fact(0.00001, "s", WHY, "assumed"),
        advance_s=      Fact(0.00001, "s", WHY, "assumed"),
    )
# fmt: on
