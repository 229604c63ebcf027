"""The prover's side of a product sum-check.

Tables keep the natural sizes of the axes: an axis is bound innermost first, with zeros behind an odd end, which is what
padding it to a power of two means. The first one or two variables of a large job are bound straight from the digits.
Where tables would be too large each round makes and forgets them anew, a chunk of rows at a time, until as many
variables of the innermost axis are bound that they fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from circuits.argument.claims import ProductJob, Sumcheck
from circuits.language.sources import Axis
from prover.execution.witness import Witness
from zkcert.core import field as ff
from zkcert.core.field import F

from . import kernels
from .kernels.arith import in_threads
from .kernels.grid import BIAS_BITS
from .tables import Digit, Window, coefficients, digit_tables, distinct_digits, read_block, readable

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

T = TypeVar("T")

DIRECT_SIZE = 1 << 13  # smaller tables are made of field elements at once
BLOCK_ENTRIES = 1 << 18  # of the digits of a job together
INNER_WEIGHTS = 128
TABLE_BYTES = 1 << 30  # of larger tables only chunks are held


def at_point(values: Sequence[F], r: F) -> F:
    """The value at r of the quadratic with given values at 0 and 1 and leading coefficient."""
    zero, one, lead = values
    return zero + r * (one - zero) + r * (r - 1) * lead


def padded_groups(size: int, bits: int, bound: int) -> int:
    """The length of an axis of 2^bits padded entries after `bound` variables: even if more are left."""
    groups = -(-size >> bound)
    return groups + groups % 2 if bits > bound else groups


def padded(table: U64, length: int, to: int) -> U64:
    """Rows of `length` entries of tables (2, n, entries) as rows of `to`, with zeros behind."""
    if length == to:
        return table
    count = table.shape[1]
    out = kernels.empty(2, count, table.shape[2] // length, to)
    out[..., :length] = table.reshape(2, count, -1, length)
    out[..., length:] = 0
    return out.reshape(2, count, -1)


def bound_table(table: U64, r: F, ax: Axis, left: int) -> U64:
    """Tables (2, n, entries) with a variable of their innermost axis bound, of which `left` are left."""
    flat = kernels.bind(table.reshape(2, -1), r, F.ZERO).reshape(2, table.shape[1], -1)
    before = padded_groups(ax.size, ax.bits, ax.bits - left - 1) // 2
    return padded(flat, before, padded_groups(ax.size, ax.bits, ax.bits - left))


class Products(Sumcheck):
    """Tables of one product sum-check, or the digits they come from."""

    def __init__(self, job: ProductJob, witness: Witness) -> None:
        self.job = job
        self.axes = [ax for ax in job.kept if ax.bits]
        self.bits = self.axes[-1].bits if self.axes else 0  # variables left of the innermost axis
        self.digits = distinct_digits(job)
        forms = [form for k in (0, 1) for form in (pair[k] for pair in job.pairs)]
        self.coefs = coefficients(forms, self.digits)
        self.eq: list[U64] = []  # weights per axis
        self.prefixes = [ff.f_array([F.ONE])]  # see `prefix`
        start = 0
        for ax in self.axes[: sum(ax.bits > 0 for ax in job.eq_axes)]:
            self.eq.append(ff.eq_table(job.eq_point[start : start + ax.bits])[:, : ax.size])
            start += ax.bits
        self.summed = len(self.eq)
        self.eq += [ff.f_from_fp(np.ones(ax.size, np.uint64)) for ax in self.axes[self.summed :]]
        self.direct = Direct.of(self, witness)
        if self.direct is None:
            length = padded_groups(self.axes[-1].size, self.bits, 0) if self.axes else 1
            x = digit_tables(witness, self.digits, job, self.axes, length)
            flat = x.reshape(*x.shape[: x.ndim - 3], 1, len(self.digits), -1)
            fold = kernels.fold_matrix if flat.ndim == 3 else kernels.fold_matrix_f
            self.table: U64 = fold(flat, self.coefs)[:, 0]
            self._start_axis()

    @property
    def plain(self) -> bool:
        """Whether the variable bound next belongs to a summed axis."""
        return len(self.axes) > self.summed

    def prefix(self, count: int) -> U64:
        """The weights of the first `count` axes together."""
        while len(self.prefixes) <= count:
            eq = self.eq[len(self.prefixes) - 1]
            self.prefixes.append(ff.f_mul(self.prefixes[-1][:, :, None], eq[:, None, :]).reshape(2, -1))
        return self.prefixes[count]

    def last_weights(self, variables: int) -> list[tuple[F, F]]:
        """The weights at 0 and 1 of the next variables, the one bound next first."""
        if self.plain:
            return [(F.ONE, F.ONE)] * variables
        return [(1 - r, r) for r in reversed(self.job.eq_point[-variables:])]

    def weights(self, left: int, length: int) -> tuple[U64, U64]:
        """Weights of groups of entries when `left` variables of the innermost axis, `length` groups, are not bound.

        outer (2, m), inner (2, rows, length): group i weighs outer[i // n] inner[i % n], n = rows length.
        """
        done = len(self.axes) - 1
        if self.plain:
            inner = ff.f_from_fp(np.ones(length, np.uint64))
        else:
            start = sum(ax.bits for ax in self.axes[:done])
            inner = ff.eq_table(self.job.eq_point[start : start + left])[:, :length]
        while inner.shape[1] < INNER_WEIGHTS and done:
            done -= 1
            inner = ff.f_mul(self.eq[done][:, :, None], inner[:, None, :]).reshape(2, -1)
        return self.prefix(done), np.ascontiguousarray(inner).reshape(2, -1, length)

    def _start_axis(self) -> None:
        """Weights of the pairs of the innermost axis, as if it were as long as 2^bits."""
        if self.axes:
            self.outer, self.inner = self.weights(self.bits - 1, 1 << (self.bits - 1))

    def _sums(self, odd: int = 0) -> tuple[F, F]:
        ax = self.axes[-1]
        inner = self.inner[:, :, : padded_groups(ax.size, ax.bits, ax.bits - self.bits) // 2].reshape(2, -1)
        return kernels.pair_sums(self.table, self.outer, inner, odd)

    def total(self) -> F:
        """sum_s e(s) sum_k A_k(s) B_k(s)."""
        if not self.axes:
            return sum((a * b for a, b in self.finals()), F.ZERO)
        if self.direct:
            return self.direct.total()
        ((zero, one),) = self.last_weights(1)
        return zero * self._sums()[0] + one * self._sums(odd=1)[0]

    def round(self, eq_point: Sequence[F] | None = None) -> tuple[F, F]:
        return self.direct.round() if self.direct else self._sums()

    def bind(self, r: F) -> None:
        self.bits -= 1
        if self.direct:
            table = self.direct.bind(r)
            if table is None:
                return
            self.table, self.direct = table, None
            if self.bits:
                self._start_axis()
        else:
            self.table = bound_table(self.table, r, self.axes[-1], self.bits)
            if self.bits and not self.plain:
                self.inner = ff.f_add(self.inner[:, :, ::2], self.inner[:, :, 1::2])  # eq sums to one over a variable
        if self.bits == 0:
            self.axes.pop()
            if self.axes:
                ax = self.axes[-1]
                self.bits = ax.bits
                self.table = padded(self.table, ax.size, padded_groups(ax.size, ax.bits, 0))
                self._start_axis()

    def finals(self) -> list[tuple[F, F]]:
        values = ff.f_list(self.table[:, :, 0])
        half = len(values) // 2
        return list(zip(values[:half], values[half:], strict=True))


class Direct:
    """Rounds of a large job that need no tables of their own: its operands are digits over the kept axes.

    Where its members are integers at every point of {0, 1, infinity}^variables (one or two), their weighted sums give
    all messages of so many rounds. Other rounds of the innermost axis make tables a chunk at a time, which are
    forgotten, for as long as all of them would be larger than TABLE_BYTES.
    """

    def __init__(self, products: Products, witness: Witness, members: Members | None, variables: int) -> None:
        self.products, self.witness = products, witness
        self.rho: list[F] = []
        self.rounds = variables  # whose messages are known
        self._bind_at_once(variables)
        if members is not None:
            self._sum(members)

    def _bind_at_once(self, variables: int) -> None:
        """So many variables are bound from the digits, in one step."""
        ax = self.products.axes[-1]
        self.variables, self.groups = variables, padded_groups(ax.size, ax.bits, variables)

    def _sum(self, members: Members) -> None:
        products, variables, terms = self.products, self.variables, members.terms
        outer, inner = products.weights(products.axes[-1].bits - variables, self.groups)
        inner = inner.reshape(2, -1)
        length = inner.shape[1]

        def block_sums(row: int, x: NDArray[np.int32]) -> U64:
            groups = x.shape[1] >> variables
            # A block is a whole number of weight groups, or lies inside one.
            start = row * self.groups
            if groups % length:
                first = start % length
                here = np.ascontiguousarray(outer[:, start // length : start // length + 1])
                part = np.ascontiguousarray(inner[:, first : first + groups])
                return kernels.grid_sums(x, variables, terms, here, part)
            here = np.ascontiguousarray(outer[:, start // length : (start + groups) // length])
            return kernels.grid_sums(x, variables, terms, here, inner)

        sums = ff.f_sum(np.stack(self._blocks(block_sums, self._windows()), axis=-1))  # (2, members, 3^variables)
        weights = ff.f_array(members.weights)
        grid = ff.f_list(ff.f_sum(ff.f_mul(sums.swapaxes(1, 2), weights[:, None, :])))
        self.grid = [grid[i : i + 3] for i in range(0, len(grid), 3)]  # [later variable][variable bound first]
        self.factors = products.last_weights(variables)

    @staticmethod
    def of(products: Products, witness: Witness) -> Direct | None:
        """The direct rounds of a job, or None where it must start from tables."""
        size = prod(ax.size for ax in products.axes)
        job = products.job
        if size < DIRECT_SIZE or not all(readable(v, job) for v, _ in products.digits):
            return None
        members = Members(job, products.digits)
        for variables in range(min(2, products.bits), 0, -1):
            if members.fit(variables):
                return Direct(products, witness, members, variables)
        direct = Direct(products, witness, None, 0)
        return direct if direct.large(products.bits) else None

    def large(self, left: int) -> bool:
        """Whether all tables are too large to be held, when so many variables of the innermost axis are left."""
        ax = self.products.axes[-1]
        groups = padded_groups(ax.size, ax.bits, ax.bits - left)
        return 16 * self._rows() * groups * self.products.coefs.shape[1] > TABLE_BYTES

    def _rows(self) -> int:
        """Of the innermost axis."""
        return prod(ax.size for ax in self.products.axes[:-1])

    def _windows(self) -> list[tuple[Window, int]]:
        """Windows of the kept axes that tile them, in order, each with its first row."""
        axes = self.products.axes
        if len(axes) == 1:
            return [({}, 0)]
        sizes = [ax.size for ax in axes]
        fixed = len(axes) - 2 if len(axes) < 3 else 1
        inner = prod(sizes[fixed + 1 : -1])
        step = max(1, BLOCK_ENTRIES // (inner * (self.groups << self.variables) * len(self.products.digits)))
        windows: list[tuple[Window, int]] = []
        for i in range(sizes[0] if fixed else 1):
            for start in range(0, sizes[fixed], step):
                window = {axes[fixed].name: slice(start, min(start + step, sizes[fixed]))}
                if fixed:
                    window[axes[0].name] = slice(i, i + 1)
                windows.append((window, (i * sizes[fixed] + start) * inner))
        return windows

    def _read(self, window: Window) -> NDArray[np.int32]:
        """The digits (n, entries) of a window."""
        products = self.products
        x = read_block(self.witness, products.digits, products.axes, window, self.groups << self.variables)
        return x.reshape(len(x), -1)

    def _blocks(self, task: Callable[[int, NDArray[np.int32]], T], windows: Sequence[tuple[Window, int]]) -> list[T]:
        """task(first row, digits (n, entries)) for windows of the kept axes."""
        results: list[T] = in_threads(lambda window, row: task(row, self._read(window)), windows)
        return results

    def _line(self) -> list[F]:
        """Values at 0, 1, infinity of the variable bound next, its weight left out."""
        if self.rho:
            return [at_point(values, self.rho[0]) for values in self.grid]
        if self.rounds == 1:
            return self.grid[0]
        (_, (zero, one)) = self.factors
        return [zero * a + one * b for a, b in zip(self.grid[0], self.grid[1], strict=True)]

    def total(self) -> F:
        if not self.rounds:
            ((zero, one),) = self.products.last_weights(1)
            return zero * self._chunk_sums()[0] + one * self._chunk_sums(odd=1)[0]
        zero, one = self.factors[0]
        at0, at1, _ = self._line()
        return zero * at0 + one * at1

    def round(self) -> tuple[F, F]:
        if len(self.rho) >= self.rounds:
            return self._chunk_sums()
        at0, _, lead = self._line()
        return at0, lead

    def bind(self, r: F) -> U64 | None:
        """After the last of these rounds, the tables (2, forms, entries) bound so far."""
        self.rho.append(r)
        if len(self.rho) < self.rounds:
            return None
        if self.variables < min(len(self.rho), 2):
            self._bind_at_once(self.variables + 1)
        left = self.products.bits
        if left and self.large(left):
            return None
        ax = self.products.axes[-1]
        groups = padded_groups(ax.size, ax.bits, ax.bits - left)
        chunks = list(self._chunks())
        if len(chunks) == 1:
            return self._bound(*chunks[0])
        out = kernels.empty(2, self.products.coefs.shape[1], self._rows() * groups)
        for windows, start, stop in chunks:
            out[:, :, start * groups : stop * groups] = self._bound(windows, start, stop)
        return out

    def _chunks(self) -> Iterator[tuple[Sequence[tuple[Window, int]], int, int]]:
        """Windows whose tables are together a fourth of TABLE_BYTES at most, or one; their first row, and their end."""
        windows, rows = self._windows(), self._rows()
        row_bytes = 16 * self.products.coefs.shape[1] * self.groups
        while windows:
            start, count = windows[0][1], 1
            while count < len(windows) and (windows[count][1] - start) * row_bytes < TABLE_BYTES // 4:
                count += 1
            yield windows[:count], start, windows[count][1] if count < len(windows) else rows
            windows = windows[count:]

    def _bound(self, windows: Sequence[tuple[Window, int]], start: int, stop: int) -> U64:
        """The tables (2, forms, entries) of rows from start to stop, which these windows make up."""
        ax, coefs = self.products.axes[-1], self.products.coefs
        out = kernels.empty(2, coefs.shape[1], (stop - start) * self.groups)
        if not self.variables:
            for window, row in windows:
                x = self._read(window)
                at = (row - start) * self.groups
                out[:, :, at : at + x.shape[1]] = kernels.fold_matrix(x[None], coefs)[:, 0]
            return out
        lagrange = [F.ONE]
        for rho in self.rho[: self.variables]:
            lagrange = [x * y for y in (1 - rho, rho) for x in lagrange]
        binder = kernels.FormBinder(ff.f_mul(coefs[:, :, :, None], ff.f_array(lagrange)[:, None, None, :]))

        def block_bind(row: int, x: NDArray[np.int32]) -> None:
            binder.bind(x, out, (row - start) * self.groups)

        self._blocks(block_bind, windows)
        for done, rho in enumerate(self.rho[self.variables :], self.variables + 1):
            out = bound_table(out, rho, ax, ax.bits - done)
        return out

    def _chunk_sums(self, odd: int = 0) -> tuple[F, F]:
        """What `kernels.pair_sums` gives of all tables, by those of chunks."""
        products, left = self.products, self.products.bits
        ax = products.axes[-1]
        pairs = padded_groups(ax.size, ax.bits, ax.bits - left) // 2
        if products.plain:
            inner = ff.f_from_fp(np.ones(pairs, np.uint64))
        else:
            at = sum(other.bits for other in products.axes[:-1])
            inner = np.ascontiguousarray(ff.eq_table(products.job.eq_point[at : at + left - 1])[:, :pairs])
        outer = products.prefix(len(products.axes) - 1)
        zero = infinity = F.ZERO
        for windows, start, stop in self._chunks():
            table = self._bound(windows, start, stop)
            at0, lead = kernels.pair_sums(table, np.ascontiguousarray(outer[:, start:stop]), inner, odd)
            zero, infinity = zero + at0, infinity + lead
        return zero, infinity


class Members:
    """The bilinear parts of a job's members over its digits, with integer coefficients."""

    def __init__(self, job: ProductJob, digits: Sequence[Digit]) -> None:
        position = {digit: i for i, digit in enumerate(digits)}
        self.weights = [weight for weight, _ in job.members]
        self.forms: list[dict[tuple[int, int], int]] = []
        for _, products in job.members:
            form: dict[tuple[int, int], int] = {}
            for a, b in products:
                for v, d, c in a.terms:
                    for u, e, k in b.terms:
                        assert isinstance(c, int) and isinstance(k, int)
                        key = position[v, d], position[u, e]
                        form[key] = form.get(key, 0) + c * k
            self.forms.append(form)
        ranges = [v.tensor.digits[d].range for v, d in digits]
        largest = [max(-r.lo, r.hi) for r in ranges]
        self.reach = max(sum(abs(c) * largest[i] * largest[j] for (i, j), c in form.items()) for form in self.forms)

    def fit(self, variables: int) -> bool:
        """Whether `grid_sums` can evaluate them: differences double the magnitude of each factor per variable."""
        return self.reach << (2 * variables) < 1 << BIAS_BITS

    @property
    def terms(self) -> tuple[I64, I64, I64, I64]:
        """As `grid_sums` takes them."""
        flat = [(i, j, c) for form in self.forms for (i, j), c in form.items()]
        left, right, coefs = np.array(flat, np.int64).reshape(-1, 3).T.copy()
        return left, right, coefs, np.cumsum([len(form) for form in self.forms], dtype=np.int64)
