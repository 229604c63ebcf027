"""Network values in a witness: reading them, and filling what the layers share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from circuits.language.tensors import DIGIT_BITS
from circuits.net import Contraction, Output, Rectifier, Total
from circuits.value import Multiple, Value

from .witness import Part, Witness, take
from .workers import by_rows

I64 = NDArray[np.int64]
Ints = NDArray[np.int32] | NDArray[np.int64]


def peak(value: Value) -> int:
    """Largest magnitude of a limb, from the digit ranges."""
    top: dict[int, int] = {}
    for part in value.parts:
        for d in part.tensor.digits:
            k, rest = divmod(d.shift, DIGIT_BITS)
            top[k] = top.get(k, 0) + (abs(part.coef) * max(-d.range.lo, d.range.hi) << rest)
    return max(top.values())


def value_limbs(value: Value, w: Witness, p: int) -> list[Ints]:
    """Limbs of pass p, integers of `shape`; not to be written to."""
    if len(value.parts) == 1 and value.parts[0].coef == 1 and value.parts[0].channels is None:
        (part,) = value.parts
        if all(d.shift == DIGIT_BITS * k for k, d in enumerate(part.tensor.digits)):
            return [w.digit(part.tensor, k, part.index(p)) for k in range(len(part.tensor.digits))]
    out: list[Ints] = []
    for part in value.parts:
        for i, d in enumerate(part.tensor.digits):
            k, rest = divmod(d.shift, DIGIT_BITS)
            digit = placed(part, w.digit(part.tensor, i, part.index(p)).astype(np.int64) * (part.coef << rest))
            if k == len(out):
                out.append(digit)
            else:
                out[k] += digit
    return out


def read_value(value: Value, w: Witness, p: int, rows: slice | None = None) -> I64:
    """Whole values int64 `shape` of pass p, or some `rows` of their first axis."""
    first, *others = (placed(part, w.value(part.tensor, part.index(p), rows)) * part.coef for part in value.parts)
    for more in others:
        first += more
    return np.asarray(first, np.int64)


def placed(part: Multiple, x: I64) -> I64:
    """A part's entries (rows, channels, ...) by the channels of its value."""
    return x if part.channels is None else take(x, 1, np.array(part.channels))


def fill_contraction(
    run: Contraction, w: Witness, products: Sequence[I64], remainder: I64, index: int, rows: slice
) -> None:
    """Put the remainder of some rows of one unrolled index and fill their carries; both may have axes joined."""
    first, second, *inner = run.con.out
    products = [x.reshape(len(x), *(axis.size for axis in inner)) for x in products]
    lowest, _ = run.remainder.bounds()
    w.put(run.remainder, remainder + lowest if lowest else remainder, index, rows)
    w.fill_carries_of(run.steps, run.con.out, products, Part((first.name, second.name), index, rows))


def put_output(output: Output, w: Witness, values: I64, p: int, rows: slice | None = None) -> None:
    """Store the values (`output.value.shape`, or `rows` of it) of pass p; raises RangeOverflow."""
    if isinstance(output, Rectifier):
        put_rectified(output, w, values, p, rows)
    else:
        w.put(output.value.tensor, values, p, rows)


def put_rectified(relu: Rectifier, w: Witness, values: I64, p: int, rows: slice | None = None) -> None:
    """Fill the tensors of pass p, or some rows of them; raises RangeOverflow."""
    z = values if relu.rest is None else values + read_value(relu.rest, w, p, rows)
    b = z > 0
    w.put(relu.bit.tensor, b.astype("int64"), p, rows)
    w.put(relu.magnitude.tensor, abs(z) - b, p, rows)
    w.put(relu.a.tensor, z * b, p, rows)


def fill_total(total: Total, w: Witness, p: int) -> None:
    """Add up pass p; raises RangeOverflow."""
    by_rows(total.x.shape, lambda part: w.put(total.value.tensor, read_value(total.x, w, p, part), p, part))
