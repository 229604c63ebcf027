"""Points of BLS12-381: one encoding each, in the subgroup, not at infinity; whatever else is refused by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.modules import ROOT
from zkcert.trust.points import G1, G2, BadPoint, field_modulus, times

GROUPS = (G1, G2)


def changed(data: bytes, clear: int = 0, add: int = 0) -> bytes:
    """The first byte's bits cleared, and others set."""
    return bytes([data[0] & ~clear | add]) + data[1:]


def first_that(group, start, word):
    """The first encoding with a small coordinate that is refused with a word."""
    for x in range(start, start + 100):
        data = changed(x.to_bytes(group.size, "big"), add=0x80)
        with pytest.raises(BadPoint) as error:
            group.decode(data)
        if word in str(error.value):
            return data
    raise AssertionError


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_a_point_has_one_encoding(group):
    for scalar in (1, 2, 12345):
        data = group.encode(times(group.base, scalar))
        assert len(data) == group.size
        assert group.encode(group.decode(data)) == data
        negative = changed(data, add=0x20) if not data[0] & 0x20 else changed(data, clear=0x20)
        assert group.encode(group.decode(negative)) == negative != data


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_what_is_no_point_is_refused_by_name(group):
    data = group.encode(times(group.base, 5))
    size = group.size
    whole = int.from_bytes(data, "big")
    refused = {
        "bytes, where": (b"", data[:-1], data + b"\0", bytes(96 * 2)),
        "not in compressed form": (bytes(size), changed(data, clear=0x80), changed(bytes(size), add=0x40)),
        "at infinity": (changed(bytes(size), add=0xC0),),
        "marked as infinity": (
            changed(data, add=0x40),
            changed(bytes(size), add=0xE0),
            changed(bytes(size - 1) + b"\1", add=0xC0),
        ),
        "below the field's modulus": (
            changed(field_modulus.to_bytes(48, "big") + data[48:], add=0x80),
            changed(b"\x1f" + b"\xff" * 47 + data[48:], add=0x80),
        ),
    }
    if group is G2:  # the second coordinate, too; its free bits are no flags
        low = int.from_bytes(data[48:], "big")
        for other in (low + field_modulus, low | 1 << 383, low | 1 << 382):
            refused["below the field's modulus"] += (data[:48] + other.to_bytes(48, "big"),)
    else:
        assert whole >> 384 == 0
    for word, examples in refused.items():
        for example in examples:
            with pytest.raises(BadPoint, match=word):
                group.decode(example)


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_points_off_the_curve_and_outside_the_subgroup_are_refused(group):
    assert first_that(group, 1, "off the curve") != first_that(group, 1, "outside the subgroup")


def test_hostile_json_is_refused_after_py_ecc_was_loaded():
    """Which raises the recursion limit: then json would overflow the stack, and end the process."""
    code = """
import sys
limit = sys.getrecursionlimit()
import zkcert.trust.points
from zkcert.public.strict_json import parse
try:
    parse(b"[" * 100_000)
except ValueError as error:
    print(error, sys.getrecursionlimit() == limit)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "it is nested too deeply True\n")
