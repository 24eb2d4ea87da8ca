"""A machine small enough that a test reaches its every limit; nothing about it is a claim on real hardware."""

from rdujax.base.facts import Fact
from rdujax.machines.machine import MACHINES, Launch, Machine
from rdujax.units import agcu, memory, pcu, pmu

WHY = "chosen: small, so that tests reach the limit"


# fmt: off
@MACHINES.register("tiny")
def tiny() -> Machine:
    """12 PCUs with arrays of 4 x 2, 16 PMUs of 4 KiB, 1 MiB of HBM."""
    return Machine(
        name="tiny",
        clock_hz=Fact(1_000_000, "Hz", WHY, "assumed"),
        pcu=pcu.Config(
            count=           Fact(12, "PCUs",   WHY, "assumed"),
            systolic_rows=   Fact(4,  "cells",  WHY, "assumed"),
            systolic_columns=Fact(2,  "cells",  WHY, "assumed"),
            lanes_bf16=      Fact(4,  "lanes",  WHY, "assumed"),
            lanes_32bit=     Fact(2,  "lanes",  WHY, "assumed"),
            simd_stages=     Fact(2,  "stages", WHY, "assumed"),
        ),
        pmu=pmu.Config(
            count=               Fact(16,   "PMUs",        WHY, "assumed"),
            capacity_bytes=      Fact(4096, "bytes",       WHY, "assumed"),
            port_bytes_per_cycle=Fact(8,    "bytes/cycle", WHY, "assumed"),
        ),
        agcu=agcu.Config(
            count=               Fact(6, "AGCUs",       WHY, "assumed"),
            port_bytes_per_cycle=Fact(8, "bytes/cycle", WHY, "assumed"),
        ),
        hbm=memory.Config(
            capacity_bytes=       Fact(1_048_576,  "bytes",   WHY, "assumed"),
            bandwidth_bytes_per_s=Fact(16_000_000, "bytes/s", WHY, "assumed"),
            efficiency=           Fact(1.0,        "1",       WHY, "assumed"),
        ),
        ddr=memory.Config(
            capacity_bytes=       Fact(8_388_608,  "bytes",   WHY, "assumed"),
            bandwidth_bytes_per_s=Fact(2_000_000,  "bytes/s", WHY, "assumed"),
            efficiency=           Fact(0.5,        "1",       WHY, "assumed"),
        ),
        host=memory.Config(
            capacity_bytes=       Fact(8_388_608,  "bytes",   WHY, "assumed"),
            bandwidth_bytes_per_s=Fact(1_000_000,  "bytes/s", WHY, "assumed"),
            efficiency=           Fact(1.0,        "1",       WHY, "assumed"),
        ),
        launch=Launch(
            software_s=Fact(0.001,  "s", WHY, "assumed"),
            hardware_s=Fact(0.0001, "s", WHY, "assumed"),
        ),
    )
# fmt: on
