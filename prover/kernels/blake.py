"""BLAKE3 (keyed mode) of many messages side by side, so that the words of LANES of them fill vector registers.

A message is hashed in chunks of 1024 bytes (16 compressions), whose values are joined by a binary tree.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba.core import types
from numba.extending import intrinsic

from .arith import ROWS, S32, flat, inline, kernel, reduce, spread

U32Array = npt.NDArray[np.uint32]
U8Array = npt.NDArray[np.uint8]

LANES = 64  # messages per batch
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED = 1, 2, 4, 8, 16
BLOCK = 64  # bytes
GROUP = 4  # rows whose lanes fill one block of 64 bytes
CHUNK_GROUPS = 16  # blocks of a chunk
IV = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], np.uint32
)
I0, I1, I2, I3 = IV[:4]
S16, S12, S8, S7 = (np.uint32(s) for s in (16, 12, 8, 7))


@intrinsic
def _add(typingctx, x, y):
    """x + y of two uint32, without numba's promotion to 64 bits."""
    return types.uint32(types.uint32, types.uint32), lambda context, builder, sig, args: builder.add(*args)


@intrinsic
def _turn(typingctx, x, s):
    """x rotated right by s bits."""

    def codegen(context, builder, sig, args):
        x, s = args
        back = builder.sub(s.type(32), s)
        return builder.or_(builder.lshr(x, s), builder.shl(x, back))

    return types.uint32(types.uint32, types.uint32), codegen


@inline
def _mix(a, b, c, d, x, y):
    a = _add(_add(a, b), x)
    d = _turn(d ^ a, S16)
    c = _add(c, d)
    b = _turn(b ^ c, S12)
    a = _add(_add(a, b), y)
    d = _turn(d ^ a, S8)
    c = _add(c, d)
    return a, _turn(b ^ c, S7), c, d


@inline
def _round(v, m):
    a, b, c, d, e, f, g, h, i, j, k, l, n, o, p, q = v
    a, e, i, n = _mix(a, e, i, n, m[0], m[1])
    b, f, j, o = _mix(b, f, j, o, m[2], m[3])
    c, g, k, p = _mix(c, g, k, p, m[4], m[5])
    d, h, l, q = _mix(d, h, l, q, m[6], m[7])
    a, f, k, q = _mix(a, f, k, q, m[8], m[9])
    b, g, l, n = _mix(b, g, l, n, m[10], m[11])
    c, h, i, o = _mix(c, h, i, o, m[12], m[13])
    d, e, j, p = _mix(d, e, j, p, m[14], m[15])
    return a, b, c, d, e, f, g, h, i, j, k, l, n, o, p, q


@inline
def _permute(m):
    return m[2], m[6], m[3], m[10], m[7], m[0], m[4], m[13], m[1], m[11], m[12], m[5], m[9], m[14], m[15], m[8]


@kernel
def _compress(state, block, counter, length, flags):
    """One compression of LANES messages: chaining values (8 * LANES), replaced by the new ones; block (16 * LANES)."""
    counter, length, flags = np.uint32(counter), np.uint32(length), np.uint32(flags)
    for c in range(LANES):
        m = (
            block[c],
            block[c + LANES],
            block[c + 2 * LANES],
            block[c + 3 * LANES],
            block[c + 4 * LANES],
            block[c + 5 * LANES],
            block[c + 6 * LANES],
            block[c + 7 * LANES],
            block[c + 8 * LANES],
            block[c + 9 * LANES],
            block[c + 10 * LANES],
            block[c + 11 * LANES],
            block[c + 12 * LANES],
            block[c + 13 * LANES],
            block[c + 14 * LANES],
            block[c + 15 * LANES],
        )
        v = (
            state[c],
            state[c + LANES],
            state[c + 2 * LANES],
            state[c + 3 * LANES],
            state[c + 4 * LANES],
            state[c + 5 * LANES],
            state[c + 6 * LANES],
            state[c + 7 * LANES],
            I0,
            I1,
            I2,
            I3,
            counter,
            np.uint32(0),
            length,
            flags,
        )
        v = _round(v, m)
        m = _permute(m)
        v = _round(v, m)
        m = _permute(m)
        v = _round(v, m)
        m = _permute(m)
        v = _round(v, m)
        m = _permute(m)
        v = _round(v, m)
        m = _permute(m)
        v = _round(v, m)
        m = _permute(m)
        v = _round(v, m)
        state[c] = v[0] ^ v[8]
        state[c + LANES] = v[1] ^ v[9]
        state[c + 2 * LANES] = v[2] ^ v[10]
        state[c + 3 * LANES] = v[3] ^ v[11]
        state[c + 4 * LANES] = v[4] ^ v[12]
        state[c + 5 * LANES] = v[5] ^ v[13]
        state[c + 6 * LANES] = v[6] ^ v[14]
        state[c + 7 * LANES] = v[7] ^ v[15]


@inline
def _start(state, key):
    for w in range(8):
        state[w * LANES : (w + 1) * LANES] = key[w]


