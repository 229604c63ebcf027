"""Arithmetic in F_p, p = 2^61 - 1, and in its quadratic extension F = F_p[i]/(i^2 + 1).

Arrays hold canonical residues.  An F_p array is a ``uint64`` array of any shape; an F array is a ``uint64``
array of shape ``(2, ...)`` whose leading axis is the (real, imaginary) lane.  "Trailing" axes are those after
the lane axis; binary operations broadcast over them by the rules of numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from math import prod
from operator import index
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

P = (1 << 61) - 1
ELEMENT_BYTES = 16
"""Of an element of F: re, im as little-endian u64."""
MAX_LOG_ORDER = 61
"""The norm-1 group of F, of order p + 1, holds a subgroup of order 2^n for n up to this."""

_P = np.uint64(P)
_MASK32 = np.uint64((1 << 32) - 1)
_MASK29 = np.uint64((1 << 29) - 1)
_S3, _S29, _S32, _S61 = np.uint64(3), np.uint64(29), np.uint64(32), np.uint64(61)
_BLOCK = 1 << 14  # elements per block: the temporaries of a product stay in the L2 cache
_SMALL = 1 << 11  # F products of fewer lanes are dominated by the cost of calling numpy
_SCALAR_EQ = 4  # eq tables of so few variables are made of scalars


# ------------------------------------------------------------------------------------------ scalars


class F:
    """An immutable element re + im*i of F.  Operators accept python ints as elements of F_p."""

    __slots__ = ("im", "re")

    re: int
    im: int
    ZERO: ClassVar[F]
    ONE: ClassVar[F]

    def __init__(self, re: int, im: int = 0) -> None:
        _set_re(self, re % P)
        _set_im(self, im % P)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("F is immutable")

    def __repr__(self) -> str:
        return f"F({self.re}, {self.im})"

    def __hash__(self) -> int:
        return hash((self.re, self.im)) if self.im else hash(self.re)

    def __bool__(self) -> bool:
        return bool(self.re or self.im)

    def __eq__(self, other: object) -> bool:
        if type(other) is F:
            return self.re == other.re and self.im == other.im
        if isinstance(other, int):
            return self.im == 0 and self.re == other % P
        return NotImplemented

    def __add__(self, other: F | int) -> F:
        if type(other) is not F:
            other = _lifted(other)
        return _make(self.re + other.re, self.im + other.im)

    __radd__ = __add__

    def __sub__(self, other: F | int) -> F:
        if type(other) is not F:
            other = _lifted(other)
        return _make(self.re - other.re, self.im - other.im)

    def __rsub__(self, other: int) -> F:
        return _lifted(other) - self

    def __neg__(self) -> F:
        return _make(-self.re, -self.im)

    def __mul__(self, other: F | int) -> F:
        if type(other) is not F:
            other = _lifted(other)
        a, b, c, d = self.re, self.im, other.re, other.im
        return _make(a * c - b * d, a * d + b * c)

    __rmul__ = __mul__

    def __truediv__(self, other: F | int) -> F:
        return self * _lifted(other).inv()

    def __pow__(self, exponent: int) -> F:
        base, e = (self.inv(), -exponent) if exponent < 0 else (self, exponent)
        result = F.ONE
        while e:
            if e & 1:
                result = result * base
            base = base * base
            e >>= 1
        return result

    def inv(self) -> F:
        """The multiplicative inverse; ZeroDivisionError for zero."""
        norm = (self.re * self.re + self.im * self.im) % P
        if norm == 0:
            raise ZeroDivisionError("inverse of zero in F")
        t = pow(norm, -1, P)
        return _make(self.re * t, -self.im * t)

    def conj(self) -> F:
        """The conjugate re - im*i, which is also the Frobenius image self**p."""
        return _make(self.re, -self.im)

    def to_bytes(self) -> bytes:
        """16 bytes: re, im as little-endian u64."""
        return self.re.to_bytes(8, "little") + self.im.to_bytes(8, "little")

    @staticmethod
    def from_bytes(data: bytes) -> F:
        """Inverse of to_bytes; ValueError on a wrong length or a lane >= p."""
        if len(data) != ELEMENT_BYTES:
            raise ValueError(f"an element of F is encoded in {ELEMENT_BYTES} bytes")
        re, im = int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")
        if re >= P or im >= P:
            raise ValueError("non-canonical element of F")
        return _make(re, im)


# The slot descriptors write past F.__setattr__, several times faster than object.__setattr__ does.
_set_re: Any = F.__dict__["re"].__set__
_set_im: Any = F.__dict__["im"].__set__
_new: Any = object.__new__


def _make(re: int, im: int) -> F:
    x: F = _new(F)
    _set_re(x, re % P)
    _set_im(x, im % P)
    return x


def _lifted(x: F | int) -> F:
    """An element of F; TypeError for what is neither one nor an integer."""
    return x if isinstance(x, F) else F(index(x))


F.ZERO = F(0)
F.ONE = F(1)


# --------------------------------------------------------------------------------------- F_p arrays


def _reduce(s: U64) -> U64:
    """Canonical residues of s (any u64 values), in place."""
    high = s >> _S61
    s &= _P
    s += high
    np.subtract(s, _P, out=high)  # wraps to a huge value exactly when s < p
    np.minimum(s, high, out=s)
    return s


def _mul_lazy(a: U64, b: U64) -> U64:
    """A u64 value congruent to a*b, for a, b < 2^62."""
    a0, a1 = a & _MASK32, a >> _S32
    b0, b1 = b & _MASK32, b >> _S32
    mid = a1 * b0
    a1 *= b1
    b1 *= a0
    mid += b1
    a0 *= b0
    a1 <<= _S3  # 2^64 = 8
    np.right_shift(mid, _S29, out=b1)
    a1 += b1  # mid * 2^32 = (mid >> 29) + (mid mod 2^29) * 2^32
    mid &= _MASK29
    mid <<= _S32
    a1 += mid
    np.right_shift(a0, _S61, out=b1)
    a1 += b1
    a0 &= _P
    a1 += a0
    return a1


def _blocks(inputs: Sequence[U64], outputs: Sequence[U64]) -> Iterator[tuple[U64, ...]]:
    """Matching runs of about _BLOCK elements of arrays that broadcast to the shape of the outputs."""
    operands = (*inputs, *outputs)
    flags: Any = [["readonly"]] * len(inputs) + [["writeonly"]] * len(outputs)
    with np.nditer(operands, ["external_loop", "buffered", "zerosize_ok"], flags, buffersize=_BLOCK) as runs:
        yield from runs


def fp_add(a: U64, b: U64) -> U64:
    """a + b."""
    s = np.asarray(a + b)
    return np.minimum(s, s - _P, out=s)


def fp_sub(a: U64, b: U64) -> U64:
    """a - b."""
    s = np.asarray(a - b)
    return np.minimum(s, s + _P, out=s)


def fp_neg(a: U64) -> U64:
    """-a, also of F arrays."""
    return fp_sub(np.zeros((), np.uint64), a)


def fp_mul(a: U64, b: U64) -> U64:
    """a * b."""
    out = np.empty(np.broadcast_shapes(a.shape, b.shape), np.uint64)
    for x, y, z in _blocks((a, b), (out,)):
        z[...] = _reduce(_mul_lazy(x, y))
    return out


def fp_from_int(x: npt.NDArray[np.int64]) -> U64:
    """Canonical residues of a signed int64 array."""
    u = np.array(x, dtype=np.int64, ndmin=1).view(np.uint64)
    # u = x + 2^64 [x < 0] and 2^64 = 8
    correction = _P - ((u >> np.uint64(63)) << _S3)
    high = u >> _S61
    u &= _P
    u += high
    u += correction
    return _reduce(u).reshape(np.shape(x))


def fp_sum(x: U64, axis: int = -1) -> U64:
    """Sum along one axis of at most 2^30 terms."""
    low = np.sum(x & _MASK32, axis=axis, keepdims=True)
    high = np.sum(x >> _S32, axis=axis, keepdims=True)
    total = (high & _MASK29) << _S32
    total += high >> _S29
    total += low & _P
    total += low >> _S61
    return np.squeeze(_reduce(total), axis)


# ---------------------------------------------------------------------------------------- F arrays


def f_from_fp(x: U64) -> U64:
    """Embed an F_p array of shape (...) as an F array (2, ...)."""
    return np.stack((x, np.zeros_like(x)))


def f_array(values: Iterable[F]) -> U64:
    """A list of n scalars as an F array (2, n)."""
    pairs = [(v.re, v.im) for v in values]
    return np.ascontiguousarray(np.array(pairs, dtype=np.uint64).reshape(-1, 2).T)


def f_item(x: U64, index: int | tuple[int, ...] = ()) -> F:
    """The scalar at a trailing index of an F array."""
    where = index if isinstance(index, tuple) else (index,)
    return F(int(x[(0, *where)]), int(x[(1, *where)]))


def f_list(x: U64) -> list[F]:
    """The scalars of an F array (2, n)."""
    return [F(re, im) for re, im in zip(x[0].tolist(), x[1].tolist(), strict=True)]


def _align(a: U64, b: U64) -> tuple[U64, U64]:
    """Insert unit axes behind the lane axis so that the trailing axes broadcast from the right."""
    d = a.ndim - b.ndim
    if d < 0:
        a = a.reshape(2, *(1,) * -d, *a.shape[1:])
    elif d > 0:
        b = b.reshape(2, *(1,) * d, *b.shape[1:])
    return a, b


def f_add(a: U64, b: U64) -> U64:
    """a + b."""
    return fp_add(*_align(a, b))


def f_sub(a: U64, b: U64) -> U64:
    """a - b."""
    return fp_sub(*_align(a, b))


def f_conj(a: U64) -> U64:
    """Complex conjugate."""
    return np.stack((a[0], fp_neg(a[1])))


def f_mul(a: U64, b: U64) -> U64:
    """a * b, three F_p products per element."""
    a, b = _align(a, b)
    shape = (2, *np.broadcast_shapes(a.shape[1:], b.shape[1:]))
    if prod(shape) <= _SMALL:
        # One call for the three products: here the cost is that of calling numpy.
        x, y = np.empty((2, 3, *shape[1:]), np.uint64)
        x[:2], y[:2] = a, b
        x[2], y[2] = a[0] + a[1], b[0] + b[1]
        rr, ii, cross = _reduce(_mul_lazy(x, y))
        return _reduce(np.stack((rr + (_P - ii), cross + (_P + _P - rr - ii))))
    out = np.empty(shape, np.uint64)
    for ar, ai, br, bi, zr, zi in _blocks((*a, *b), [*out]):
        rr, ii = _reduce(_mul_lazy(ar, br)), _reduce(_mul_lazy(ai, bi))
        np.subtract(rr, ii, out=zr)
        np.minimum(zr, zr + _P, out=zr)
        cross = _mul_lazy(ar + ai, br + bi)  # at most 2^63 + 2^62 - 2^32, so 2p may be added
        rr += ii
        np.subtract(_P + _P, rr, out=rr)
        cross += rr
        zi[...] = _reduce(cross)
    return out


def f_scale(x: U64, s: U64) -> U64:
    """F array x (2, ...) times an F_p array s, broadcast over the trailing axes."""
    return np.stack((fp_mul(x[0], s), fp_mul(x[1], s)))


def f_mul_scalar(x: U64, r: F) -> U64:
    """F array x (2, ...) times one scalar."""
    return f_mul(x, np.array([r.re, r.im], np.uint64))


def f_sum(x: U64, axis: int = -1) -> U64:
    """Sum along one trailing axis (an array axis other than 0) of at most 2^30 terms."""
    if axis % x.ndim == 0:
        raise ValueError("the lane axis cannot be summed")
    return fp_sum(x, axis)


def f_dot(a: U64, b: U64) -> F:
    """Inner product of F arrays (2, n) and (2, n)."""
    return f_item(f_sum(f_mul(a, b)))


def f_dot_int(x: npt.NDArray[np.integer[Any]], v: U64) -> U64:
    """Products x v of integers (k, n) of magnitude at most 2^22 and v (2, n): (2, k)."""
    limbs = [(lane >> np.uint64(s)) & np.uint64(0xFFFF) for lane in v for s in (0, 16, 32, 48)]
    columns = np.array(limbs, np.float64).T
    out = np.zeros((2, len(x)), np.uint64)
    weights = np.array([[1], [1 << 16], [1 << 32], [1 << 48]], np.uint64)
    width = 1 << 15  # so many products of 22 by 16 bits stay below 2^53: exact in any order
    height = max(1, (1 << 21) // max(1, min(width, x.shape[1])))
    for j in range(0, x.shape[1], width):
        for i in range(0, len(x), height):
            part = x[i : i + height, j : j + width].astype(np.float64) @ columns[j : j + width]
            residues = fp_from_int(part.T.astype(np.int64)).reshape(2, 4, -1)
            out[:, i : i + height] = fp_add(out[:, i : i + height], fp_sum(fp_mul(residues, weights), axis=1))
    return out


def f_matvec(m: U64, v: U64) -> U64:
    """Product of F arrays m (2, k, n) and v (2, n): (2, k)."""
    out = np.empty((2, m.shape[1]), np.uint64)
    step = max(1, (1 << 18) // max(1, m.shape[2]))
    for i in range(0, m.shape[1], step):
        out[:, i : i + step] = f_sum(f_mul(m[:, i : i + step], v))
    return out


def f_to_bytes(x: U64) -> bytes:
    """16 bytes per element, re then im as little-endian u64, elements in C order of the trailing axes."""
    return np.moveaxis(x, 0, -1).astype("<u8").tobytes()


def f_from_bytes(data: bytes) -> U64:
    """Inverse of f_to_bytes, shape (2, n); ValueError on a partial element or a lane >= p."""
    if len(data) % ELEMENT_BYTES:
        raise ValueError(f"an element of F is encoded in {ELEMENT_BYTES} bytes")
    lanes = np.frombuffer(data, dtype="<u8").reshape(-1, 2).T.astype(np.uint64, order="C")
    if (lanes >= _P).any():
        raise ValueError("non-canonical element of F")
    return lanes


# ----------------------------------------------------------------------------- multilinear eq tables


def eq_table(point: Sequence[F]) -> U64:
    """All eq(point, bits of i), shape (2, 2^n); point[0] belongs to the most significant bit of i."""
    if len(point) > _SCALAR_EQ:
        half = len(point) // 2
        high, low = eq_table(point[:half]), eq_table(point[half:])
        return f_mul(high[:, :, None], low[:, None, :]).reshape(2, -1)
    table = [F.ONE]
    for r in reversed(point):
        high_half = [x * r for x in table]
        table = [x - y for x, y in zip(table, high_half, strict=True)] + high_half
    return f_array(table)


def eq_eval(p: Sequence[F], q: Sequence[F]) -> F:
    """prod_j (p_j q_j + (1 - p_j)(1 - q_j))."""
    result = F.ONE
    for a, b in zip(p, q, strict=True):
        ab = a * b
        result = result * (ab + ab - a - b + 1)
    return result


# --------------------------------------------------------------------------------- Fourier transform

_GENERATOR = F(3, 5) ** (P - 1)  # generates the 2-Sylow subgroup, of order 2^61, of the norm-1 group


@cache
def root_of_unity(log_n: int) -> F:
    """A generator of the subgroup of order 2^log_n, 0 <= log_n <= 61, of the norm-1 group."""
    if not 0 <= log_n <= MAX_LOG_ORDER:
        raise ValueError("the norm-1 group has 2-power order subgroups up to 2^61")
    root = _GENERATOR
    for _ in range(MAX_LOG_ORDER - log_n):
        root = root * root
    return root


def f_powers(points: U64, count: int) -> U64:
    """x^0, ..., x^(count - 1) of points (2, t): (2, t, count)."""
    out = np.zeros((2, points.shape[1], count), np.uint64)
    out[0, :, 0] = 1
    done, step = 1, points
    while done < count:
        more = min(done, count - done)
        out[:, :, done : done + more] = f_mul(out[:, :, :more], step[:, :, None])
        done, step = 2 * done, f_mul(step, step)
    return out


@lru_cache(maxsize=32)
def _twiddles(log_n: int) -> U64:
    """w^0, ..., w^(n/2 - 1) for w = root_of_unity(log_n), n >= 2."""
    table = f_powers(f_array([root_of_unity(log_n)]), 1 << log_n - 1)[:, 0]
    table.flags.writeable = False
    return table


def f_fft(coeffs: U64, log_n: int) -> U64:
    """Values at w^0, w^1, ... of polynomials: coefficients (2, ..., m), m <= 2^log_n -> (2, ..., 2^log_n)."""
    n, (*lead, m) = 1 << log_n, coeffs.shape[1:]
    if m > n:
        raise ValueError("more coefficients than evaluation points")
    out = np.zeros((2, *lead, n), np.uint64)
    out[..., :m] = coeffs
    for where in np.ndindex(*lead):
        z = out[:, *where]
        for k in range(log_n):  # Stockham's algorithm
            low, high = np.moveaxis(z.reshape(2, 2, n >> k + 1, 1 << k), 1, 0)
            turned = f_mul(f_sub(low, high), _twiddles(log_n - k)[:, :, None])
            z = np.stack((f_add(low, high), turned), axis=2)
        out[:, *where] = z.reshape(2, n)
    return out


def f_ifft(values: U64) -> U64:
    """Coefficients (2, ..., n) of the polynomials with the given values (2, ..., n) at w^0, w^1, ..."""
    log_n = values.shape[-1].bit_length() - 1
    if values.shape[-1] != 1 << log_n:
        raise ValueError("the number of values is not a power of two")
    inverse_n = F(1 << log_n).inv()
    return f_mul_scalar(f_conj(f_fft(f_conj(values), log_n)), inverse_n)  # w^-1 is the conjugate of w
