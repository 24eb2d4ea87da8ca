"""The number formats of the machine, as data (N1).

A value of any floating format is *carried* between units as an FP32 array that holds only values of that
format, and *rests* in memory as words of the format's own width. There is no FP64 and no FP16.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import FormatError, describe
from rdujax.base.registry import Registry

FORMATS: Registry["Format"] = Registry("number format")


@dataclass(frozen=True)
class Format:
    """One number format, of which there is one object; everything else about it is derived from these fields.

    exponent_bits and mantissa_bits are 0 for integers; the sign takes one bit in all formats.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    width_bits: int
    dtype_name: str  # the public JAX dtype at the border of a program
    carrier_name: str  # the dtype of the arrays that carry its values inside a program

    @property
    def is_float(self) -> bool:
        """True for BF16 and FP32."""
        return self.exponent_bits > 0

    @property
    def width_bytes(self) -> int:
        """Bytes of one value at rest."""
        return self.width_bits // 8

    @property
    def dtype(self) -> np.dtype:
        """The public JAX dtype."""
        return jnp.dtype(self.dtype_name)

    @property
    def carrier(self) -> np.dtype:
        """The dtype of the carrying arrays."""
        return jnp.dtype(self.carrier_name)

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Copies and what is unpickled are the registered format itself: formats are told apart by identity."""
        return lookup, (self.name,)


BF16 = FORMATS.add("bf16", Format("bf16", 8, 7, 16, "bfloat16", "float32"))
FP32 = FORMATS.add("fp32", Format("fp32", 8, 23, 32, "float32", "float32"))
INT32 = FORMATS.add("int32", Format("int32", 0, 0, 32, "int32", "int32"))
# The words of INT32 read as whole numbers without a sign; they travel on the same carriers.
UINT32 = FORMATS.add("uint32", Format("uint32", 0, 0, 32, "uint32", "int32"))
# A predicate is a control bit on the machine, not a number: it is carried as bool and priced as one byte at rest.
BOOL = FORMATS.add("bool", Format("bool", 0, 0, 8, "bool", "bool"))


def format_of(dtype: object, *, where: str = "") -> Format:
    """The format whose public dtype is `dtype`.

    Raises FormatError for every other dtype (float16, float64, complex, 8- and 16-bit integers ...).
    """
    name = _dtype_name(dtype)
    for _, fmt in FORMATS.items():
        if fmt.dtype_name == name:
            return fmt
    raise FormatError(
        describe(
            "a dtype that the machine does not compute with",
            given=name,
            allowed=", ".join(fmt.dtype_name for _, fmt in FORMATS.items()),
            where=where,
            do="convert it before the call, for example with x.astype(jnp.bfloat16)",
        )
    )


def _dtype_name(dtype: Any) -> str:
    try:
        return jnp.dtype(dtype).name
    except TypeError:  # JAX's extended dtypes, such as that of a random key
        return str(dtype)


def lookup(fmt: "Format | str") -> Format:
    """The format itself, or the one of that name."""
    return fmt if isinstance(fmt, Format) else FORMATS[fmt]
