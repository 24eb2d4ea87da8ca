"""Convolution term by term, as its definition reads: slow, and in whatever precision the operands have.

Every result is a sum over the places of the kernel, row-major, and at each over the channels of its group, one product
and one addition at a time. Outside of the operand there are zeros; between the elements of a dilated operand there is
nothing, and nothing is added.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True)
class Form:
    """Everything that a convolution says besides its operands, as `lax.conv_general_dilated` names it."""

    window_strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]
    dimension_numbers: Any
    feature_group_count: int = 1
    batch_group_count: int = 1

    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        """The convolution as plain JAX does it."""
        return jax.lax.conv_general_dilated(x, w, **vars(self))


def form(
    rank: int, *, stride: Any = 1, padding: Any = (0, 0), base: Any = 1, apart: Any = 1, numbers: Any = None,
    features: int = 1, batch: int = 1,
) -> Form:  # fmt: skip
    """A form of `rank` spatial axes; one number or pair stands for all of them. Layouts are NC... unless said."""

    def each(value: Any, kind: type) -> Any:
        return value if isinstance(value, tuple) and (kind is int or isinstance(value[0], tuple)) else (value,) * rank

    order = tuple(range(rank + 2))
    spec = jax.lax.ConvDimensionNumbers(*(numbers or (order, order, order)))
    return Form(each(stride, int), each(padding, tuple), each(base, int), each(apart, int), spec, features, batch)


def convolution(form: Form, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The sums in the dtype of the operands."""
    lhs_spec, rhs_spec, out_spec = form.dimension_numbers
    x, w = x.transpose(lhs_spec), w.transpose(rhs_spec)  # [batch, channel, ...], [filter, channel, ...]
    lengths, kernel, channels = x.shape[2:], w.shape[2:], w.shape[1]
    reach = [(n - 1) * d + 1 for n, d in zip(lengths, form.lhs_dilation, strict=True)]
    span = [(n - 1) * d + 1 for n, d in zip(kernel, form.rhs_dilation, strict=True)]
    places = [
        (n + low + high - k) // step + 1
        for n, (low, high), k, step in zip(reach, form.padding, span, form.window_strides, strict=True)
    ]
    groups, filters = form.feature_group_count * form.batch_group_count, w.shape[0]
    images = x.shape[0] // form.batch_group_count
    out = np.zeros((images, filters, *places), x.dtype)
    for n, f, p in product(range(images), range(filters), np.ndindex(*places)):
        group = f * groups // filters
        image = n + (group * images if form.batch_group_count > 1 else 0)
        first = group * channels if form.feature_group_count > 1 else 0
        total = x.dtype.type(0)
        for k in np.ndindex(*kernel):
            at = [
                o * step + i * apart - low
                for o, step, i, apart, (low, _) in zip(
                    p, form.window_strides, k, form.rhs_dilation, form.padding, strict=True
                )
            ]
            if any(a % d for a, d in zip(at, form.lhs_dilation, strict=True)):
                continue
            element = tuple(a // d for a, d in zip(at, form.lhs_dilation, strict=True))
            inside = all(0 <= e < n for e, n in zip(element, lengths, strict=True))
            for c in range(channels):
                value = x[(image, first + c, *element)] if inside else x.dtype.type(0)
                total = x.dtype.type(total + x.dtype.type(value * w[(f, c, *k)]))
        out[(n, f, *p)] = total
    return out.transpose(np.argsort(out_spec))
