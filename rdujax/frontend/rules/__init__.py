"""Rules by family of primitives; importing this package fills the table."""

from rdujax.frontend.rules import access as access
from rdujax.frontend.rules import collectives as collectives
from rdujax.frontend.rules import complexes as complexes
from rdujax.frontend.rules import contraction as contraction
from rdujax.frontend.rules import control as control
from rdujax.frontend.rules import convolution as convolution
from rdujax.frontend.rules import elementwise as elementwise
from rdujax.frontend.rules import fourier as fourier
from rdujax.frontend.rules import indexing as indexing
from rdujax.frontend.rules import ordering as ordering
from rdujax.frontend.rules import ragged as ragged
from rdujax.frontend.rules import random as random
from rdujax.frontend.rules import reduction as reduction
from rdujax.frontend.rules import units as units
from rdujax.frontend.rules import windows as windows
