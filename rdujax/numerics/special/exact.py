"""Constants that are too long for a literal, from whole-number arithmetic, so that every machine has the same bits.

Fixed point throughout: an int holds value * 2**FRACTION_BITS. Nothing here depends on a library's mathematics.
"""

import functools
import math

import numpy as np

FRACTION_BITS = 640
_UNIT = 1 << FRACTION_BITS


def _arctan_of_inverse(n: int) -> int:
    power, total, k = _UNIT // n, 0, 0
    while power:
        total += power // (2 * k + 1) * (1 - 2 * (k & 1))
        power //= n * n
        k += 1
    return total


@functools.cache
def pi() -> int:
    """Pi in fixed point, by Machin's formula of 1706."""
    return 4 * (4 * _arctan_of_inverse(5) - _arctan_of_inverse(239))


def _as_float32(value: int) -> np.float32:
    """By way of float64: both roundings are the same on every machine, and one rounding alone is not needed."""
    return np.float32(value / _UNIT)


@functools.cache
def quadrant_windows() -> np.ndarray:
    """uint32[3, 256]: for the exponent field e, the 96 bits of 2/pi * 2**(e - 150) modulo 4, upper word first.

    Two bits stand before the binary point. An FP32 number with field e is an integer of 24 bits times
    2**(e - 150), so the product of that integer with the window, modulo 2**96, is its quadrant and the fraction
    of it, after Payne and Hanek 1983.
    """
    two_over_pi = (2 << (2 * FRACTION_BITS)) // pi()
    table = np.zeros((3, 256), np.uint32)
    for field in range(256):
        shift = FRACTION_BITS - 94 - (field - 150)
        window = (two_over_pi >> shift) & ((1 << 96) - 1)
        table[:, field] = [(window >> (64 - 32 * word)) & 0xFFFFFFFF for word in range(3)]
    table.flags.writeable = False
    return table


@functools.cache
def logarithms(steps: int, first: int, last: int) -> np.ndarray:
    """float32[3, last - first + 1]: for every k, c = steps / k rounded, and -log(c) as a pair, larger part first."""
    table = np.zeros((3, last - first + 1), np.float32)
    for row, k in enumerate(range(first, last + 1)):
        table[0, row] = steps / k
        c = int(math.ldexp(float(table[0, row]), 60)) << (FRACTION_BITS - 60)
        value = 2 * _artanh((_UNIT - c) * _UNIT // (_UNIT + c))
        table[1, row] = _as_float32(value)
        rounded = int(math.ldexp(float(table[1, row]), 60)) << (FRACTION_BITS - 60)
        table[2, row] = _as_float32(value - rounded)
    table.flags.writeable = False
    return table


def _artanh(u: int) -> int:
    square, power, total, k = u * u // _UNIT, u, 0, 0
    while power not in (0, -1):
        total += power // (2 * k + 1)
        power = power * square // _UNIT
        k += 1
    return total


@functools.cache
def angles(steps: int) -> np.ndarray:
    """float32[2, steps + 1]: the arctangents of 0, 1 / steps, ... 1 as pairs, the larger part first."""
    table = np.zeros((2, steps + 1), np.float32)
    for k in range(1, steps + 1):
        value = pi() // 4 if k == steps else _arctan(_UNIT * k // steps)
        table[0, k] = _as_float32(value)
        rounded = int(math.ldexp(float(table[0, k]), 60)) << (FRACTION_BITS - 60)
        table[1, k] = _as_float32(value - rounded)
    table.flags.writeable = False
    return table


def _arctan(u: int) -> int:
    square, power, total, k = u * u // _UNIT, u, 0, 0
    while power:
        total += power // (2 * k + 1) * (1 - 2 * (k & 1))
        power = power * square // _UNIT
        k += 1
    return total


@functools.cache
def normal_tail(steepness: int, rows: int, rows_per_unit: int, terms: int) -> np.ndarray:
    """float32[terms + 1, rows]: Taylor coefficients of a function that falls slowly where a normal tail falls fast.

    w(a) = exp(s a**2 / 2) * (w(0) - K * integral from 0 to a of exp(-s t**2 / 2) dt), where s is `steepness`:
    for 2, w(0) = 1 and w(a) = exp(a**2) erfc(a); for 1, w(0) = 1/2 and w(a) = exp(a**2 / 2) times the upper tail of
    the normal distribution. Column j holds the coefficients around a = j / rows_per_unit, the constant first, and as
    its last entry what the constant lost in rounding.

    w' = s a w - K gives every coefficient from the one before, and the series itself leads from one row to the next.
    Errors grow with exp(s a**2 / 2) on the way, far less than the fraction has bits.
    """
    value = _UNIT if steepness == 2 else _UNIT // 2
    slope = math.isqrt(2 * steepness * _UNIT * value**2 // pi())  # K = w(0) * sqrt(2 s / pi)
    table = np.zeros((terms + 1, rows), np.float32)
    for row in range(rows):
        series = _tail_series(value, slope, steepness, row, rows_per_unit)
        table[:terms, row] = [_as_float32(c) for c in series[:terms]]
        rounded = int(math.ldexp(float(table[0, row]), 60)) << (FRACTION_BITS - 60)
        table[terms, row] = _as_float32(series[0] - rounded)
        value = functools.reduce(lambda total, c: total // rows_per_unit + c, reversed(series), 0)
    table.flags.writeable = False
    return table


def _tail_series(value: int, slope: int, steepness: int, row: int, rows_per_unit: int) -> list[int]:
    """Taylor coefficients of w around row / rows_per_unit, until they are too small to matter one row further."""
    series = [value, steepness * row * value // rows_per_unit - slope]
    while len(series) < 240:
        n = len(series)
        series.append(steepness * (row * series[-1] // rows_per_unit + series[-2]) // n)
    return series
