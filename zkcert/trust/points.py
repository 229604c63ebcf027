"""Points of BLS12-381 in the compressed form of Zcash and drand, read strictly, and signatures checked with pairings.

Arithmetic, square roots and hashing to the curve (RFC 9380) are py_ecc's; what is accepted as a point is decided here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, reduce
from hashlib import sha256
from typing import Any


@contextmanager
def recursion_kept() -> Iterator[None]:
    """Importing py_ecc raises the recursion limit, so far that nested JSON would overflow the stack: put it back."""
    limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


with recursion_kept():
    from py_ecc.bls.g2_primitives import subgroup_check
    from py_ecc.bls.hash_to_curve import hash_to_G1, hash_to_G2
    from py_ecc.bls.point_compression import compress_G1, compress_G2, decompress_G1, decompress_G2
    from py_ecc.optimized_bls12_381 import (
        FQ12,
        add,
        curve_order,
        field_modulus,
        final_exponentiate,
        multiply,
        neg,
        pairing,
    )
    from py_ecc.optimized_bls12_381 import G1 as BASE_1
    from py_ecc.optimized_bls12_381 import G2 as BASE_2

Point = Any
"""A point of py_ecc's optimized curve: three coordinates."""

ORDER: int = curve_order
COORDINATE = 48
REMEMBERED = 512
"""Points and checks whose results are kept: each takes some tenths of a second, and keys come again and again."""

_COMPRESSED, _INFINITE = 0x80, 0x40


class BadPoint(ValueError):
    """Bytes that are no point of the group; the text says why: "off the curve", "at infinity", ..."""


@dataclass(frozen=True)
class Group:
    """One of the two groups of prime order. coordinates: 48 bytes each, in a compressed point."""

    name: str
    coordinates: int

    @property
    def size(self) -> int:
        """Bytes of a compressed point."""
        return COORDINATE * self.coordinates

    @property
    def base(self) -> Point:
        """The generator."""
        return BASE_1 if self.coordinates == 1 else BASE_2

    def decode(self, data: bytes) -> Point:
        """The point that these bytes are the one encoding of; BadPoint. Neither infinity nor another subgroup's."""
        return _decode(self, data)

    def _decode(self, data: bytes) -> Point:
        if len(data) != self.size:
            raise BadPoint(f"of {len(data)} bytes, where a point of {self.name} has {self.size}")
        if not data[0] & _COMPRESSED:
            raise BadPoint("not in compressed form")
        if data[0] & _INFINITE:
            zero = bytes([_COMPRESSED | _INFINITE]) + bytes(self.size - 1)
            raise BadPoint("at infinity" if data == zero else "not canonical: marked as infinity, with coordinates")
        first = int.from_bytes(bytes([data[0] & 0x1F]) + data[1:COORDINATE], "big")
        numbers = [first, *(int.from_bytes(data[i : i + COORDINATE], "big") for i in range(COORDINATE, self.size, 48))]
        if max(numbers) >= field_modulus:
            raise BadPoint("not canonical: a coordinate is not below the field's modulus")
        whole = [int.from_bytes(data[i : i + COORDINATE], "big") for i in range(0, self.size, COORDINATE)]
        try:
            point = decompress_G1(whole[0]) if self.coordinates == 1 else decompress_G2((whole[0], whole[1]))
        except (ValueError, ArithmeticError, AssertionError) as error:
            raise BadPoint("off the curve") from error
        if self.encode(point) != data:
            raise BadPoint("not canonical")
        if not subgroup_check(point):
            raise BadPoint("outside the subgroup of prime order")
        return point

    def encode(self, point: Point) -> bytes:
        """The compressed form."""
        numbers = (compress_G1(point),) if self.coordinates == 1 else compress_G2(point)
        return b"".join(int(number).to_bytes(COORDINATE, "big") for number in numbers)

    def hash(self, message: bytes, tag: bytes) -> Point:
        """The point that a message hashes to under a domain tag: XMD:SHA-256_SSWU_RO_ of RFC 9380."""
        return _hash(self.coordinates, message, tag)


G1, G2 = Group("G1", 1), Group("G2", 2)
OTHER = {G1: G2, G2: G1}


def times(point: Point, scalar: int) -> Point:
    """A multiple of a point."""
    return multiply(point, scalar)


def total(points: Iterable[Point]) -> Point:
    """The sum of one point or more."""
    return reduce(add, points)


@lru_cache(maxsize=REMEMBERED)
def signed(group: Group, key: bytes, message: bytes, tag: bytes, signature: bytes) -> bool:
    """Whether a signature in `group` is the key's, a point of the other group: e(signature, base) = e(hash, key).

    BadPoint if one of them is none: decode them beforehand to say which.
    """
    hashed, base = group.hash(message, tag), OTHER[group].base
    point, signer = group.decode(signature), OTHER[group].decode(key)
    if group is G1:
        product = _pair(point, base) * _pair(neg(hashed), signer)
    else:
        product = _pair(base, point) * _pair(neg(signer), hashed)
    return bool(final_exponentiate(product) == FQ12.one())


@lru_cache(maxsize=REMEMBERED)
def _decode(group: Group, data: bytes) -> Point:
    return group._decode(data)


@lru_cache(maxsize=REMEMBERED)
def _hash(coordinates: int, message: bytes, tag: bytes) -> Point:
    return (hash_to_G1 if coordinates == 1 else hash_to_G2)(message, tag, sha256)


def _pair(p: Point, q: Point) -> Any:
    """Of a point of G1 and one of G2, without the final exponentiation."""
    return pairing(q, p, final_exponentiate=False)
