"""What the tests of hiding share."""

from __future__ import annotations

from functools import cache
from unittest import mock

import numpy as np

from circuits.argument.channel import Channel
from tests.toys import (
    random_f_array,
    toy_proof,
    verify_toy,
)
from zkcert.core import field as ff
from zkcert.core import padcode
from zkcert.core.merkle import multiproof_bytes
from zkcert.core.proof import Reader

SECTIONS = ("roots", "messages", "opening", "pad proof")


def sections(proof):
    reader = Reader(proof)
    return [reader.section(1 << 28) for _ in SECTIONS]


def solve(a, b):
    """x with a x = b for F arrays a (2, n, n), b (2, n, m); a must be invertible."""
    n = a.shape[1]
    m = np.concatenate([a, b], axis=2)
    for i in range(n):
        pivot = next(j for j in range(i, n) if m[0, j, i] or m[1, j, i])
        m[:, [i, pivot]] = m[:, [pivot, i]]
        m[:, i] = ff.f_mul_scalar(np.ascontiguousarray(m[:, i]), ff.f_item(m, (i, i)).inv())
        column = m[:, :, i].copy()
        column[:, i] = 0
        m = ff.f_sub(m, ff.f_mul(column[:, :, None], m[:, None, i]))
    return m[:, :, n:]


def product(a, b):
    """Matrix product of F arrays (2, n, k) and (2, k, m)."""
    return np.stack([ff.f_matvec(a, np.ascontiguousarray(b[:, :, j])) for j in range(b.shape[2])], axis=2)


def vandermonde(points, start, count):
    """x^start, ..., x^(start + count - 1) for each point, (2, points, count)."""
    first = ff.f_array([x**start for x in points])
    return ff.f_mul(ff.f_powers(ff.f_array(points), count), first[:, :, None])


def columns_at(code):
    """Where the columns of an opening start: after two nonces, a root, the tails and two inner products."""
    return 8 + 32 + 48 * code.tail + 32 + 8


def column_spans(code, queries):
    """Where the columns of each part stand in an opening, siblings behind each, and where these end at last."""
    size, at, out = multiproof_bytes(1 << code.log_n, queries), columns_at(code), []
    for rows in code.parts:
        stop = at + 16 * code.queries * rows
        out.append((at, stop))
        at = stop + size
    return out, at


def read_columns(code, queries, opening):
    """The columns (2, t, rows) of all parts."""
    spans, _ = column_spans(code, queries)
    parts = [ff.f_from_bytes(opening[start:stop]).reshape(2, code.queries, -1) for start, stop in spans]
    return np.concatenate(parts, axis=2)


def split_words(code, masks, tails):
    """Masks and tails (2, rows, tail) as the words of the seeds of both parts."""
    first, flat = code.parts[0], lambda x: x.reshape(2, -1)
    return {
        b"zkcert/masks": flat(tails[:, :first]),
        b"zkcert/masks/1": np.concatenate([flat(masks), flat(tails[:, first:])], axis=1),
    }


def explain_matrix(code, x, weights, rows, points, columns, rng):
    """Masks and tails with which the matrix of x shows these combined rows and columns."""
    t, m0 = len(points), code.mask_row
    data = np.zeros(2 * code.width * m0, np.int64)
    data[: len(x)] = x
    heads = np.zeros((2, code.rows, code.width), np.uint64)
    heads[:, :m0] = np.moveaxis(ff.fp_from_int(data).reshape(m0, code.width, 2), 2, 0)
    last = code.rows - 1
    heads[:, last] = random_f_array(rng, code.width)
    three = np.ascontiguousarray(weights[:, :, m0:last])
    rest = [*range(m0), last]
    known = product(weights[:, :, rest], heads[:, rest])
    heads[:, m0:last] = solve(three, ff.f_sub(rows[:, :, : code.width], known))

    tails = random_f_array(rng, code.rows, code.tail)  # the last SPARE_TAIL of each row stay as they are
    low = vandermonde(points, 0, code.length)
    fixed = np.concatenate([heads, tails], axis=2)
    fixed[:, :, code.width : code.width + t] = 0
    want = ff.f_sub(columns, product(low, fixed.transpose(0, 2, 1)))
    tails[:, :, :t] = solve(vandermonde(points, code.width, t), want).transpose(0, 2, 1)
    known = product(weights[:, :, rest], tails[:, rest])
    tails[:, m0:last] = solve(three, ff.f_sub(rows[:, :, code.width :], known))
    return heads[:, m0:], tails


def lagrange(code, queries):
    """The rows that are one at a random position and zero at the others: coefficients, and values at the queries."""
    count, block = (1 << code.block_bits) - code.message, 1 << code.block_bits
    unit = np.zeros((2, count, block), np.uint64)
    unit[0, np.arange(count), code.message + np.arange(count)] = 1
    basis = padcode.interpolate(code, unit)
    at = vandermonde(padcode.query_points(code, queries), 0, block)
    return basis, product(at, basis.transpose(0, 2, 1))


def message_elements(proof):
    """The field elements among the messages: all but the nonce of the range check's challenge."""
    data = sections(proof)[1]
    at = nonce_position()
    return ff.f_list(ff.f_from_bytes(data[:at] + data[at + 8 :]))


@cache
def nonce_position():
    out = []
    grind = Channel.grind

    def note(self, label, bits):
        out.append(self.messages.at)
        grind(self, label, bits)

    proof = toy_proof()
    with mock.patch.object(Channel, "grind", note):
        verify_toy(proof)
    (at,) = out
    return at
