"""Machines as sourced facts: `sn40l()` is one socket, `tiny()` a small machine for tests, `a100()` a roofline."""

from rdujax.machines.dgx import Accelerator as Accelerator
from rdujax.machines.dgx import a100 as a100
from rdujax.machines.machine import MACHINES as MACHINES
from rdujax.machines.machine import Machine as Machine
from rdujax.machines.machine import named as named
from rdujax.machines.sn40l import sn40l as sn40l
from rdujax.machines.tiny import tiny as tiny
