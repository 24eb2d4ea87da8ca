"""Machines as sourced facts: `sn40l()` is one socket, `sn40l_node()` eight, `dgx_a100()` and `dgx_h100()` nodes of GPUs.

`tiny()` is a small machine for tests, `a100()` a roofline.
"""

from rdujax.machines.dgx import Accelerator as Accelerator
from rdujax.machines.dgx import Dgx as Dgx
from rdujax.machines.dgx import a100 as a100
from rdujax.machines.dgx import dgx_a100 as dgx_a100
from rdujax.machines.dgx import dgx_h100 as dgx_h100
from rdujax.machines.machine import MACHINES as MACHINES
from rdujax.machines.machine import Machine as Machine
from rdujax.machines.machine import named as named
from rdujax.machines.node import RduNode as RduNode
from rdujax.machines.node import sn40l_node as sn40l_node
from rdujax.machines.sn40l import sn40l as sn40l
from rdujax.machines.tiny import tiny as tiny
