"""Is every digit determined? What follows from a circuit's equations when only samples and public values are known.

Everything else starts as unknown within its range. Bounds are propagated through the equations; where that stops, the
alternatives of a choice (a bit, one bit of a group, a value with few left) are tried until they contradict themselves,
and what all that survive agree on is kept. Every conclusion is one of integer arithmetic on the equations: no honest
execution is looked at, no layer known.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from heapq import heappop, heappush
from math import isqrt

from tests.soundness.unrolled import Equation, Row, Terms, Unrolled

OPEN = 24  # an equation with more unknown values than this waits
TRIAL, LONG_TRIAL = 30, 400  # equations looked at per alternative
STEP = 64  # bounds that close in slowly are left to the trials
FEW = 4  # unknown values in an equation that another one is put into
SMALL = 4  # values with so few alternatives are tried one by one


class Contradiction(Exception):
    """No integers within the bounds satisfy the equations."""


class Knowledge:
    """Bounds of all variables of an unrolled circuit, and what they imply.

    values: of the variables that are known; unknown: the others; equations: those of the circuit unless told otherwise;
    bounds: other ranges than the circuit's. log: in order, (variable, equations that changed its bounds).
    """

    def __init__(
        self,
        u: Unrolled,
        values: Sequence[int],
        unknown: Collection[int],
        equations: Sequence[Equation] | None = None,
        bounds: Mapping[int, tuple[int, int]] | None = None,
    ) -> None:
        self.u = u
        self.lo, self.hi = list(values), list(values)
        for v in unknown:
            self.lo[v], self.hi[v] = u.bounds[v] if bounds is None else bounds.get(v, u.bounds[v])
        self.unknown = unknown
        self.equations: list[Equation] = []
        self.adjacent: dict[int, list[int]] = {}
        self.open: list[int] = []
        self.groups: list[tuple[int, ...]] = []
        self.group: dict[int, int] = {}
        self.says_one: set[int] = set()
        self.gates: dict[int, list[tuple[int, int]]] = {}  # v: (w, c) where w is zero unless v = c
        for e in u.equations if equations is None else equations:
            open_ = [v for v in e.variables if self.lo[v] < self.hi[v]]
            if not open_:
                continue
            if u.says_one(e):
                self.says_one.add(len(self.equations))
                for v in e.variables:
                    self.group.setdefault(v, len(self.groups))
                self.groups.append(e.variables)
            for v in open_:
                self.adjacent.setdefault(v, []).append(len(self.equations))
            self.open.append(sum(not self._is_bit(v) for v in open_))
            self.equations.append(e)
            if gate := gated(e):
                self.gates.setdefault(gate[0], []).append(gate[1:])
        self.short: list[Short | None] = [None] * len(self.equations)
        self.log: list[tuple[int, tuple[Equation, ...]]] = []
        self.trail: list[tuple[int, int, int]] | None = None
        self.used: set[int] = set()
        self.stale: set[int] = set()  # equations of which a trial has fixed a variable
        self.queue: list[tuple[int, int]] = []
        self.queued: set[int] = set()
        self.touched: dict[int, None] = {}
        self.tried = 0

    def _is_bit(self, v: int) -> bool:
        return self.u.bounds[v] == (0, 1)

    def fixed(self, v: int) -> bool:
        return self.lo[v] == self.hi[v]

    def free(self) -> list[int]:
        """The digits that are not determined."""
        return [v for v in self.unknown if self.u.is_digit(v) and not self.fixed(v)]

    # -- bounds

    def narrow(self, v: int, lo: int, hi: int) -> None:
        """Bounds of a variable become at least as narrow."""
        old_lo, old_hi = self.lo[v], self.hi[v]
        lo, hi = max(lo, old_lo), min(hi, old_hi)
        if lo > hi:
            raise Contradiction
        if (lo, hi) == (old_lo, old_hi):
            return
        self.lo[v], self.hi[v] = lo, hi
        near = self.adjacent.get(v, ())
        much = STEP * (hi - lo) <= old_hi - old_lo or hi - lo < SMALL
        if self.trail is not None:
            self.trail.append((v, old_lo, old_hi))
            if lo == hi:
                self.stale.update(near)
        else:
            self.log.append((v, self.reason))
            for e in near:
                if much:
                    self.touched[e] = None
                if lo == hi:
                    self.short[e] = None
        if lo == hi and not self._is_bit(v):
            for e in near:
                self.open[e] -= 1
        if much:  # else not worth another look at its equations
            for e in near:
                self._enqueue(e)

    def _enqueue(self, e: int) -> None:
        if self.open[e] <= OPEN and e not in self.queued:
            self.queued.add(e)
            heappush(self.queue, (self.open[e], e))

    def _undo(self) -> None:
        assert self.trail is not None
        for v, lo, hi in reversed(self.trail):
            if self.lo[v] == self.hi[v] and not self._is_bit(v):
                for e in self.adjacent[v]:
                    self.open[e] += 1
            self.lo[v], self.hi[v] = lo, hi
        self.trail = None
        self.queue.clear()
        self.queued.clear()
        self.stale.clear()

    # -- one equation

    def revise(self, index: int) -> None:
        """Narrow the variables of one equation as far as it alone says."""
        equation = self.equations[index]
        if isinstance(equation, Row):
            self.reason = (equation,)
            self.look_up(equation)
            return
        short = self.short[index]
        if short is None or (short.products and index in self.stale):  # b (2 m) - m says more where b is known
            short = Short(self, index)
            if self.trail is None:
                self.short[index] = short
        self.reason = (self.equations[index],)
        short.narrow(self)
        if self.open[index] == 2:
            self._eliminate(index)
        elif self.open[index] <= FEW and not short.products:
            near = [set(self.adjacent[v]) for c, v, _ in short.linear if c and not self.fixed(v)]
            for i, one in enumerate(near):
                for two in near[:i]:
                    for e in one & two:
                        if self.open[e] == 2:
                            self._eliminate(e)

    def look_up(self, e: Row) -> None:
        """Every component lies between the least and the largest entry of the rows that its bounds leave."""
        forms = []
        for form in e.components:
            known = sum(c * self.lo[v] for v, c in form if self.fixed(v))
            terms = Short.split(self, {v: c for v, c in form if not self.fixed(v)})
            forms.append((known, terms, *interval(self, known, terms)))
        rows = e.rows
        for k, (_, _, lo, hi) in enumerate(forms):  # the arguments rise
            first, stop = (bisect_left(rows[:, 0], lo), bisect_right(rows[:, 0], hi)) if k == 0 else (0, len(rows))
            rows = rows[first:stop]
            if k:
                rows = rows[(rows[:, k] >= lo) & (rows[:, k] <= hi)]
        if not len(rows):
            raise Contradiction
        for column, (known, terms, lo, hi) in zip(rows.T, forms, strict=True):
            restrict_to(self, known, terms, lo, hi, int(column.min()), int(column.max()))

    def _eliminate(self, index: int) -> None:
        """Put a linear equation in two unknowns into others that hold both."""
        one = Short(self, index)
        if one.products or len(one.linear) != 2 or any(bits for _, _, bits in one.linear):
            return
        (a, v, _), (b, w, _) = one.linear
        for other in set(self.adjacent[v]).intersection(self.adjacent[w]):
            two = Short(self, other) if other != index and self.open[other] <= FEW else None
            if two is None or two.products:
                continue
            for x, c, y, d in ((v, a, w, b), (w, b, v, a)):  # without x, as c x + d y + one.const = 0
                coefs = {u: e for e, u, bits in two.linear if not bits}
                if x not in coefs or y not in coefs:
                    break
                rest = [(e * c, u, bits) for e, u, bits in two.linear if bits or u not in (x, y)]
                rest = [(e, u, tuple((q, f * c) for q, f in bits)) for e, u, bits in rest]
                last = coefs[y] * c - coefs[x] * d
                two_less = Short.__new__(Short)
                two_less.const, two_less.products = two.const * c - one.const * coefs[x], []
                two_less.linear = sorted([*rest, *([(last, y, ())] if last else [])], key=size, reverse=True)
                self.reason = self.equations[index], self.equations[other]
                two_less.narrow(self)
                if self.fixed(v) or self.fixed(w):
                    return

    def propagate(self, limit: int | None = None) -> None:
        """Until nothing changes, or `limit` equations were looked at; raises Contradiction."""
        while self.queue and limit != 0:
            _, e = heappop(self.queue)
            self.queued.discard(e)
            self.used.add(e)
            self.revise(e)
            limit = None if limit is None else limit - 1

    # -- choices

    def alternatives(self, v: int) -> list[list[tuple[int, int]]]:
        """The values a choice can still take, each as assignments."""
        if v in self.group:
            bits = self.groups[self.group[v]]
            return [[(w, int(w == x)) for w in bits] for x in bits if self.hi[x] == 1]
        if v in self.gates:
            gates = self.gates[v]
            open_ = [[(v, c), *((w, 0) for w, _ in gates if w != x)] for x, c in gates]
            return [[(w, 0) for w, _ in gates], *open_]
        return [[(v, x)] for x in range(self.lo[v], self.hi[v] + 1)]

    def attempt(self, v: int, patient: bool) -> bool:
        """Try all values of a choice; whether anything was learnt: fixed values or, with patience, narrower bounds."""
        survivors: list[dict[int, tuple[int, int]]] = []
        self.used = set()
        if v in self.group:
            self.used |= set(self.adjacent[v])
        for assignment in self.alternatives(v):
            self.tried += 1
            self.trail = []
            try:
                for w, x in assignment:
                    self.narrow(w, x, x)
                self.propagate(LONG_TRIAL if patient else TRIAL)
                survivors.append({w: (self.lo[w], self.hi[w]) for w, _, _ in self.trail})
            except Contradiction:
                pass
            self._undo()
        if not survivors:
            raise Contradiction(self.u.describe(v))
        common = set(survivors[0]).intersection(*survivors[1:])
        self.reason = tuple(self.equations[e] for e in self.used)
        before = len(self.log)
        for w in common:
            lo, hi = min(s[w][0] for s in survivors), max(s[w][1] for s in survivors)
            if lo == hi or patient:
                self.narrow(w, lo, hi)
        return len(self.log) > before

    def choices(self, index: int) -> set[int]:
        """What can be tried in an equation: the first unknown bit of each group, bits, and small values."""
        out = set()
        for v in self.equations[index].variables:
            if self.lo[v] < self.hi[v] and (self._is_bit(v) or self.hi[v] - self.lo[v] < SMALL):
                bits = self.groups[self.group[v]] if v in self.group else (v,)
                out.add(next(w for w in bits if self.lo[w] < self.hi[w]))
            elif v in self.gates and not self.fixed(v):
                out.add(v)
        return out

    def solve(self, patient: bool = False) -> Knowledge:
        """What follows; raises Contradiction. With patience also where choices narrow one another step by step."""
        self.reason: tuple[Equation, ...] = ()
        for e in range(len(self.equations)):
            self._enqueue(e)
        self.touched = dict.fromkeys(range(len(self.equations)))
        self.propagate()
        waiting: list[tuple[bool, int, int]] = []  # (patient, alternatives, choice)
        swept = -1
        while self.touched or waiting or swept < len(self.log):
            if not self.touched and not waiting:  # what was tried too early, once more
                swept = len(self.log)
                self.touched = dict.fromkeys(range(len(self.equations)))
            for v in {v for e in self.touched if self.open[e] <= OPEN for v in self.choices(e)}:
                heappush(waiting, (False, len(self.alternatives(v)), v))
            self.touched = {}
            while waiting and not self.touched:
                late, _, v = heappop(waiting)
                if self.fixed(v) or (waiting and waiting[0][2] == v):
                    continue
                if self.attempt(v, late):
                    self.propagate()
                elif patient and not late:
                    heappush(waiting, (True, len(self.alternatives(v)), v))
        return self


def gated(e: Equation) -> tuple[int, int, int] | None:
    """v, w and c if the equation is w (v - c) = 0."""
    if isinstance(e, Row) or e.const or len(e.products) != 1 or len(e.linear) > 1:
        return None
    left, right = e.products[0]
    if len(left) != 1 or len(right) != 1 or left[0][1] != 1 or right[0][1] != 1:
        return None
    (w, _), (v, _) = *left, *right
    if e.linear and e.linear[0][0] != w:
        return None
    return v, w, -e.linear[0][1] if e.linear else 0


class Short:
    """What is left of an equation once known values are put in."""

    def __init__(self, k: Knowledge, index: int) -> None:
        e, lo, hi = k.equations[index], k.lo, k.hi
        const, linear, products = e.const, dict[int, int](), []

        def reduced(form: Terms) -> tuple[int, Terms]:
            known = sum(c * lo[v] for v, c in form if lo[v] == hi[v])
            return known, tuple((v, c) for v, c in form if lo[v] < hi[v])

        def add(form: Terms, factor: int) -> None:
            for v, c in form:
                linear[v] = linear.get(v, 0) + c * factor

        known, form = reduced(e.linear)
        const += known
        add(form, 1)
        for left, right in e.products:
            (a, x), (b, y) = reduced(left), reduced(right)
            if x and y:
                products.append(((a, self.split(k, dict(x))), (b, self.split(k, dict(y))), left == right))
            else:
                const += a * b
                add(x, b)
                add(y, a)
        self.const, self.products = const, products
        rest = {v: c for v, c in linear.items() if c}
        self.linear = [(c, v, ()) for v, c in rest.items()] if index in k.says_one else self.split(k, rest)

    @staticmethod
    def split(k: Knowledge, terms: dict[int, int]) -> list[tuple[int, int, Terms]]:
        """(coefficient, variable, ()) of single variables and (0, 0, bits and weights) of groups, largest first."""
        out: list[tuple[int, int, Terms]] = []
        groups: dict[int, None] = {}
        for v, c in terms.items():
            if v in k.group:
                groups[k.group[v]] = None
            else:
                out.append((c, v, ()))
        for g in groups:
            out.append((0, 0, tuple((v, terms.get(v, 0)) for v in k.groups[g])))
        out.sort(key=size, reverse=True)
        return out

    def narrow(self, k: Knowledge) -> None:
        factors = []
        lo, hi = interval(k, self.const, self.linear)
        for (a, x), (b, y), square in self.products:
            al, ah = interval(k, a, x)
            bl, bh = interval(k, b, y)
            if square:
                low = 0 if al <= 0 <= ah else min(al * al, ah * ah)
                high = max(al * al, ah * ah)
            else:
                corners = (al * bl, al * bh, ah * bl, ah * bh)
                low, high = min(corners), max(corners)
            factors.append((low, high, al, ah, bl, bh))
            lo, hi = lo + low, hi + high
        if not lo <= 0 <= hi:
            raise Contradiction
        restrict(k, self.linear, lo, hi, 0, 0)
        for ((a, x), (b, y), square), (low, high, al, ah, bl, bh) in zip(self.products, factors, strict=True):
            least, most = max(low, high - hi), min(high, low - lo)
            if least > most:
                raise Contradiction
            if (least, most) == (low, high):
                continue
            if square:
                root = isqrt(most)
                restrict_to(k, a, x, al, ah, -root, root)
                if al >= 0:
                    restrict_to(k, a, x, al, ah, isqrt(max(least - 1, 0)) + (least > 0), root)
            else:
                for const, form, fl, fh, gl, gh in ((a, x, al, ah, bl, bh), (b, y, bl, bh, al, ah)):
                    if gl > 0:
                        q = (-(-least // gl), -(-least // gh), most // gl, most // gh)
                        restrict_to(k, const, form, fl, fh, min(q[:2]), max(q[2:]))
                    elif gh < 0:
                        q = (-(-most // gl), -(-most // gh), least // gl, least // gh)
                        restrict_to(k, const, form, fl, fh, min(q[:2]), max(q[2:]))


def size(term: tuple[int, int, Terms]) -> int:
    c, _, bits = term
    return max(abs(w) for _, w in bits) if bits else abs(c)


def interval(k: Knowledge, const: int, terms: list[tuple[int, int, Terms]]) -> tuple[int, int]:
    lo = hi = const
    for c, v, bits in terms:
        if bits:
            weights = alive(k, bits)
            lo, hi = lo + min(weights), hi + max(weights)
        elif c > 0:
            lo, hi = lo + c * k.lo[v], hi + c * k.hi[v]
        else:
            lo, hi = lo + c * k.hi[v], hi + c * k.lo[v]
    return lo, hi


def alive(k: Knowledge, bits: Terms) -> list[int]:
    """The weights of the bits of a group that may be the one that is set."""
    out = [c for v, c in bits if k.hi[v]]
    if not out:
        raise Contradiction
    return [c for v, c in bits if k.lo[v]] or out


def restrict_to(
    k: Knowledge, const: int, terms: list[tuple[int, int, Terms]], lo: int, hi: int, least: int, most: int
) -> None:
    """A form whose interval is [lo, hi] lies in [least, most]."""
    if least > lo or most < hi:
        restrict(k, terms, lo, hi, least, most)


def restrict(k: Knowledge, terms: list[tuple[int, int, Terms]], lo: int, hi: int, least: int, most: int) -> None:
    """Narrow the terms of a sum whose interval is [lo, hi] and that lies in [least, most]."""
    for c, v, bits in terms:
        if bits:
            weights = alive(k, bits)
            a, b = min(weights), max(weights)
            low, high = least - (hi - b), most - (lo - a)
            for w, x in bits:
                if k.hi[w] and not low <= x <= high:
                    k.narrow(w, 0, 0)
            weights = alive(k, bits)
            lo, hi = lo + min(weights) - a, hi + max(weights) - b
            continue
        a, b = (c * k.lo[v], c * k.hi[v]) if c > 0 else (c * k.hi[v], c * k.lo[v])
        low, high = least - (hi - b), most - (lo - a)
        if low > a or high < b:
            if c > 0:
                k.narrow(v, -(-low // c), high // c)
                lo, hi = lo + c * k.lo[v] - a, hi + c * k.hi[v] - b
            else:
                k.narrow(v, -(-high // c), low // c)
                lo, hi = lo + c * k.hi[v] - a, hi + c * k.lo[v] - b
