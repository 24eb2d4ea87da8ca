"""rdujax: a bit-accurate, differentiable emulator and cost model of the SambaNova SN40L dataflow unit, in JAX."""

from rdujax import machines as machines
from rdujax.base.errors import ArgumentError as ArgumentError
from rdujax.base.errors import CapacityError as CapacityError
from rdujax.base.errors import ConcretenessError as ConcretenessError
from rdujax.base.errors import FormatError as FormatError
from rdujax.base.errors import RduError as RduError
from rdujax.base.errors import ShapeError as ShapeError
from rdujax.base.errors import UnknownNameError as UnknownNameError
from rdujax.base.errors import UnsupportedError as UnsupportedError
from rdujax.base.facts import Fact as Fact
from rdujax.compiler.floorplan import Floorplan as Floorplan
from rdujax.compiler.fuse import cut_after as cut_after
from rdujax.compiler.program import Kernel as Kernel
from rdujax.compiler.program import Program as Program
from rdujax.compiler.program import compile as compile
from rdujax.compiler.program import kernel as kernel
from rdujax.compiler.timeline import Timeline as Timeline
from rdujax.compiler.validate import Validation as Validation
from rdujax.compiler.validate import validate as validate
from rdujax.frontend.door import as_stream as as_stream
from rdujax.frontend.door import gemm as gemm
from rdujax.frontend.door import simd as simd
from rdujax.frontend.door import transpose as transpose
from rdujax.frontend.operators import operator as operator
from rdujax.frontend.sockets import node as node
from rdujax.streams.stream import Stream as Stream