@kernel
def absorb(points, rows, state, position, key, group, groups):
    """Hash the first rows of `points` (n, 2 * ROWS), any u64, into the states of the columns from `position` on.

    n or LANES divides the other, n divides `position`.  The rows are groups [group, group + rows // GROUP) of `groups`.
    """
    chain, blocks = np.empty(8 * LANES, np.uint32), np.empty(4 * ROWS * LANES, np.uint32)
    words = np.empty(2 * ROWS, np.uint64)
    for first in range(0, len(points), LANES):
        own, lane = state[(position + first) // LANES], (position + first) % LANES
        live = min(LANES, len(points) - first)
        for c in range(live):
            x = points[first + c]
            for k in range(2 * ROWS):
                words[k] = reduce(x[k])
            for k in range(rows):
                real, imag = words[k], words[ROWS + k]
                o = 4 * k * LANES + lane + c
                blocks[o], blocks[o + LANES] = np.uint32(real), np.uint32(real >> S32)
                blocks[o + 2 * LANES], blocks[o + 3 * LANES] = np.uint32(imag), np.uint32(imag >> S32)
        chain[:] = own
        for g in range(rows // GROUP):
            number = group + g
            flags = KEYED
            if number % CHUNK_GROUPS == 0:
                flags |= CHUNK_START
                _start(chain, key)
            if number % CHUNK_GROUPS == CHUNK_GROUPS - 1 or number == groups - 1:
                flags |= CHUNK_END
                if groups <= CHUNK_GROUPS:
                    flags |= ROOT
            _compress(chain, blocks[16 * g * LANES : 16 * (g + 1) * LANES], number // CHUNK_GROUPS, BLOCK, flags)
        for o in range(lane, 8 * LANES, LANES):
            own[o : o + live] = chain[o : o + live]


@kernel
def _join(left, right, key, flags, start, stop):
    chain, block = np.empty(8 * LANES, np.uint32), np.empty(16 * LANES, np.uint32)
    for tile in range(start, stop):
        _start(chain, key)
        block[: 8 * LANES], block[8 * LANES :] = left[tile], right[tile]
        _compress(chain, block, 0, BLOCK, flags)
        left[tile] = chain


class ColumnHasher:
    """Keyed BLAKE3 of `columns` columns of `rows` (a multiple of GROUP) elements of F, which come in blocks of rows.

    `state` holds the chaining values of the current chunk, LANES columns in a row of 8 words each.
    """

    def __init__(self, columns: int, rows: int, key: bytes) -> None:
        self.columns, self.groups, self.group = columns, rows // GROUP, 0
        self.key = np.frombuffer(key, "<u4").astype(np.uint32)
        self.state = np.zeros((-(-columns // LANES), 8 * LANES), np.uint32)
        self._stack: list[U32Array] = []  # subtrees that wait for their right neighbour

    def _join(self, right: U32Array, root: bool) -> U32Array:
        left = self._stack.pop()
        spread(_join, len(left), 1 << 8, left, right, self.key, KEYED | PARENT | (ROOT if root else 0))
        return left

    @property
    def due(self) -> int:
        """Groups of the next block of rows."""
        return min(ROWS // GROUP, self.groups - self.group)

    def advance(self, groups: int) -> None:
        """So many groups of rows, of one chunk, have been absorbed into `state`."""
        self.group += groups
        if self.group == self.groups:
            while self._stack:
                self.state = self._join(self.state, len(self._stack) == 1)
        elif self.group % CHUNK_GROUPS == 0:
            done, state = self.group // CHUNK_GROUPS, self.state
            while done % 2 == 0:
                state, done = self._join(state, False), done // 2
            self._stack.append(state)
            self.state = np.empty_like(state)

    def digests(self) -> U8Array:
        """The digests (columns, 32) when all rows have been absorbed."""
        words = np.ascontiguousarray(self.state.reshape(-1, 8, LANES).transpose(0, 2, 1)).reshape(-1, 8)
        return words[: self.columns].astype("<u4", copy=False).view(np.uint8)


@kernel
def _hash_rows(words, length, key, out, start, stop):
    chain, block = np.empty(8 * LANES, np.uint32), np.empty(16 * LANES, np.uint32)
    blocks = words.shape[1] // 16
    for first in range(start * LANES, min(stop * LANES, len(words)), LANES):
        live = min(LANES, len(words) - first)
        _start(chain, key)
        for b in range(blocks):
            for c in range(live):
                for w in range(16):
                    block[w * LANES + c] = words[first + c, 16 * b + w]
            flags, size = CHUNK_START if b == 0 else 0, BLOCK
            if b == blocks - 1:
                flags, size = flags | CHUNK_END | ROOT, length - BLOCK * b
            _compress(chain, block, 0, size, flags)
        for c in range(live):
            for w in range(8):
                out[first + c, w] = chain[w * LANES + c]


NONCES = 1 << 12  # tried at once


def first_nonce(prefix: bytes, bits: int) -> int:
    """The smallest nonce for which `zkcert.core.transcript.nonce_fits`, for a prefix of at most 56 bytes."""
    length, mask = len(prefix) + 8, np.uint64((1 << bits) - 1)
    messages = np.zeros((NONCES, BLOCK), np.uint8)
    messages[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    start = 0
    while True:
        nonces = np.arange(start, start + NONCES, dtype="<u8")
        messages[:, len(prefix) : length] = nonces.view(np.uint8).reshape(-1, 8)
        heads = np.ascontiguousarray(hash_rows(messages, length)[:, :8]).view("<u8")[:, 0]
        found = np.flatnonzero(heads & mask == 0)
        if len(found):
            return start + int(found[0])
        start += NONCES


def hash_rows(messages: U8Array, length: int) -> U8Array:
    """BLAKE3 of n messages of `length` bytes, at most 1024: (n, m) with m the next multiple of 64, zeros behind.

    Returns (n, 32).
    """
    n, m = messages.shape
    if m % 64 or not 0 <= m - length < 64 or m > 1024 or messages[:, length:].any():
        raise ValueError("messages must be padded with zeros to whole blocks of one chunk")
    out = np.empty((n, 8), np.uint32)
    spread(
        _hash_rows, -(-n // LANES), 1 << 6, flat(messages).view("<u4").astype(np.uint32, copy=False), length, IV, out
    )
    return out.astype("<u4", copy=False).view(np.uint8)
