"""The circuit of a statement (circuit.md), in the order in which its members are declared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, getcontext
from fractions import Fraction
from functools import cache

from .errors import require
from .field import bits
from .files import Model, option
from .functions import FUNCTIONS, decay
from .functions import ends as function_ends
from .functions import rows as function_rows
from .language import (
    ALL,
    BIT,
    AdaptiveWindow,
    B,
    Circuit,
    Constraint,
    Domain,
    Expr,
    Form,
    Function,
    Limbs,
    Pairs,
    R,
    Source,
    U,
    Window,
    add,
    at,
    channels_table,
    gather,
    groups_table,
    heads_table,
    join,
    left,
    limbs_of,
    map_,
    merge,
    neg,
    product,
    radix,
    same,
    scale,
    scaled,
    suffix,
    tail,
    total,
    wsum,
)
from .statement import Statement

VALUE, WEIGHT, PROB = radix(B(22), B(22)), radix(B(22), B(18)), radix(U(22), U(22), U(14))
REM32, REM56 = [at(U(22), 0), at(U(10), 22)], [at(U(22), 0), at(U(22), 22), at(U(12), 44)]
MAGNITUDE = radix(U(22), U(22))
MOVES = ("cat", "channels", "binary")
"""What hands on other channels than it gets."""
KEEPS = ("flatten", "line")
"""What is the identity."""
Sources = Sequence[Source]
Axes = list[tuple[str, int]]


def nearest(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


def exact(x: float) -> Fraction:
    """The rational that the shortest decimal of a float denotes."""
    return Fraction(repr(x))


# ---------------------------------------------------------------- tables of the head


def _round(x: Decimal) -> int:
    return int((x + Decimal("0.5")).to_integral_value(rounding="ROUND_FLOOR"))


@dataclass
class HeadTables:
    """T_i, F_i, L_i and ln2 of semantics.md."""

    exp: list[list[int]]
    inverse: list[list[int]]
    log: list[list[int]]
    ln2: int


def ln_units(x: Fraction) -> int:
    """round(2^56 ln x)."""
    getcontext().prec = 120
    return _round((Decimal(x.numerator) / Decimal(x.denominator)).ln() * 2**56)


@cache
def head_tables() -> HeadTables:
    getcontext().prec = 120
    exp = [[_round((-Decimal(v << (18 + 4 * i)) / 2**32).exp() * 2**56) for v in range(16)] for i in range(5)]
    inverse, log = [], []
    for i in range(4):
        b = 57 if i == 0 else 56
        row = [math.ceil(Fraction(1 << b) / (1 + Fraction(c, 1 << 4 * (i + 1)))) for c in range(16 if i == 0 else 17)]
        inverse.append(row)
        log.append([_round(-(Decimal(f) / (1 << b)).ln() * 2**56) for f in row])
    return HeadTables(exp, inverse, log, ln_units(Fraction(2)))


def limb(values: Sequence[int], k: int) -> list[int]:
    """Limb k of numbers."""
    return [v >> (22 * k) & 0x3FFFFF for v in values]


def unit(n: int, u: int) -> list[int]:
    return [1 if i == u else 0 for i in range(n)]


# ---------------------------------------------------------------- values


@dataclass
class Value:
    """A sum of parts (coefficient, tensor) with common inner sizes."""

    parts: list[tuple[int, int]]
    sizes: tuple[int, ...]

    def plus(self, other: Value) -> Value:
        require(self.sizes == other.sizes, "circuit", "values of different sizes are added")
        out: dict[int, int] = {}
        for c, t in self.parts + other.parts:
            out[t] = out.get(t, 0) + c
        return Value([(c, t) for t, c in out.items() if c], self.sizes)

    def times(self, c: int) -> Value:
        return Value([(c * k, t) for k, t in self.parts], self.sizes)


@dataclass
class Norm:
    """The public integers of a batch-norm."""

    scale: list[int]
    mean: list[int]


@dataclass
class Statistics:
    """Of a group norm: axes of its statistics, those summed, of entries by group and by channel; how entries are summed
    and read; how many there are, and the integer of eps."""

    axes: list[tuple[str, int]]
    summed: list[tuple[str, int]]
    entries: list[tuple[str, int]]
    flat: list[tuple[str, int]]
    sums: Sources
    inner: Sources
    n: int
    eps: int


@dataclass
class Logarithm:
    """What `log` leaves: parts with exponents, the shift, the constant."""

    parts: list[tuple[Form, int]]
    shift: Form
    const: int


@dataclass
class Parameter:
    """A parameter with its gradient: how its accumulator is contracted."""

    name: str
    axes: list[tuple[str, int]]
    summed: list[tuple[str, int]]
    contracted: bool
    limbs: Callable[[str], Limbs]
    wires: list[int]
    factors: Callable[[str], tuple[list[Form], list[Form]]] | None = None  # of a weight: its limbs are their product


class Builder:
    """Builds the circuit of a statement about a model; `residue_cost` is the 10 of congruences.md, "When"."""

    def __init__(self, s: Statement, model: Model, residue_cost: int = 10) -> None:
        self.s, self.model, self.c = s, model, Circuit()
        weights = sum(math.prod(model.tensors[name].shape) for name in model.parameters)
        self.cost = residue_cost, max(1 << 13, s.steps * weights >> 9)
        self.T, self.B, self.P, self.J = s.steps, s.batch, 2 * s.steps - 1, s.schema["classes"]
        self.per_step: set[int] = set()  # tensors of the network with one unrolled index per step
        self.weight: dict[str, int] = {}
        self.public: list[tuple[int, list[int]]] = []
        self.norms: dict[str, Norm] = {}
        self.input_a: list[int] = []
        self.input_c: list[int] = []
        self.parameters: list[Parameter] = []
        self.logs: dict[str, Logarithm] = {}
        self.windows: dict[int, Window | AdaptiveWindow] = {}
        self.placed: dict[int, tuple[int, tuple[int, ...]]] = {}  # by negative number: a tensor with channels
        self.numbers: dict[tuple[int, tuple[int, ...]], int] = {}
        L = model.input["shape"][2]
        self.rows, self.D = (self.B, s.divisor) if model.tokens is None else (self.B * L, s.divisor * L)
        self.dys: dict[int, Value] = {}
        self.ratios, self.deviation = s.statistic == "std-log-ratio", s.statistic.startswith("std")
        one = 2048 * (self.J + 2) if self.ratios else 1
        error = math.isqrt(math.ceil(Fraction(one**2 * self.T, self.T - s.ddof)) - 1) + 1
        self.tau_units = math.floor(s.tau * 2 ** (32 if self.ratios else 48)) - error
        self.factor = self.T * (self.T - s.ddof) if self.deviation else self.T  # of tau'^2
        require(self.tau_units >= 0, "statement", "tau is below the error")
        self.samples()
        self.forward()
        self.head()
        self.gradients()
        self.section_parameters()
        self.step_size()
        self.score()
        self.section_public()

    # ---- sources of the unrolled axis and forms of values

    def first(self, tensor: int, kind: str) -> Source:
        t_count, by_step = self.T, tensor in self.per_step
        if kind == "passes":
            return map_("pass", [p // 2 for p in range(self.P)]) if by_step else same("pass")
        if kind == "even":
            return same("step") if by_step else map_("step", [2 * t for t in range(t_count)])
        return map_("step", list(range(t_count - 1)) if by_step else [2 * t + 1 for t in range(t_count - 1)])

    def with_channels(self, t: int, channels: Sequence[int]) -> int:
        """The number of a part's tensor whose channels are these of its own."""
        tensor, own = self.placed.get(t, (t, None))
        key = tensor, tuple(c if c < 0 or own is None else own[c] for c in channels)
        if key not in self.numbers:
            self.numbers[key] = -1 - len(self.numbers)
            self.placed[self.numbers[key]] = key
        return self.numbers[key]

    def joined(self, values: Sequence[Value]) -> Value:
        """The channels of one value behind those of another."""
        first = values[0].sizes
        require(all((v.sizes[0], *v.sizes[2:]) == (first[0], *first[2:]) for v in values), "circuit", "joined values")
        channels, start, parts = sum(v.sizes[1] for v in values), 0, []
        self.count_windows(channels * sum(len(v.parts) for v in values))
        for v in values:
            behind = [-1] * (channels - start - v.sizes[1])
            places = [-1] * start + list(range(v.sizes[1])) + behind
            parts += [(c, self.with_channels(t, places)) for c, t in v.parts]
            start += v.sizes[1]
        return Value(parts, (first[0], channels, *first[2:]))

    def some_channels(self, v: Value, channels: Sequence[int]) -> Value:
        every = [(c, self.with_channels(t, channels)) for c, t in v.parts]
        parts = [(c, t) for c, t in every if any(k >= 0 for k in self.placed[t][1])]
        return Value(parts or every[:1], (v.sizes[0], len(channels), *v.sizes[2:]))

    def picked(self, node: dict) -> list[int]:
        n = node["count"] // option(node, "groups")
        return [node["first"] + g * n + k for k in range(n) for g in range(option(node, "groups"))]

    def f_channels(self, i: int, node: dict, x: Value) -> None:
        shape = self.model.shapes[self.model.inputs[i][0]] if self.model.inputs[i][0] >= 0 else x.sizes[1:]
        require(x.sizes[1] == shape[0], "circuit", "channels of flattened images")
        self.count_windows(len(x.parts) * node["count"])
        self.values.append(self.some_channels(x, self.picked(node)))

    def f_binary(self, i: int, node: dict, x: Value) -> None:
        require(x.sizes[1] == 1, "circuit", "one logit of flattened images")
        self.count_windows(2 * len(x.parts))
        self.values.append(self.some_channels(x, [-1, 0]))

    def g_binary(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        if not needed:
            return None
        self.count_windows(len(dy.parts))
        return self.some_channels(dy, [1])

    def factor_limbs(self, v: Value, sizes: Sequence[int]) -> list[Form]:
        """Of a branch that is multiplied to a product of these sizes."""
        sources = self.x_sources(sizes)
        if v.sizes != tuple(sizes):
            sources = [*sources[:2], *(ALL for _ in v.sizes[2:])]
        return self.value_limbs(v, "passes", sources)

    def f_multiply(self, i: int, node: dict, x: Value) -> None:
        factors = [self.value(j) for j in self.model.inputs[i]]
        a, b = (v.sizes for v in factors)
        sizes = b if (len(b), b[2:]) > (len(a), a[2:]) else a
        fits = all(v in (sizes, (*sizes[:2], 1), sizes[:2]) for v in (a, b))
        require(fits, "circuit", "sizes of a product")
        con = self.c.constraint(f"{node['name']}/forward", self.x_axes(sizes))
        y = self.output(i, "y", sizes)
        limbs = Limbs(self.c)
        limbs.product(*(self.factor_limbs(v, sizes) for v in factors))
        self.rescaled(con, self.factor_limbs(y, sizes), limbs, "y")
        self.values.append(y)

    def g_multiply(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> list[Value | None]:
        out: list[Value | None] = [None, None]
        inputs, axes = self.model.inputs[i], self.x_axes(dy.sizes)
        for n, j in enumerate(inputs):
            if j < 0 or not self.before[j]:
                continue
            kept = 4 if self.value(j).sizes == dy.sizes else 3
            con = self.c.constraint(f"{node['name']}/input-gradient{n}", axes[:kept], axes[kept:])
            dx = out[n] = self.new(f"{node['name']}/dx{n}", self.value(j).sizes)
            limbs = Limbs(self.c)
            other = self.value(inputs[1 - n])
            limbs.product(self.factor_limbs(dy, dy.sizes), self.factor_limbs(other, dy.sizes))
            self.rescaled(con, self.factor_limbs(dx, dy.sizes), limbs, f"dx{n}")
        return out

    def slope(self, i: int, node: dict, kind: str) -> list[Form]:
        """Limbs of a PReLU's parameter, over its axes."""
        single = self.model.tensors[node["weight"]].shape == [1]
        t = self.weight[node["weight"]]
        return self.c.limbs(self.c.view(t, self.first(t, kind), ALL if single else same("x1")))

    def negative(self, i: int, sizes: tuple[int, ...]) -> Value:
        """What is below zero, with the other sign: magnitude + bit - positive part."""
        t = self.tensors_of[i]
        return Value([(1, t["positive"]), (-1, t["magnitude"]), (-1, t["sign"])], sizes)

    def f_prelu(self, i: int, node: dict, x: Value) -> None:
        c, name, sources = self.c, node["name"], self.x_sources(x.sizes)
        shape = self.model.tensors[node["weight"]].shape
        require(shape == [1] or x.sizes[1] == shape[0], "circuit", "slopes of flattened images")
        self.new_weight(node["weight"], shape)
        digits = (("positive", VALUE), ("sign", radix(BIT)), ("magnitude", MAGNITUDE))
        self.tensors_of[i] = {which: self.tensor(f"{name}/{which}", x.sizes, cut) for which, cut in digits}
        q, b, m = (c.whole(self.own(t, *sources)) for t in self.tensors_of[i].values())
        con = c.constraint(f"{name}/sign", self.x_axes(x.sizes))
        c.member(con, "positive", left(product(b, m), b, neg(q)))
        c.member(con, "sign", left(scale(q, 2), neg(m), neg(b), neg(self.value_whole(x, "passes", sources))))
        con = c.constraint(f"{name}/forward", self.x_axes(x.sizes))
        y = self.output(i, "y", x.sizes)
        limbs = Limbs(c)
        limbs.product(self.slope(i, node, "passes"), self.value_limbs(self.negative(i, x.sizes), "passes", sources))
        positive = Value([(1, self.tensors_of[i]["positive"])], x.sizes)
        self.rescaled(con, self.value_limbs(y.plus(positive.times(-1)), "passes", sources), limbs, "y")
        self.values.append(y)

    def g_prelu(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        c, name, sources, axes = self.c, node["name"], self.x_sources(x.sizes), self.x_axes(x.sizes)
        dx = None
        if needed:
            kept, dx = self.new(f"{name}/kept", x.sizes), self.new(f"{name}/dx", x.sizes)
            b = c.whole(self.own(self.tensors_of[i]["sign"], *sources))
            con = c.constraint(f"{name}/kept", axes)
            whole = [self.value_whole(v, "passes", sources) for v in (dy, kept)]
            c.member(con, "kept", left(product(b, whole[0]), neg(whole[1])))
            con = c.constraint(f"{name}/input-gradient", axes)
            limbs = Limbs(c)
            rest = self.value_limbs(dy.plus(kept.times(-1)), "passes", sources)
            limbs.product(self.slope(i, node, "passes"), rest)
            self.rescaled(con, self.value_limbs(dx.plus(kept.times(-1)), "passes", sources), limbs, "dx")
        single = self.model.tensors[node["weight"]].shape == [1]

        def slope_limbs(kind: str) -> Limbs:
            limbs = Limbs(c)
            factors = (self.value_limbs(v, kind, sources) for v in (dy, self.negative(i, x.sizes)))
            limbs.product(*factors)
            return limbs

        own, summed = ([("a", 1)], axes[1:]) if single else ([axes[2]], [axes[1], *axes[3:]])
        self.parameters.append(Parameter(node["weight"], own, summed, True, slope_limbs, []))
        return dx

    def g_channels(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        if not needed:
            return None
        self.count_windows(len(dy.parts) * x.sizes[1])
        order = self.picked(node)
        return self.some_channels(dy, [order.index(c) if c in order else -1 for c in range(x.sizes[1])])

    def count_windows(self, entries: int) -> None:
        self.c.window_entries += entries
        require(self.c.window_entries <= 1 << 22, "limits", "entries of windows")

    def part_view(self, t: int, kind: str, sources: Sources) -> int:
        if t >= 0:
            return self.c.view(t, self.first(t, kind), *sources)
        tensor, channels = self.placed[t]
        require(sources[1][0] == "same", "circuit", "joined channels are read by single axes")
        return self.c.view(tensor, self.first(tensor, kind), sources[0], map_(sources[1][1], channels), *sources[2:])

    def value_limbs(self, v: Value, kind: str, sources: Sources) -> list[Form]:
        parts = []
        for c, t in v.parts:
            view = self.part_view(t, kind, sources)
            parts.append([scale(f, c) for f in self.c.limbs(view)])
        n = max((len(p) for p in parts), default=0)
        return [join(*(p[k] for p in parts if k < len(p))) for k in range(n)]

    def value_whole(self, v: Value, kind: str, sources: Sources) -> Form:
        views = [(c, self.part_view(t, kind, sources)) for c, t in v.parts]
        return join(*(scale(self.c.whole(view), c) for c, view in views))

    def tensor(self, name: str, sizes: Sequence[int], digits: list, unroll: int | None = None) -> int:
        return self.c.tensor(name, self.P if unroll is None else unroll, sizes, digits)

    def new(self, name: str, sizes: Sequence[int], digits: list = VALUE) -> Value:
        """A new tensor per pass, as a value."""
        return Value([(1, self.tensor(name, sizes, digits))], tuple(sizes))

    def own(self, tensor: int, *sources: Source) -> int:
        """The view of a tensor per pass by same(pass) and the sources."""
        return self.c.view(tensor, same("pass"), *sources)

    def x_axes(self, sizes: Sequence[int]) -> list[tuple[str, int]]:
        return [("pass", self.P), *((f"x{i}", n) for i, n in enumerate(sizes))]

    def x_sources(self, sizes: Sequence[int]) -> list[Source]:
        return [same(f"x{i}") for i in range(len(sizes))]

    def rescaled(self, con: Constraint, out: list[Form], limbs: Limbs, name: str) -> None:
        domain = Domain(tuple(con.out), True)
        wire = self.c.wire(domain, f"{name}.remainder", REM32)
        limbs.const(1 << 31)
        limbs.value(wire, -1, 0)
        for k, form in enumerate(out):
            limbs.add(neg(form), 32 + 22 * k)
        self.c.assert_zero(con, domain, name, limbs)

    # ---- 1. samples

    def samples(self) -> None:
        c, s, T, B_ = self.c, self.s, self.T, self.B
        if self.model.tokens is not None:
            self.windows_of_tokens(self.model.tokens, self.model.input["shape"][2])
            return
        C, H, W = self.model.input["shape"]
        p = self.model.input["pad"]
        hp, wp = H + 2 * p, W + 2 * p
        S, n, u8 = hp * wp, C * H * W, s.schema["kind"] == "u8"
        w, l = 1 if u8 else 6, s.schema["label_bytes"]
        N = n * w + l
        self.sample_bytes = N
        mean, std = ([exact(x) for x in self.model.input[k]] for k in ("mean", "std"))
        if u8:
            large = all(1 < x <= 255 for x in mean + std)
            require(not large, "statement", "mean and std look like those of bytes")
            self.input_a = [nearest(Fraction(2**32) / (255 * d)) for d in std]
        else:
            self.input_a = [nearest(Fraction(2**16) / d) for d in std]
        self.input_c = [nearest(-m * 2**32 / d) for m, d in zip(mean, std)]
        if u8:
            ok = all(max(abs(k), abs(255 * a + k)) < 2**43 for a, k in zip(self.input_a, self.input_c))
            require(ok, "statement", "an input is too large")
        data = c.tensor("sample/bytes", T, (B_, N), radix(U(8)))
        random = c.tensor("sample/randomness", T, (B_, 1280), radix(U(8)))
        self.per_step |= {data, random}
        c.links.append(("sample", (T, B_, 160), [data, random]))
        inp = c.tensor("input", T, (B_, C, S), VALUE)
        self.per_step.add(inp)
        self.input = Value([(1, inp)], (B_, C, S))
        axes = [("step", T), ("b", B_), ("s", S)]
        inside = [1 if p <= y < p + H and p <= x < p + W else 0 for y in range(hp) for x in range(wp)]
        st, sb = same("step"), same("b")
        for ch in range(C):
            con = c.constraint(f"input/channel{ch}", axes)
            places = []
            for i in range(w):
                place = [-1] * S
                for y in range(p, p + H):
                    for x in range(p, p + W):
                        place[y * wp + x] = w * (ch * H * W + (y - p) * W + (x - p)) + i
                places.append(place)
            X = c.view(inp, st, sb, wsum(unit(C, ch)), same("s"))
            reads = [c.view(data, st, sb, map_("s", place)) for place in places]
            A, K = self.input_a[ch], self.input_c[ch]
            if u8:
                c.member(con, "normalise", left(scale(c.whole(reads[0]), A), neg(c.whole(X)), K))
                continue
            domain = Domain(tuple(axes), True)
            rem = c.wire(domain, f"input/channel{ch}.remainder", radix(U(16)))
            limbs = Limbs(c)
            for i in range(w):
                limbs.add(scale(c.whole(reads[i]), A), 8 * i)
            limbs.value(X, -1, 16)
            limbs.value(rem, -1, 0)
            limbs.const(2**15 + 2**16 * K)
            for k, v in enumerate(limbs_of(2**43 * A)):
                const = add(0) if v == 0 else type(add(0))(constants=((-v, (("s", tuple(inside)),)),))
                limbs.add(const, 22 * k)
            c.assert_zero(con, domain, "normalise", limbs)
        self.label = c.tensor("label", T, (B_, self.J), radix(BIT))
        con = c.constraint("label", [("step", T), ("b", B_)])
        c.member(con, "one", left(c.whole(c.view(self.label, st, sb, ALL)), -1))
        index = c.whole(c.view(self.label, st, sb, wsum(range(self.J))))
        place = [0] * N
        for i in range(l):
            place[n * w + i] = 256**i
        c.member(con, "index", left(index, neg(c.whole(c.view(data, st, sb, wsum(place))))))

    def windows_of_tokens(self, V: int, L: int) -> None:
        c, T, B_, w = self.c, self.T, self.B, self.s.schema["label_bytes"]
        N = self.sample_bytes = (L + 1) * w
        data = c.tensor("sample/bytes", T, (B_, N), radix(U(8)))
        random = c.tensor("sample/randomness", T, (B_, 1280), radix(U(8)))
        c.links.append(("sample", (T, B_, 160), [data, random]))
        self.label = c.tensor("token", T, (B_, V, L + 1), radix(BIT))
        self.per_step |= {data, random, self.label}
        self.input = Value([(1, self.label)], (B_, V, L + 1))
        con = c.constraint("token", [("step", T), ("b", B_), ("s", L + 1)])
        st, sb, ss = same("step"), same("b"), same("s")
        c.member(con, "one", left(c.whole(c.view(self.label, st, sb, ALL, ss)), -1))
        index = left(c.whole(c.view(self.label, st, sb, wsum(range(V)), ss)))
        for i in range(w):
            view = c.view(data, st, sb, map_("s", [w * k + i for k in range(L + 1)]))
            index = left(index, scale(c.whole(view), -(256**i)))
        c.member(con, "index", index)

    # ---- 2. layers

    def value(self, i: int) -> Value:
        return self.input if i < 0 else self.values[i]

    def node_x(self, i: int) -> Value:
        inputs = self.model.inputs[i]
        if self.model.graph[i]["op"] == "cat":
            return self.joined([self.value(j) for j in inputs])
        x = self.value(inputs[0])
        if self.model.graph[i]["op"] == "multiply":
            return x  # and the other one apart
        for j in inputs[1:]:
            x = x.plus(self.value(j))
        return x

    def rectifier(self, i: int) -> tuple[int, Value | None] | None:
        """The ReLU whose tensors are the output of node i, and the rest of the sum that it reads."""
        graph = self.model.graph
        if len(self.readers[i]) != 1:
            return None
        r = self.readers[i][0]
        if graph[r]["op"] == "relu":
            return r, None
        if graph[r]["op"] == "add":
            a, b = self.model.inputs[r]
            o = b if a == i else a
            if o < i and len(self.readers[r]) == 1 and graph[self.readers[r][0]]["op"] == "relu":
                return self.readers[r][0], self.value(o)
        return None

    def relu_tensors(self, r: int, sizes: tuple[int, ...]) -> None:
        name = self.model.graph[r]["name"]
        y = self.tensor(f"{name}/y", sizes, VALUE)
        sign = self.tensor(f"{name}/sign", sizes, radix(BIT))
        self.relu[r] = (y, sign, self.tensor(f"{name}/magnitude", sizes, MAGNITUDE), sizes)

    def relu_z(self, r: int) -> Value:
        y, sign, magnitude, sizes = self.relu[r]
        return Value([(2, y), (-1, magnitude), (-1, sign)], sizes)

    def output(self, i: int, suffix_: str, sizes: tuple[int, ...]) -> Value:
        """The output of a node: a new tensor, or rectified."""
        found = self.rectifier(i)
        if found is None:
            return self.new(f"{self.model.graph[i]['name']}/{suffix_}", sizes)
        r, rest = found
        self.relu_tensors(r, sizes)
        z = self.relu_z(r)
        return z if rest is None else z.plus(rest.times(-1))

    def forward(self) -> None:
        graph = self.model.graph
        self.values: list[Value] = []
        self.xs: list[Value] = []
        self.readers: list[list[int]] = [[] for _ in graph]
        for j, inputs in enumerate(self.model.inputs):
            for i in inputs:
                if i >= 0:
                    self.readers[i].append(j)
        self.relu: dict[int, tuple[int, int, int, tuple[int, ...]]] = {}
        self.tensors_of: dict[int, dict[str, int]] = {}
        terms: list[int] = []
        joined: list[bool] = []
        for i, node in enumerate(graph):
            x = self.node_x(i)
            self.xs.append(x)
            getattr(self, "f_" + node["op"])(i, node, x)
            count = lambda j: 1 if j < 0 else terms[j]  # noqa: E731
            if node["op"] in ("add", "cat"):
                n = sum(map(count, self.model.inputs[i]))
            else:
                n = count(self.model.inputs[i][0]) if node["op"] in (*KEEPS, "channels", "binary") else 1
            only_relu = len(self.readers[i]) == 1 and graph[self.readers[i][0]]["op"] == "relu"
            first = self.model.inputs[i][0]
            join_ = node["op"] in MOVES or (node["op"] in KEEPS and first >= 0 and joined[first])
            wants = any(graph[r]["op"] == "add" or "weight" in graph[r] for r in self.readers[i])
            if (n > 4 and not only_relu) or (join_ and wants):
                self.values[i] = self.long_sum(f"{node['name']}/sum", self.values[i])
                n, join_ = 1, False
            terms.append(n)
            joined.append(join_)

    def long_sum(self, name: str, v: Value) -> Value:
        """A sum of more than four terms gets a tensor."""
        out = self.new(name, v.sizes)
        con = self.c.constraint(name, self.x_axes(v.sizes))
        sources = self.x_sources(v.sizes)
        whole = self.value_whole(v, "passes", sources)
        self.c.member(con, "sum", left(whole, neg(self.value_whole(out, "passes", sources))))
        return out

    def f_add(self, i: int, node: dict, x: Value) -> None:
        self.values.append(x)

    f_flatten = f_cat = f_line = f_add

    def contraction(self, i: int, node: dict, x: Value) -> tuple[Axes, list[Source], Axes]:
        """Axes of the weight, sources INPUT of the input, output axes behind o."""
        shape = self.model.tensors[node["weight"]].shape
        if node["op"] == "linear":
            inner = [("f", x.sizes[1])] if len(x.sizes) == 2 else [("c", x.sizes[1]), ("s", x.sizes[2])]
            return [("o", shape[0]), *inner], [same(a) for a, _ in inner], []
        if node["op"] == "unembedding":
            return [("o", shape[0]), ("c", shape[1])], [same("c"), same("s")], [("s", x.sizes[2])]
        win = self.window(i, node, shape[2:])
        axes = [("o", shape[0] // option(node, "groups")), ("k", win.entries), ("c", shape[1])]
        return axes, [self.channels(node, axes[2]), gather("k", "s", win.reads)], [("s", win.outputs)]

    def group_axes(self, node: dict) -> Axes:
        groups = option(node, "groups") if node["op"] == "conv2d" else 1
        return [("g", groups)] if groups > 1 else []

    def channels(self, node: dict, axis: tuple[str, int]) -> Source:
        """How the channels of a convolution's input or output are read, or features."""
        if not self.group_axes(node):
            return same(axis[0])
        return gather("g", axis[0], groups_table(option(node, "groups"), axis[1]))

    def image(self, i: int) -> Sequence[int]:
        """Height and width of what a node reads."""
        j, p = self.model.inputs[i][0], self.model.pad
        return [n + 2 * p for n in self.model.input["shape"][1:]] if j < 0 else self.model.shapes[j][1:]

    def window(self, i: int, node: dict, kernel: Sequence[int]) -> Window:
        if i not in self.windows:
            shape, (kh, kw) = self.image(i), kernel
            pool = node["op"] != "conv2d"
            padding = option(node, "padding") if pool else node["padding"]
            dilation, ceil = ([1, 1], option(node, "ceil")) if pool else (option(node, "dilation"), False)
            outs = math.prod(self.model.shapes[i][1:])
            self.count_windows(kh * kw * max(outs, shape[0] * shape[1]))
            self.windows[i] = Window(shape, kernel, node["stride"], padding, dilation, ceil=ceil)
        return self.windows[i]

    def new_weight(self, name: str, sizes: Sequence[int]) -> int:
        t = self.tensor(f"weight/{name}", sizes, WEIGHT)
        self.weight[name] = t
        self.public.append((t, self.quantised(name)))
        return t

    def quantised(self, name: str) -> list[int]:
        """In the order of the entries of the parameter's tensor."""
        tensor = self.model.tensors[name]
        out = [nearest(Fraction(v) * 2**32) for v in tensor.numbers()]
        require(all(abs(w) < 2**39 for w in out), "model", "a parameter is too large")
        if len(tensor.shape) == 4:  # a convolution's: channels behind the kernel's positions
            channels, positions = tensor.shape[1], math.prod(tensor.shape[2:])
            step = channels * positions
            starts = [o + k for o in range(0, len(out), step) for k in range(positions)]
            out = [out[start + c * positions] for start in starts for c in range(channels)]
        return out

    def f_linear(self, i: int, node: dict, x: Value) -> None:
        c = self.c
        waxes, inp, positions = self.contraction(i, node, x)
        groups, outputs = self.group_axes(node), self.model.tensors[node["weight"]].shape[0]
        if node["weight"] in self.model.shared:
            W = self.weight[node["weight"]]
        else:
            W = self.new_weight(node["weight"], [n for _, n in groups + waxes])
        weight = self.own(W, *(same(a) for a, _ in groups + waxes))
        bias, so = None, self.channels(node, waxes[0])
        if node.get("bias") is not None:
            bias = self.own(self.new_weight(node["bias"], [outputs]), so)
        axes = [("pass", self.P), ("b", self.B), *groups, waxes[0], *positions]
        z = self.output(i, "z", (self.B, outputs, *(n for _, n in positions)))
        factors = self.value_limbs(x, "passes", [same("b"), *inp]), c.limbs(weight)
        out = self.value_limbs(z, "passes", [same("b"), so, *(same(a) for a, _ in positions)])
        self.scaled_down(f"{node['name']}/forward", axes, waxes[1:], *factors, bias, out, "z")
        self.values.append(z)

    def scaled_down(
        self,
        name: str,
        axes: Axes,
        summed: Axes,
        left_: list[Form],
        right: list[Form],
        bias: int | None,
        out: list[Form],
        label: str,
    ) -> None:
        """A contraction, rescaled: a congruence, or limbs with carries."""
        c = self.c
        rest = [(v, d, -(k << 32)) for v, d, k in c.worths(out)]
        rest += [] if bias is None else c.whole_worths(bias, 1 << 32)
        cut = [at(U(22), 0), at(B(10), 22)]
        if c.contracted(name, axes, summed, left_, right, cut, rest, *self.cost):
            return
        con, limbs = c.constraint(name, axes, summed), Limbs(c)
        limbs.product(left_, right)
        if bias is not None:
            limbs.value(bias, 1, 32)
        self.rescaled(con, out, limbs, label)

    f_conv2d = f_unembedding = f_linear

    def f_relu(self, i: int, node: dict, x: Value) -> None:
        c = self.c
        if i not in self.relu:
            self.relu_tensors(i, x.sizes)
        y, sign, magnitude, sizes = self.relu[i]
        require(sizes == x.sizes, "circuit", "sizes of a rectified output")
        sources = self.x_sources(sizes)
        con = c.constraint(f"{node['name']}/forward", self.x_axes(sizes))
        a, s, m = (c.whole(self.own(t, *sources)) for t in (y, sign, magnitude))
        c.member(con, "output", left(product(s, m), s, neg(a)))
        if x.plus(self.relu_z(i).times(-1)).parts:
            whole = self.value_whole(x, "passes", sources)
            c.member(con, "sign", left(scale(a, 2), neg(m), neg(s), neg(whole)))
        self.values.append(Value([(1, y)], sizes))

    def f_leaky_relu(self, i: int, node: dict, x: Value) -> None:
        c, name = self.c, node["name"]
        sign = self.tensor(f"{name}/sign", x.sizes, radix(BIT))
        magnitude = self.tensor(f"{name}/magnitude", x.sizes, MAGNITUDE)
        sources = self.x_sources(x.sizes)
        b, m = (c.whole(self.own(t, *sources)) for t in (sign, magnitude))
        self.tensors_of[i] = {"sign": sign}
        con = c.constraint(f"{name}/sign", self.x_axes(x.sizes))
        whole = self.value_whole(x, "passes", sources)
        c.member(con, "sign", left(product(b, scale(m, 2)), b, neg(m), neg(whole)))
        out = self.output(i, "y", x.sizes)
        con = c.constraint(f"{name}/forward", self.x_axes(x.sizes))
        self.scaled_by_slope(i, con, out, x, "y")
        self.values.append(out)

    def scaled_by_slope(self, i: int, con: Constraint, out: Value, v: Value, name: str) -> None:
        sources = self.x_sources(v.sizes)
        s = nearest(exact(self.model.graph[i]["negative_slope"]) * 2**32)
        V = self.value_limbs(v, "passes", sources)
        limbs = Limbs(self.c)
        for k, form in enumerate(V):
            limbs.add(scale(form, s), 22 * k)
        if s < 2**32:
            b = self.c.whole(self.own(self.tensors_of[i]["sign"], *sources))
            limbs.product([b], V, 2**32 - s)
        self.rescaled(con, self.value_limbs(out, "passes", sources), limbs, name)

    def f_hardtanh(self, i: int, node: dict, x: Value) -> None:
        low, high = int(node["low"] * 1024), int(node["high"] * 1024)
        self.values.append(self.clamp(i, node, x, low, high, "y", "forward"))

    def clamp(self, i: int, node: dict, x: Value, low: int, high: int, inner: str, label: str) -> Value:
        """The value that lies between the bounds, in units of 2^-10."""
        c, name = self.c, node["name"]
        digits = (radix(U(22), (low, high - low)), radix(BIT), radix(BIT), MAGNITUDE)
        names = zip((inner, "above", "below", "excess"), digits)
        ts = [self.tensor(f"{name}/{which}", x.sizes, cut) for which, cut in names]
        sources = self.x_sources(x.sizes)
        q, u, b, e = (c.whole(self.own(t, *sources)) for t in ts)
        self.tensors_of[i] = {"above": ts[1], "below": ts[2]}
        con = c.constraint(f"{name}/{label}", self.x_axes(x.sizes))
        whole = self.value_whole(x, "passes", sources)
        L, H = low << 22, high << 22
        c.member(con, "value", left(product(u, e), product(neg(b), e), q, u, neg(whole)))
        c.member(con, "low", left(product(b, q), scale(b, -L)))
        c.member(con, "high", left(product(u, q), scale(u, 1 - H)))
        rest = left(q, neg(e))  # a form: q - e
        inside = left(product(u, rest.linear), product(b, rest.linear), e, neg(q), scale(merge(u, b), -L - 1), L + 1)
        c.member(con, "inside", inside)
        return Value([(1, ts[0]), (1, ts[1])], x.sizes)

    def sixth(self, name: str, sizes: Sequence[int], out: Value, total_: Expr) -> None:
        c, sources = self.c, self.x_sources(sizes)
        rest = self.tensor(f"{name}.remainder", sizes, radix(R(6)))
        con = c.constraint(name, self.x_axes(sizes))
        whole = scale(self.value_whole(out, "passes", sources), 6)
        c.member(con, "sixth", left(whole, c.whole(self.own(rest, *sources)), total_.times(-1), -3))

    def f_hardsigmoid(self, i: int, node: dict, x: Value) -> None:
        between = self.clamp(i, node, x, -3072, 3072, "inner", "clamp")
        y = self.new(f"{node['name']}/y", x.sizes)
        whole = self.value_whole(between, "passes", self.x_sources(x.sizes))
        self.sixth(f"{node['name']}/forward", x.sizes, y, left(whole, 3 << 32))
        self.values.append(y)

    def g_hardsigmoid(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        if not needed:
            return None
        sources = self.x_sources(x.sizes)
        dx = self.new(f"{node['name']}/dx", x.sizes)
        bits_ = Value([(1, self.tensors_of[i][k]) for k in ("above", "below")], x.sizes)
        outside, whole = (self.value_whole(v, "passes", sources) for v in (bits_, dy))
        self.sixth(f"{node['name']}/backward", x.sizes, dx, left(whole, product(neg(outside), whole)))
        return dx

    def by_two_bounds(self, name: str, out: Value, v: Value, factor: list[Form], label: str) -> None:
        c, sources = self.c, self.x_sources(v.sizes)
        con = c.constraint(name, self.x_axes(v.sizes))
        domain = Domain(tuple(con.out), True)
        rest = c.wire(domain, f"{name}.remainder", radix(U(22), R(6144)))
        limbs, V = Limbs(c), self.value_limbs(v, "passes", sources)
        limbs.product(V, factor)
        limbs.const(3 << 32)
        limbs.value(rest, -1, 0)
        for k, form in enumerate(V):
            limbs.add(scale(form, 3072), 22 * (k + 1))
        for k, form in enumerate(self.value_limbs(out, "passes", sources)):
            limbs.add(scale(form, -6144), 22 * (k + 1))
        c.assert_zero(con, domain, label, limbs)

    def f_hardswish(self, i: int, node: dict, x: Value) -> None:
        between = self.clamp(i, node, x, -3072, 3072, "inner", "clamp")
        self.tensors_of[i]["between"] = between
        y = self.new(f"{node['name']}/y", x.sizes)
        factor = self.value_limbs(between, "passes", self.x_sources(x.sizes))
        self.by_two_bounds(f"{node['name']}/forward", y, x, factor, "y")
        self.values.append(y)

    def g_hardswish(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        if not needed:
            return None
        sources, t = self.x_sources(x.sizes), self.tensors_of[i]
        dx = self.new(f"{node['name']}/dx", x.sizes)
        low, high = self.value_limbs(t["between"].times(2), "passes", sources)
        sides = self.value_whole(Value([(1, t["below"]), (-1, t["above"])], x.sizes), "passes", sources)
        factor = [low, merge(high, scale(sides, 3072))]
        self.by_two_bounds(f"{node['name']}/input-gradient", dx, dy, factor, "dx")
        return dx

    def g_hardtanh(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        if not needed:
            return None
        c, sources = self.c, self.x_sources(x.sizes)
        dx = self.new(f"{node['name']}/dx", x.sizes)
        con = c.constraint(f"{node['name']}/backward", self.x_axes(x.sizes))
        bits_ = Value([(1, self.tensors_of[i][k]) for k in ("above", "below")], x.sizes)
        outside, whole = (self.value_whole(v, "passes", sources) for v in (bits_, dy))
        gradient = left(whole, product(neg(outside), whole), neg(self.value_whole(dx, "passes", sources)))
        c.member(con, "gradient", gradient)
        return dx

    def f_function(self, i: int, node: dict, x: Value) -> None:
        c, name, function = self.c, node["name"], node["function"]
        digits = {
            **{"segment": radix(B(22)), "offset": radix(B(22)), "over": radix(U(22)), "under": radix(U(22))},
            **{"y": VALUE, "slope": radix(B(22), B(12)), "bend": radix(B(22)), "turn": radix(B(22))},
            **{"turn.remainder": radix(U(22)), "step": radix(U(22), (-1, 2)), "step.remainder": REM32},
        }
        ts = {which: self.tensor(f"{name}/{which}", x.sizes, cut) for which, cut in digits.items()}
        sources, axes = self.x_sources(x.sizes), self.x_axes(x.sizes)
        g, t, a, b, y, d, s, w, r, v, q = (c.whole(self.own(tensor, *sources)) for tensor in ts.values())
        first, last = function_ends(function)
        con = c.constraint(f"{name}/forward", axes)
        whole = self.value_whole(x, "passes", sources)
        c.member(con, "split", left(t, scale(g, 1 << 22), scale(a, 1 << 22), scale(b, -1 << 22), neg(whole), 1 << 21))
        c.member(con, "over", left(product(a, g), scale(a, -last)))
        c.member(con, "under", left(product(b, g), scale(b, -first)))
        c.member(con, "turn", left(product(s, t), scale(w, -1 << 22), neg(r), 1 << 21))
        c.member(con, "step", left(product(merge(d, neg(w)), t), scale(v, -1 << 32), neg(q), 1 << 31))
        middle = left(y, neg(v)) if FUNCTIONS[function][5] is not None else left(y, neg(v), scale(a, -1 << 22))
        table = Function(f"segments {function}", function_rows(function))
        c.lookup(f"{name}/segment", axes, table, [g, middle.linear, merge(d, scale(w, -2)), s])
        self.tensors_of[i] = {"slope": ts["slope"]}
        self.values.append(Value([(1, ts["y"])], x.sizes))

    def g_function(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        if not needed:
            return None
        sources = self.x_sources(x.sizes)
        dx = self.new(f"{node['name']}/dx", x.sizes)
        con = self.c.constraint(f"{node['name']}/input-gradient", self.x_axes(x.sizes))
        slope = Value([(1, self.tensors_of[i]["slope"])], x.sizes)
        limbs = Limbs(self.c)
        limbs.product(*(self.value_limbs(v, "passes", sources) for v in (slope, dy)))
        self.rescaled(con, self.value_limbs(dx, "passes", sources), limbs, "dx")
        return dx

    def f_maxpool2d(self, i: int, node: dict, x: Value) -> None:
        c, name = self.c, node["name"]
        win = self.window(i, node, node["kernel"])
        K, S, C, N = win.entries, win.outputs, x.sizes[1], win.inside
        y = self.tensor(f"{name}/y", (self.B, C, S), VALUE)
        choice = self.tensor(f"{name}/choice", (self.B, C, N), radix(BIT))
        slack = self.tensor(f"{name}/slack", (self.B, C, N), MAGNITUDE)
        self.tensors_of[i] = {"choice": choice}
        axes = [("pass", self.P), ("b", self.B), ("c", C)]
        con = c.constraint(f"{name}/forward", [*axes, ("k", K), ("s", S)])
        bc = [same("b"), same("c")]
        pairs = gather("k", "s", win.pairs)
        d = c.whole(self.own(slack, *bc, pairs))
        xk = self.value_whole(x, "passes", [*bc, gather("k", "s", win.reads)])
        if N == K * S:
            before = c.whole(self.own(choice, *bc, suffix("k", "s", win.pairs)))
            c.member(con, "slack", left(d, neg(c.whole(self.own(y, *bc, same("s")))), xk, neg(before), 1))
        else:
            own = c.whole(self.own(y, *bc, gather("k", "s", win.windows)))
            c.member(con, "slack", left(d, neg(own), xk, c.whole(self.own(choice, *bc, tail("k", "s", win.pairs)))))
        c.member(con, "maximum", product(c.whole(self.own(choice, *bc, pairs)), d))
        con = c.constraint(f"{name}/choice", [*axes, ("s", S)])
        c.member(con, "one", left(c.whole(self.own(choice, *bc, total("s", win.pairs))), -1))
        self.values.append(Value([(1, y)], (self.B, C, S)))

    def divisors(self, i: int, node: dict) -> list[int]:
        win = self.windows[i]
        if isinstance(win, AdaptiveWindow):
            return win.divisors
        if option(node, "divisor"):
            return [option(node, "divisor")] * win.outputs
        out = []
        for s in range(win.outputs):
            extents = []
            padding = option(node, "padding")
            for o, n, k, stride, p in zip(
                divmod(s, win.columns), self.image(i), node["kernel"], node["stride"], padding
            ):
                places = range(o * stride - p, o * stride - p + k)
                lo, hi = (0, n) if option(node, "inside") else (-p, n + p)
                extents.append(sum(lo <= at_ < hi for at_ in places))
            out.append(extents[0] * extents[1])
        return out

    def f_avgpool2d(self, i: int, node: dict, x: Value) -> None:
        if node["op"] == "avgpool2d":
            self.window(i, node, node["kernel"])
        else:
            win = self.windows[i] = AdaptiveWindow(self.image(i), node["size"])
            sizes_of = [len(t.rows) * len(t.rows[0]) for t in (win.reads, win.readers)]
            self.count_windows(max(sizes_of))
        win, name, D = self.windows[i], node["name"], self.divisors(i, node)
        sizes = (self.B, x.sizes[1], win.outputs)
        y = self.new(f"{name}/y", sizes)
        bc = [same("b"), same("c")]
        whole = self.value_whole(x, "passes", [*bc, total("s", win.reads)])
        if len(set(D)) == 1:
            self.mean_of(name, "forward", y, "s", whole, D[0])
        else:
            self.divided(f"{name}/forward", y, whole, D)
        self.values.append(y)

    f_adaptiveavgpool2d = f_avgpool2d

    def g_avgpool2d(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        if not needed:
            return None
        c, win, name, D, bc = self.c, self.windows[i], node["name"], self.divisors(i, node), [same("b"), same("c")]
        back = total("i", win.readers)
        if len(set(D)) == 1:
            dx = self.new(f"{name}/dx", x.sizes)
            self.mean_of(name, "backward", dx, "i", self.value_whole(dy, "passes", [*bc, back]), D[0])
            return dx
        share = self.new(f"{name}/share", dy.sizes)
        self.divided(f"{name}/share", share, self.value_whole(dy, "passes", [*bc, same("s")]), D)
        dx = self.new(f"{name}/dx", x.sizes)
        con = c.constraint(f"{name}/backward", [("pass", self.P), ("b", self.B), ("c", x.sizes[1]), ("i", x.sizes[2])])
        whole = self.value_whole(share, "passes", [*bc, back])
        c.member(con, "gradient", left(whole, neg(self.value_whole(dx, "passes", [*bc, same("i")]))))
        return dx

    g_adaptiveavgpool2d = g_avgpool2d

    def mean_of(self, name: str, which: str, out: Value, axis: str, whole: Form, D: int) -> None:
        """The mean of a sum, rounded, of one divisor: an average pooling, forward or backward."""
        c, sizes = self.c, out.sizes
        rem = self.tensor(f"{name}/{which}.remainder", sizes, radix(R(D)))
        con = c.constraint(f"{name}/{which}", [("pass", self.P), ("b", sizes[0]), ("c", sizes[1]), (axis, sizes[2])])
        own = [same("b"), same("c"), same(axis)]
        y, r = self.value_whole(out, "passes", own), c.whole(self.own(rem, *own))
        c.member(con, "mean", left(scale(y, D), r, neg(whole), -(D // 2)))

    def divided(self, name: str, out: Value, whole: Form, D: list[int]) -> None:
        c, sizes, digits = self.c, out.sizes, radix(R(max(D)))
        rem, slack = (self.tensor(f"{name}.{which}", sizes, digits) for which in ("remainder", "slack"))
        con = c.constraint(name, [("pass", self.P), ("b", sizes[0]), ("c", sizes[1]), ("s", sizes[2])])
        bc = [same("b"), same("c")]
        r, t = (c.whole(self.own(x, *bc, same("s"))) for x in (rem, slack))
        times = self.value_whole(out, "passes", [*bc, scaled("s", D)])
        constant = lambda v: Expr(constants=((-1, (("s", tuple(v)),)),))  # noqa: E731
        c.member(con, "mean", left(times, r, neg(whole), constant(d // 2 for d in D)))
        c.member(con, "below", left(r, t, constant(d - 1 for d in D)))

    # batch-norms

    def norm(self, node: dict) -> Norm:
        name = node["name"]
        if name not in self.norms:
            t = self.model.tensors
            mean, var = ([Fraction(v) for v in t[node[k]].numbers()] for k in ("mean", "var"))
            eps = exact(node["eps"])
            require(all(0 <= v < 2**64 - eps for v in var), "model", "a variance")
            A = [(math.isqrt(math.floor(2**66 / (v + eps))) + 1) // 2 for v in var]
            m = [nearest(v * 2**32) for v in mean]
            require(all(abs(v) < 2**43 for v in A + m), "model", "A or m of a batch-norm")
            gamma = t[node["weight"]].numbers()
            require(all(abs(g) * a / 2**32 < 64 - 2**-10 for g, a in zip(gamma, A)), "model", "gamma A")
            self.norms[name] = Norm(A, m)
        return self.norms[name]

    def subtract_mean(self, limbs: Limbs, norm: Norm, v: Value) -> None:
        for sign in (1, -1):
            for k in (0, 1):
                vector = limb([max(sign * m, 0) for m in norm.mean], k)
                if not any(vector):
                    continue
                rest = [ALL] * len(v.sizes[2:])
                sources = [scaled("c", vector)] if len(v.sizes) == 1 else [ALL, scaled("c", vector), *rest]
                for j, form in enumerate(self.value_limbs(v, "passes", sources)):
                    limbs.add(scale(form, -sign), 22 * (k + j))

    def multiple(self, norm: Norm, tensor: int, kind: str) -> Limbs:
        limbs = Limbs(self.c)
        for k in (0, 1):
            limbs.value(self.c.view(tensor, self.first(tensor, kind), scaled("c", limb(norm.scale, k))), 1, 22 * k)
        return limbs

    def f_batchnorm2d(self, i: int, node: dict, x: Value) -> None:
        c, name, norm = self.c, node["name"], self.norm(node)
        C = x.sizes[1]
        require(len(norm.scale) == C, "circuit", "channels of a batch-norm")
        gamma, beta = self.new_weight(node["weight"], [C]), self.new_weight(node["bias"], [C])
        con = c.constraint(f"{name}/scale", [("pass", self.P), ("c", C)])
        u = Value([(1, self.tensor(f"{name}/u", [C], radix(B(22), B(17))))], (C,))
        self.tensors_of[i] = {"u": u.parts[0][1]}
        u_limbs = self.value_limbs(u, "passes", [same("c")])
        self.rescaled(con, u_limbs, self.multiple(norm, gamma, "passes"), "u")
        axes = [("b", self.B), ("c", C), *(("s", n) for n in x.sizes[2:])]
        sources = [same(a) for a, _ in axes]
        con = c.constraint(f"{name}/forward", [("pass", self.P), *axes])
        limbs = Limbs(c)
        limbs.product(u_limbs, self.value_limbs(x, "passes", sources))
        self.subtract_mean(limbs, norm, u)
        limbs.value(self.own(beta, same("c")), 1, 32)
        y = self.output(i, "y", x.sizes)
        self.rescaled(con, self.value_limbs(y, "passes", sources), limbs, "y")
        self.values.append(y)

    def statistics(self, i: int, node: dict, x: Value) -> Statistics:
        """How a group norm reads."""
        G, each = node["groups"], option(node, "each")
        C = x.sizes[1]
        require(self.model.tensors[node["weight"]].shape == [C], "circuit", "channels of a group norm")
        table, s = channels_table(G, C // G), [("s", n) for n in x.sizes[2:]]
        alone, joint = (s, []) if each else ([], s)
        n = C // G * math.prod(k for _, k in joint)
        eps = math.floor(Fraction(repr(node["eps"])) * (n << 64) + Fraction(1, 2))
        axes = [("pass", self.P), ("b", self.B), ("g", G), *alone]
        entries = [("pass", self.P), ("b", self.B), ("g", G), ("c", C // G), *s]
        flat = [("pass", self.P), ("b", self.B), ("o", C), *s]
        over_c = total("g", table)
        sums = [same("b"), over_c, *(same(a) for a, _ in alone), *(ALL for _ in joint)]
        inner = [same("b"), gather("c", "g", table), *(same(a) for a, _ in s)]
        return Statistics(axes, [("c", C // G), *joint], entries, flat, sums, inner, n, eps)

    def statistic(self, name: str, st: Statistics) -> Value:
        return self.new(name, [k for _, k in st.axes[1:]])

    def of_statistic(self, v: Value, st: Statistics) -> list[Form]:
        return self.value_limbs(v, "passes", [same(a) for a, _ in st.axes[1:]])

    def mean_statistic(self, name: str, v: Value, st: Statistics) -> tuple[Value, int]:
        c, out = self.c, self.statistic(name, st)
        rest = c.wire(Domain(tuple(st.axes), True), f"{name}.remainder", radix((0, st.n)))
        con = c.constraint(name, st.axes)
        whole = self.value_whole(out, "passes", [same(a) for a, _ in st.axes[1:]])
        summed = self.value_whole(v, "passes", st.sums)
        c.member(con, "mean", left(scale(whole, st.n), c.whole(rest), neg(summed), -(st.n // 2)))
        return out, rest

    def times_centred(self, limbs: Limbs, v: Value, mean: Value, a: list[Form], st: Statistics) -> None:
        limbs.product(self.value_limbs(v, "passes", st.inner), a)
        limbs.product(self.of_statistic(mean, st), a, -1)

    def f_groupnorm(self, i: int, node: dict, x: Value) -> None:
        c, name, st = self.c, node["name"], self.statistics(i, node, x)
        self.count_windows(x.sizes[1])
        domain = Domain(tuple(st.axes), True)
        mean, rest = self.mean_statistic(f"{name}/mean", x, st)
        con = c.constraint(f"{name}/squares", st.axes, st.summed)
        squares = c.wire(domain, f"{name}/squares", radix(*[U(22)] * 5))
        limbs = Limbs(c)
        own = self.value_limbs(x, "passes", st.inner)
        limbs.product(own, own)
        limbs.value(squares, -1)
        c.assert_zero(con, domain, "sum", limbs)
        con = c.constraint(f"{name}/root", st.axes)
        v = c.wire(domain, f"{name}/v", radix(*[U(22)] * 5))
        a = self.statistic(f"{name}/a", st)
        aa = c.wire(domain, f"{name}/a2", radix(*[U(22)] * 4))
        low, high = (c.wire(domain, f"{name}/{which}", radix(*[U(22)] * 7)) for which in ("low", "high"))
        m_limbs, a_limbs = self.of_statistic(mean, st), self.of_statistic(a, st)
        mean_view, a_view = (self.own(w.parts[0][1], *(same(k) for k, _ in st.axes[1:])) for w in (mean, a))
        limbs = Limbs(c)
        limbs.value(squares)
        limbs.value(v, -1)
        limbs.product(m_limbs, m_limbs, -st.n)
        limbs.product(m_limbs, [c.whole(rest)], -2)
        self.wide_multiple(limbs, mean_view, 2 * (st.n // 2))
        c.assert_zero(con, domain, "v", limbs)
        limbs = Limbs(c)
        limbs.product(a_limbs, a_limbs)
        limbs.value(aa, -1)
        c.assert_zero(con, domain, "a2", limbs)
        limbs = Limbs(c)
        limbs.const(st.n << 128)
        limbs.product(c.limbs(aa), c.limbs(v), -1)
        self.wide_multiple(limbs, aa, -st.eps)
        limbs.value(low, -1)
        c.assert_zero(con, domain, "low", limbs)
        limbs = Limbs(c)
        limbs.product(c.limbs(aa), c.limbs(v))
        self.wide_multiple(limbs, aa, st.eps)
        limbs.product(a_limbs, c.limbs(v), 2)
        limbs.value(v)
        self.wide_multiple(limbs, a_view, 2 * st.eps)
        limbs.const(st.eps - (st.n << 128) - 1)
        limbs.value(high, -1)
        c.assert_zero(con, domain, "high", limbs)
        con = c.constraint(f"{name}/normalised", st.entries)
        h = self.new(f"{name}/h", x.sizes)
        limbs = Limbs(c)
        self.times_centred(limbs, x, mean, a_limbs, st)
        self.rescaled(con, self.value_limbs(h, "passes", st.inner), limbs, "h")
        gamma = self.new_weight(node["weight"], [x.sizes[1]])
        beta = None if node["bias"] is None else self.new_weight(node["bias"], [x.sizes[1]])
        con = c.constraint(f"{name}/forward", st.flat)
        sources = [same(k) for k, _ in st.flat[1:]]
        limbs = Limbs(c)
        limbs.product(c.limbs(self.own(gamma, same("o"))), self.value_limbs(h, "passes", sources))
        if beta is not None:
            limbs.value(self.own(beta, same("o")), 1, 32)
        y = self.output(i, "y", x.sizes)
        self.rescaled(con, self.value_limbs(y, "passes", sources), limbs, "y")
        self.tensors_of[i] = {"a": a.parts[0][1], "h": h.parts[0][1], "gamma": gamma}
        self.values.append(y)

    # sequences

    def places(self, t: int, *sources: Source) -> Form:
        return self.c.whole(self.own(t, *sources))

    def f_positions(self, i: int, node: dict, x: Value) -> None:
        c, name = self.c, node["name"]
        W = self.new_weight(node["weight"], x.sizes[1:])
        y = self.new(f"{name}/y", x.sizes)
        con = c.constraint(f"{name}/forward", self.image_axes(x.sizes))
        bcs = [same("b"), same("c"), same("s")]
        whole = self.value_whole(x.plus(y.times(-1)), "passes", bcs)
        c.member(con, "sum", left(whole, c.whole(self.own(W, *bcs[1:]))))
        self.values.append(y)

    def image_axes(self, sizes: Sequence[int]) -> Axes:
        return [("pass", self.P), *zip("bcs", sizes)]

    def own_sum(self, node: dict, axes: Axes, dy: Value, *sources: Source) -> None:
        """A parameter whose accumulator is a sum of dy."""

        def limbs_of_sum(kind: str) -> Limbs:
            limbs = Limbs(self.c)
            limbs.add(self.value_whole(dy, kind, [ALL, *sources]), 0)
            return limbs

        self.parameters.append(Parameter(node["weight"], axes, [], False, limbs_of_sum, []))

    def g_positions(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        self.own_sum(node, self.image_axes(x.sizes)[2:], dy, same("c"), same("s"))
        return dy

    def f_prepend(self, i: int, node: dict, x: Value) -> None:
        c, name, (B_, C, L) = self.c, node["name"], x.sizes
        W = self.new_weight(node["weight"], [C])
        y = self.new(f"{name}/y", (B_, C, L + 1))
        t, bc = y.parts[0][1], [same("b"), same("c")]
        con = c.constraint(f"{name}/first", self.image_axes((B_, C)))
        first = self.places(t, *bc, wsum(unit(L + 1, 0)))
        c.member(con, "first", left(first, neg(c.whole(self.own(W, same("c"))))))
        con = c.constraint(f"{name}/later", self.image_axes(x.sizes))
        later = self.places(t, *bc, map_("s", range(1, L + 1)))
        c.member(con, "later", left(later, neg(self.value_whole(x, "passes", [*bc, same("s")]))))
        self.values.append(y)

    def g_prepend(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        dx, (_, C, L) = None, x.sizes
        if needed:
            dx = self.new(f"{node['name']}/dx", x.sizes)
            self.moved(node, "later", dx, dy, list(range(1, L + 1)))
        self.own_sum(node, [("c", C)], dy, same("c"), wsum(unit(L + 1, 0)))
        return dx

    def moved(self, node: dict, label: str, dx: Value, dy: Value, places: list[int]) -> None:
        con, bc = self.c.constraint(f"{node['name']}/input-gradient", self.image_axes(dx.sizes)), [same("b"), same("c")]
        whole = self.value_whole(dx, "passes", [*bc, same("s")])
        self.c.member(con, label, left(whole, neg(self.value_whole(dy, "passes", [*bc, map_("s", places)]))))

    def f_take(self, i: int, node: dict, x: Value) -> None:
        y, bc = self.new(f"{node['name']}/y", (*x.sizes[:2], 1)), [same("b"), same("c")]
        con = self.c.constraint(f"{node['name']}/forward", self.image_axes(x.sizes[:2]))
        taken = self.value_whole(x, "passes", [*bc, wsum(unit(x.sizes[2], node["position"]))])
        self.c.member(con, "taken", left(self.value_whole(y, "passes", [*bc, ALL]), neg(taken)))
        self.values.append(y)

    def g_take(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        if not needed:
            return None
        dx = self.new(f"{node['name']}/dx", x.sizes)
        self.moved(node, "put", dx, dy, [0 if s == node["position"] else -1 for s in range(x.sizes[2])])
        return dx

    def token(self, i: int, kind: str) -> Form:
        x = self.xs[i]
        return self.value_whole(x, kind, [same("b"), same("o"), map_("s", range(x.sizes[2] - 1))])

    def f_embedding(self, i: int, node: dict, x: Value) -> None:
        c, name, (V, C) = self.c, node["name"], self.model.tensors[node["weight"]].shape
        require(self.model.tokens == V, "circuit", "tokens of an embedding")
        sizes = (self.B, C, x.sizes[2] - 1)
        W, y = self.new_weight(node["weight"], (V, C)), self.new(f"{name}/y", sizes, WEIGHT)
        con = c.constraint(f"{name}/forward", self.image_axes(sizes), [("o", V)])
        weight = self.own(W, same("o"), same("c"))
        out = self.own(y.parts[0][1], same("b"), same("c"), same("s"))
        for d in (0, 1):
            chosen = product(self.token(i, "passes"), c.digit(weight, d))
            c.member(con, f"digit{d}", left(chosen, neg(c.digit(out, d))))
        self.values.append(y)

    def g_embedding(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        def table_limbs(kind: str) -> Limbs:
            limbs, sources = Limbs(self.c), [same("b"), same("c"), same("s")]
            limbs.add(product(self.token(i, kind), self.value_whole(dy, kind, sources)), 0)
            return limbs

        if node["weight"] not in self.model.shared:
            (V, C), L = self.model.tensors[node["weight"]].shape, dy.sizes[2]
            summed = [("b", self.B), ("s", L)]
            self.parameters.append(Parameter(node["weight"], [("o", V), ("c", C)], summed, False, table_limbs, []))
        return None

    def by_heads(self, node: dict, v: Value, C: int, which: int, last: Source) -> list[Form]:
        """q, k or v of a value, which = 0, 1, 2."""
        table = heads_table(node["heads"], C // node["heads"], which * C)
        return self.value_limbs(v, "passes", [same("b"), gather("h", "d", table), last])

    def scaled_queries(self, node: dict, label: str, x: Value, out: Value) -> None:
        C = self.attended[node["name"]][1]
        a = (math.isqrt(2**66 // (C // node["heads"])) + 1) // 2
        con = self.c.constraint(f"{node['name']}/{label}", self.image_axes((self.B, C, x.sizes[2])))
        sources = [same("b"), map_("c", range(C)), same("s")]
        limbs = Limbs(self.c)
        for k, form in enumerate(self.value_limbs(x, "passes", sources)):
            limbs.add(scale(form, a & 0x3FFFFF), 22 * k)
            limbs.add(scale(form, a >> 22), 22 * (k + 1))
        self.rescaled(con, self.value_limbs(out, "passes", sources), limbs, "scaled")

    def f_attention(self, i: int, node: dict, x: Value) -> None:
        c, name, h, L = self.c, node["name"], node["heads"], x.sizes[2]
        C, pairs = x.sizes[1] // 3, Pairs(L, node["causal"])
        self.count_windows(2 * L * L + len(pairs.i))
        if any(t < 0 for _, t in x.parts):
            x = self.long_sum(f"{name}/x", x)
        self.attended = {**getattr(self, "attended", {}), name: (x, C, pairs)}
        D, last = C // h, 23 * 1024
        n_pairs, n_rows = (self.B, h, len(pairs.i)), (self.B, h, L)
        over_pairs = [("pass", self.P), *zip("bht", n_pairs)]
        over_rows = [("pass", self.P), *zip("bhi", n_rows)]
        bh = [same("b"), same("h")]

        def on_pairs(t: int) -> int:
            return self.own(t, *bh, same("t"))

        def rows_on_pairs(t: int) -> int:
            return self.own(t, *bh, map_("t", pairs.i) if L > 1 else same("t"))

        def added_up(t: int) -> Form:
            return c.whole(self.own(t, *bh, total("i", pairs.keys)))

        def fresh(sizes: Sequence[int], **digits: list) -> list[int]:
            return [self.tensor(f"{name}/{k.replace('_', '.', 1)}", sizes, v) for k, v in digits.items()]

        queries = self.new(f"{name}/q", (self.B, C, L))
        self.scaled_queries(node, "scaled", x, queries)
        (most,) = fresh(n_rows, max=VALUE)
        cuts = {"segment": radix(B(22)), "offset": radix(B(22)), "over": radix(U(22))}
        ts = [*fresh(n_pairs, **cuts), self.tensor(f"{name}/is-max", n_pairs, radix(BIT))]
        g, t, a, o = (c.whole(on_pairs(tensor)) for tensor in ts)
        con = c.constraint(f"{name}/scores", over_pairs, [("d", D)])
        limbs = Limbs(c)
        own_queries = self.by_heads(node, queries, C, 0, map_("t", pairs.i))
        limbs.product(own_queries, self.by_heads(node, x, C, 1, map_("t", pairs.j)))
        limbs.const(1 << 53)
        low, high = (c.digit(rows_on_pairs(most), d) for d in (0, 1))
        self.rescaled(con, [merge(low, neg(t)), merge(merge(high, neg(g)), neg(a))], limbs, "z")
        con = c.constraint(f"{name}/max", over_pairs)
        far = merge(merge(t, scale(g, 1 << 22)), scale(a, 1 << 22))
        c.member(con, "attained", left(product(o, far), scale(o, 1 << 21)))
        c.member(con, "over", left(product(a, g), scale(a, -last)))
        con = c.constraint(f"{name}/one-max", over_rows)
        c.member(con, "one", left(added_up(ts[3]), -1))
        cuts = {"exp": VALUE, "slope": radix(B(22), B(12)), "bend": radix(B(22)), "turn": radix(B(22))}
        cuts = {**cuts, "turn_remainder": radix(U(22)), "step": radix(U(22), (-1, 2)), "step_remainder": REM32}
        new = fresh(n_pairs, **cuts)
        e, p, s, w, r, v, q = (c.whole(on_pairs(tensor)) for tensor in new)
        con = c.constraint(f"{name}/exp", over_pairs)
        c.member(con, "turn", left(product(s, t), scale(w, -(1 << 22)), neg(r), 1 << 21))
        c.member(con, "step", left(product(merge(p, w), t), scale(v, -(1 << 32)), neg(q), 1 << 31))
        table = Function("segments decay", decay())
        c.lookup(f"{name}/segment", over_pairs, table, [g, merge(e, neg(v)), p, s])
        (sums,) = fresh(n_rows, sum=MAGNITUDE)
        con = c.constraint(f"{name}/sum", over_rows)
        c.member(con, "sum", left(added_up(new[0]), neg(c.whole(self.own(sums, *bh, same("i"))))))
        part, slack = fresh(n_pairs, p=VALUE, p_slack=MAGNITUDE)
        con, domain = c.constraint(f"{name}/p", over_pairs), Domain(tuple(over_pairs), True)
        rest = c.wire(domain, f"{name}/p.remainder", MAGNITUDE)
        limbs = Limbs(c)
        limbs.product(c.limbs(on_pairs(part)), c.limbs(rows_on_pairs(sums)))
        limbs.value(rest)
        for k, form in enumerate(c.limbs(on_pairs(new[0]))):
            limbs.add(neg(form), 32 + 22 * k)
        c.assert_zero(con, domain, "p", limbs)
        below = left(c.whole(rest), c.whole(on_pairs(slack)), neg(c.whole(rows_on_pairs(sums))), 1)
        c.member(con, "below", below)
        y = self.new(f"{name}/y", (self.B, C, L))
        con = c.constraint(f"{name}/forward", [*over_rows, ("d", D)], [("j", L)])
        limbs = Limbs(c)
        keys = c.limbs(self.own(part, *bh, gather("j", "i", pairs.keys)))
        limbs.product(keys, self.by_heads(node, x, C, 2, same("j")))
        self.rescaled(con, self.by_heads(node, y, C, 0, same("i")), limbs, "sum")
        self.tensors_of[i] = {"q": queries.parts[0][1], "p": part}
        self.values.append(y)

    def g_attention(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        if not needed:
            return None
        c, name, (x, C, pairs) = self.c, node["name"], self.attended[node["name"]]
        h, L = node["heads"], x.sizes[2]
        d_, i_, j_ = ("d", C // h), ("i", L), ("j", L)
        bh, axes = [same("b"), same("h")], [("pass", self.P), ("b", self.B), ("h", h)]
        n_pairs, over_pairs = (self.B, h, len(pairs.i)), [*axes, ("t", len(pairs.i))]
        queries = Value([(1, self.tensors_of[i]["q"])], (self.B, C, L))
        p = self.tensors_of[i]["p"]

        def on_pairs(t: int) -> list[Form]:
            return c.limbs(self.own(t, *bh, same("t")))

        def by_keys(t: int) -> list[Form]:
            return c.limbs(self.own(t, *bh, gather("j", "i", pairs.keys)))

        def by_queries(t: int) -> list[Form]:
            return c.limbs(self.own(t, *bh, gather("i", "j", pairs.queries)))

        def stated(label: str, out_axes: Axes, summed: Axes, out: list[Form], what: str, *products_: tuple) -> None:
            con, limbs = c.constraint(f"{name}/{label}", out_axes, summed), Limbs(c)
            for factors in products_:
                limbs.product(*factors)
            self.rescaled(con, out, limbs, what)

        def of(v: Value, which: int, last: Source) -> list[Form]:
            return self.by_heads(node, v, C, which, last)

        dx = self.new(f"{name}/dx", x.sizes)
        factors = by_queries(p), of(dy, 0, same("i"))
        stated("dv", [*axes, j_, d_], [i_], of(dx, 2, same("j")), "sum", factors)
        dp, dz = (self.tensor(f"{name}/{k}", n_pairs, VALUE) for k in ("dp", "dz"))
        mean = self.tensor(f"{name}/mean", (self.B, h, L), VALUE)
        factors = of(dy, 0, map_("t", pairs.i)), of(x, 2, map_("t", pairs.j))
        stated("dp", over_pairs, [d_], on_pairs(dp), "dp", factors)
        own = c.limbs(self.own(mean, *bh, same("i")))
        stated("mean", [*axes, i_], [j_], own, "mean", (by_keys(p), by_keys(dp)))
        own = c.limbs(self.own(mean, *bh, map_("t", pairs.i) if L > 1 else same("t")))
        both = (on_pairs(p), on_pairs(dp)), (on_pairs(p), own, -1)
        stated("dz", over_pairs, [], on_pairs(dz), "dz", *both)
        factors = by_queries(dz), of(queries, 0, same("i"))
        stated("dk", [*axes, j_, d_], [i_], of(dx, 1, same("j")), "sum", factors)
        dq = self.new(f"{name}/dq", (self.B, C, L))
        factors = by_keys(dz), of(x, 1, same("j"))
        stated("dq", [*axes, i_, d_], [j_], of(dq, 0, same("i")), "sum", factors)
        self.scaled_queries(node, "dq-scaled", dq, dx)
        return dx

    # ---- 3. head

    def onehot(self, axes: Sequence[tuple[str, int]], name: str, unroll: int, n: int) -> int:
        return self.c.tensor(name, unroll, [*(k for _, k in axes), n], radix(BIT))

    def pick(self, t: int, u: int, w: Sequence[int], axes: Sequence[tuple[str, int]]) -> Form:
        sources = [wsum(unit(self.c.tensors[t].unroll, u)), *(same(a) for a, _ in axes), wsum(w)]
        return self.c.whole(self.c.view(t, *sources))

    def head(self) -> None:
        c, T, P_, J = self.c, self.T, self.P, self.J
        logits = self.values[-1]
        tokens, L = self.model.tokens is not None, self.model.input["shape"][2]
        allowed = [(self.B, J, L)] if tokens else [(self.B, J), (self.B, J, 1)]
        require(logits.sizes in allowed, "circuit", "sizes of the logits")
        position = [same("l")] if tokens else [ALL] * (len(logits.sizes) - 2)
        passes, steps, b_, j_ = ("pass", P_), ("step", T), (("b", self.B), *([("l", L)] * tokens)), ("j", J)
        full, rows, each = Domain((passes, *b_, j_)), Domain((passes, *b_)), Domain((steps,))
        firsts = Domain((steps, *b_))
        self.each, self.firsts = each, firsts
        tables = head_tables()
        softmax, in_rows = c.constraint("softmax", full.axes), c.constraint("softmax/rows", rows.axes)
        sp, st, sj = same("pass"), same("step"), same("j")
        sb, sums = [same(a) for a, _ in b_], [ALL for _ in b_]
        behind = [map_("l", range(1, L + 1))] * tokens  # of labels
        whole, w = c.whole, c.wire

        def t_of(view: int) -> int:
            return c.views[view][0]

        def over_j(view: int) -> int:  # a wire over full, with j by sum()
            return c.view(t_of(view), ALL, sp, *sb, ALL)

        z = self.value_whole(logits, "passes", [same("b"), sj, *position])
        largest_z = w(rows, "softmax/max", VALUE)
        is_max = w(full, "softmax/is-max", radix(BIT))
        x = w(full, "softmax/x", MAGNITUDE)
        c.member(softmax, "shift", left(whole(x), z, neg(whole(largest_z))))
        c.member(softmax, "attained", product(whole(is_max), whole(x)))
        c.member(in_rows, "one-max", left(whole(over_j(is_max)), -1))
        # exp
        n = "softmax/exp/"
        low = w(full, n + "low", radix(U(18)))
        chunks = self.onehot(full.axes, n + "chunks", 5, 16)
        far, far_rest = w(full, n + "far", radix(BIT)), w(full, n + "far-rest", radix(U(6)))
        u, f, r = whole(low), whole(far), whole(far_rest)
        split = left(u, scale(merge(f, r), 1 << 38), neg(whole(x)))
        for i in range(5):
            split = left(split, scale(self.pick(chunks, i, range(16), full.axes), 1 << (18 + 4 * i)))
            c.member(softmax, f"chunk{i}", left(self.pick(chunks, i, [1] * 16, full.axes), -1))
        c.member(softmax, "split", split)
        c.member(softmax, "far", left(product(f, r), neg(r)))
        square, square_rem = w(full, n + "square", radix(U(22), U(6))), w(full, n + "square.remainder", radix(R(2**9)))
        c.member(softmax, "square", left(product(u, u), 2**8, scale(whole(square), -(2**9)), neg(whole(square_rem))))
        cube = w(full, n + "cube", radix(U(12)))
        cube_rem = w(full, n + "cube.remainder", radix(U(22), R(3 * 2**10)))
        cubic = left(product(whole(square), u), 3 * 2**31, scale(whole(cube), -3 * 2**32), neg(whole(cube_rem)))
        c.member(softmax, "cube", cubic)
        series = w(full, n + "series", PROB)
        s5 = left(whole(series), scale(u, 2**24), neg(whole(square)), whole(cube), -(2**56))
        c.member(softmax, "series", s5)
        y = series
        for i in range(5):
            limbs = Limbs(c)
            limbs.product(c.limbs(y), [self.pick(chunks, i, limb(tables.exp[i], k), full.axes) for k in range(3)])
            limbs.const(2**55)
            y, rem = w(full, f"{n}y{i}", PROB), w(full, f"{n}y{i}.remainder", REM56)
            limbs.value(y, -1, 56)
            limbs.value(rem, -1, 0)
            c.assert_zero(softmax, full, f"y{i}", limbs)
        e = w(full, n + "value", PROB)
        for d in range(3):
            yd = c.digit(y, d)
            c.member(softmax, f"value{d}", add(merge(yd, neg(c.digit(e, d))), product(neg(f), yd)))
        # normalisation
        TOTAL = radix(U(22), U(22), U(min(22, 13 + bits(J))))
        total_ = w(rows, "softmax/total", TOTAL)
        limbs = Limbs(c)
        limbs.value(over_j(e))
        limbs.value(total_, -1)
        c.assert_zero(in_rows, rows, "total", limbs)
        p, p_rem = w(full, "softmax/p", PROB), w(full, "softmax/p.remainder", TOTAL)
        p_slack = w(full, "softmax/p.slack", TOTAL)
        limbs = Limbs(c)
        limbs.value(e, 1, 56)
        limbs.value(p_rem, -1)
        limbs.product(c.limbs(p), c.limbs(total_), -1)
        c.assert_zero(softmax, full, "p", limbs)
        limbs = Limbs(c)
        limbs.value(p_rem)
        limbs.value(p_slack)
        limbs.const(1)
        limbs.value(total_, -1)
        c.assert_zero(softmax, full, "p-below", limbs)
        # deltas
        o = whole(c.view(self.label, map_("pass", [q // 2 for q in range(P_)]), same("b"), sj, *behind))
        wrong = w(full, "softmax/wrong", PROB)
        missing = w(rows, "softmax/missing", PROB)
        true_delta = w(full, "softmax/true-delta", PROB)
        for d in range(3):
            pd = c.digit(p, d)
            c.member(softmax, f"wrong{d}", add(merge(pd, neg(c.digit(wrong, d))), product(neg(o), pd)))
            c.member(softmax, f"true{d}", left(product(o, c.digit(missing, d)), neg(c.digit(true_delta, d))))
        limbs = Limbs(c)
        limbs.value(over_j(wrong))
        limbs.value(missing, -1)
        c.assert_zero(in_rows, rows, "missing", limbs)
        # loss scale
        even = map_("step", [2 * t for t in range(T)])
        largest, below = w(each, "scale/largest", PROB), w(firsts, "scale/below", PROB)
        is_largest = w(firsts, "scale/is-largest", radix(BIT))
        scale_k = self.onehot([passes], "scale/k", 1, 32)
        self.even = even

        def scale_form(weights: Sequence[int], source: Source) -> Form:
            return whole(c.view(scale_k, ALL, source, wsum(weights)))

        self.scale_form = scale_form
        con = c.constraint("scale/samples", firsts.axes)
        missing2 = whole(c.view(t_of(missing), ALL, even, *sb))
        largest2 = whole(c.view(t_of(largest), ALL, st))
        c.member(con, "below", left(whole(below), missing2, neg(largest2)))
        c.member(con, "attained", product(whole(is_largest), whole(below)))
        con = c.constraint("scale", each.axes)
        c.member(con, "one-largest", left(whole(c.view(t_of(is_largest), ALL, st, *sums)), -1))
        upper, lower = w(each, "scale/upper", PROB), w(each, "scale/lower", PROB)
        above = [2**57, *(2 ** (56 - k) for k in range(1, 32))]
        least = [2 ** (55 - k) for k in range(32)]
        c.member(con, "upper", left(whole(upper), largest2, neg(scale_form(above, even)), 1))
        c.member(con, "lower", left(whole(lower), scale_form(least, even), neg(largest2)))
        con = c.constraint("scale/one", [passes])
        c.member(con, "one", left(self.pick(scale_k, 0, [1] * 32, [passes]), -1))
        con = c.constraint("scale/second-passes", [("step", T - 1)])
        odd = map_("step", [2 * t + 1 for t in range(T - 1)])
        c.member(con, "unscaled", left(scale_form(unit(32, 0), odd), -1))
        # deltas in Q32
        self.dz = self.new("softmax/dz", logits.sizes)
        dz_rem = w(full, "softmax/dz.remainder", [at(U(22), 0), at(U(2), 22)])
        limbs = Limbs(c)
        deltas = [merge(c.digit(wrong, d), neg(c.digit(true_delta, d))) for d in range(3)]
        limbs.product([scale_form([2**k for k in range(32)], sp)], deltas)
        limbs.const(2**23)
        limbs.value(self.own(self.dz.parts[0][1], same("b"), sj, *position), -1, 24)
        limbs.value(dz_rem, -1)
        c.assert_zero(softmax, full, "dz", limbs)
        # losses
        LOSS = radix(U(22), U(22), U(22), U(16))
        con = c.constraint("loss/samples", firsts.axes)
        self.log(con, firsts, c.limbs(c.view(t_of(total_), ALL, even, *sb)), 9, "loss/ln")
        con = c.constraint("loss/true-logit", firsts.axes, [j_])
        x_true = w(firsts, "loss/x-true", MAGNITUDE)
        lab, xv = whole(c.view(self.label, st, same("b"), sj, *behind)), c.view(t_of(x), ALL, even, *sb, sj)
        for d in range(2):
            c.member(con, f"x{d}", left(product(lab, c.digit(xv, d)), neg(c.digit(x_true, d))))
        con = c.constraint("loss", each.axes)
        self.loss_total = w(each, "loss/total", LOSS)
        above_min = w(each, "loss/above-minimum", LOSS)
        limbs = Limbs(c)
        limbs.value(self.loss_total, -1)
        limbs.value(c.view(t_of(x_true), ALL, st, *sums), 1, 24)
        const = self.rows * (self.logs["loss/ln"].const - 56 * tables.ln2)
        self.add_log(limbs, "loss/ln", 1, summed=True, const=const)
        c.assert_zero(con, each, "sum", limbs)
        limbs = Limbs(c)
        limbs.value(self.loss_total)
        limbs.value(above_min, -1)
        limbs.const(-self.rows * 2**24)
        c.assert_zero(con, each, "minimum", limbs)

    def log(self, con: Constraint, domain: Domain, v: list[Form], max_shift: int, name: str) -> None:
        c, n, axes, tables = self.c, len(v), domain.axes, head_tables()
        h, r = divmod(max_shift, 22)
        shift: Form = ()

        def hot(suffix_: str, size: int) -> int:
            return self.onehot(axes, f"{name}/{suffix_}", 1, size)

        def pick(t: int, weights: Sequence[int]) -> Form:
            return self.pick(t, 0, weights, axes)

        def wire(suffix_: str, digits: list) -> int:
            return c.wire(domain, f"{name}/{suffix_}", digits)

        if h > 0:
            limb_shift = hot("limb-shift", h + 1)
            s = [pick(limb_shift, unit(h + 1, a)) for a in range(h + 1)]
            c.member(con, "limb-shift", left(pick(limb_shift, [1] * (h + 1)), -1))
            moved = wire("moved", radix(*[U(22)] * n))
            for l in range(n):
                moves = (product(s[a], v[l - a]) for a in range(min(l, h) + 1))
                c.member(con, f"moved{l}", left(neg(c.digit(moved, l)), *moves))
            lost = [product(s[a], v[l]) for l in range(n) for a in range(n - l, h + 1)]
            c.member(con, "nothing-lost", add(*lost))
            shift = pick(limb_shift, [22 * a for a in range(h + 1)])
            v = c.limbs(moved)
        count = 22 if h > 0 else r + 1
        bit_shift = hot("bit-shift", count)
        c.member(con, "bit-shift", left(pick(bit_shift, [1] * count), -1))
        power = pick(bit_shift, [1 << a for a in range(count)])
        shift = merge(shift, pick(bit_shift, range(count)))
        normal = wire("normal", radix(*[U(22)] * n))
        limbs = Limbs(c)
        limbs.product(v, [power])
        limbs.value(normal, -1)
        c.assert_zero(con, domain, "normal", limbs)
        chosen = hot("c0", 16)
        top_rest = wire("top-rest", radix(U(17)))
        c.member(con, "c0", left(pick(chosen, [1] * 16), -1))
        top = c.digit(normal, n - 1)
        grid = pick(chosen, [a << 17 for a in range(16)])
        c.member(con, "top", left(top, neg(grid), neg(c.whole(top_rest)), -(2**21)))
        parts: list[tuple[Form, int]] = []
        a = [c.digit(normal, d) for d in (n - 3, n - 2, n - 1)]
        rests = [radix(U(22), U(22), U(4)), radix(U(22), U(22)), radix(U(22), U(18))]
        w_view = -1
        for i in range(4):
            limbs = Limbs(c)
            limbs.product(a, [pick(chosen, limb(tables.inverse[i], k)) for k in range(3)])
            parts += [(pick(chosen, limb(tables.log[i], k)), 22 * k) for k in range(3)]
            w_view = wire(f"w{i + 1}", PROB)
            rem = wire(f"w{i + 1}.remainder", radix(U(22), U(22), U(22)) if i == 0 else REM56)
            limbs.value(w_view, -1, 66 if i == 0 else 56)
            limbs.value(rem, -1)
            c.assert_zero(con, domain, f"w{i + 1}", limbs)
            a = c.limbs(w_view)
            if i < 3:
                chosen = hot(f"c{i + 1}", 17)
                rest = wire(f"rest{i + 1}", rests[i])
                c.member(con, f"c{i + 1}", left(pick(chosen, [1] * 17), -1))
                grid = pick(chosen, [b << (48 - 4 * i) for b in range(17)])
                c.member(con, f"stage{i + 1}", left(c.whole(w_view), neg(grid), neg(c.whole(rest)), -(2**56)))
        z = wire("z", radix(U(22), U(19)))
        c.member(con, "z", left(c.whole(z), neg(c.whole(w_view)), 2**56))
        a2, a2_rem = wire("a2", radix(U(22), U(4))), wire("a2.remainder", radix(U(22), U(22), R(2**13)))
        limbs = Limbs(c)
        limbs.product(c.limbs(z), c.limbs(z))
        limbs.value(a2, -1, 57)
        limbs.value(a2_rem, -1)
        c.assert_zero(con, domain, "a2", limbs)
        a3, a3_rem = wire("a3", radix(U(10))), wire("a3.remainder", radix(U(22), U(22), R(3 * 2**12)))
        limbs = Limbs(c)
        limbs.product(c.limbs(a2), c.limbs(z), 2)
        limbs.value(a3, -3, 56)
        limbs.value(a3_rem, -1)
        c.assert_zero(con, domain, "a3", limbs)
        parts.append((merge(merge(c.whole(z), neg(c.whole(a2))), c.whole(a3)), 0))
        self.logs[name] = Logarithm(parts, shift, (22 * n - 1) * tables.ln2)

    def add_log(self, limbs: Limbs, name: str, sign: int, summed: bool = False, const: int | None = None) -> None:
        lg = self.logs[name]

        def over(form: Form) -> Form:
            if not summed:
                return form
            out = []
            for v, d, k in form:
                t, sources = self.c.views[v]
                out.append((self.c.view(t, *(ALL if s in (same("b"), same("l")) else s for s in sources)), d, k))
            return tuple(out)

        for form, e in lg.parts:
            limbs.add(scale(over(form), sign), e)
        for k in range(3):
            limbs.add(scale(over(lg.shift), -sign * limb([head_tables().ln2], k)[0]), 22 * k)
        limbs.const(sign * (lg.const if const is None else const))

    # ---- 4. gradients

    def gradients(self) -> None:
        graph, inputs = self.model.graph, self.model.inputs
        before: list[bool] = []
        self.before = before
        for i, node in enumerate(graph):
            before.append("weight" in node or any(j >= 0 and before[j] for j in inputs[i]))
        require(before[-1], "circuit", "no weights before the last node")
        dys: dict[int, Value] = {len(graph) - 1: self.dz}
        terms = {len(graph) - 1: 1}
        joined: dict[int, bool] = {}
        for i in range(len(graph) - 1, -1, -1):
            if not before[i]:
                continue
            node, dy = graph[i], dys[i]
            last = i == len(graph) - 1
            joined[i] = not last and any(
                graph[r]["op"] in MOVES or (graph[r]["op"] in ("add", *KEEPS) and joined[r]) for r in self.readers[i]
            )
            whole = "weight" in node or node["op"] == "attention"
            if not last and (terms[i] > 4 or (joined[i] and whole)):
                dy = self.long_sum(f"{node['name']}/dy", dy)
                terms[i], joined[i] = 1, False
            needed = any(j >= 0 and before[j] for j in inputs[i])
            self.dys[i] = dy
            hands_on = node["op"] in ("add", "cat", *KEEPS)
            dx = dy if hands_on else getattr(self, "g_" + node["op"])(i, node, self.xs[i], dy, needed)
            start = 0
            if node["op"] == "cat" and needed:
                self.count_windows(dx.sizes[1] * len(dx.parts))
            for n, j in enumerate(inputs[i]):
                own, count = dx, self.value(j).sizes[1]
                if node["op"] == "multiply":
                    own = dx[n]
                if j >= 0 and before[j]:
                    if node["op"] == "cat":
                        own = self.some_channels(dx, range(start, start + count))
                    dys[j] = dys[j].plus(own) if j in dys else own
                start += count
                if j >= 0 and before[j]:
                    passes = hands_on or node["op"] in ("channels", "binary")
                    terms[j] = terms.get(j, 0) + (terms[i] if passes else 1)

    def g_linear(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        c, name = self.c, node["name"]
        waxes, inp, positions = self.contraction(i, node, x)
        groups, outputs = self.group_axes(node), self.model.tensors[node["weight"]].shape[0]
        weight = self.own(self.weight[node["weight"]], *(same(a) for a, _ in groups + waxes))
        dx, sb, so = None, same("b"), self.channels(node, waxes[0])
        if needed:
            if node["op"] == "linear":
                axes, summed, out = waxes[1:], [waxes[0]], [so]
            elif node["op"] == "unembedding":
                axes, summed, out = [waxes[1], *positions], [waxes[0]], [so, same("s")]
            else:
                win = self.windows[i]
                axes, summed = [waxes[2], ("i", win.positions)], waxes[:2]
                out = [so, gather("k", "i", win.readers)]
            dx = self.new(f"{name}/dx", x.sizes)
            lefts = self.value_limbs(dy, "passes", [sb, *out])
            first = self.channels(node, axes[0])
            outer = self.value_limbs(dx, "passes", [sb, first, *(same(a) for a, _ in axes[1:])])
            axes = [("pass", self.P), ("b", self.B), *groups, *axes]
            self.scaled_down(f"{name}/input-gradient", axes, summed, lefts, c.limbs(weight), None, outer, "dx")

        def factors(kind: str) -> tuple[list[Form], list[Form]]:
            outer = self.value_limbs(dy, kind, [sb, so, *(same(a) for a, _ in positions)])
            return outer, self.value_limbs(x, kind, [sb, *inp])

        def weight_limbs(kind: str) -> Limbs:
            limbs = Limbs(c)
            limbs.product(*factors(kind))
            return limbs

        def bias_limbs(kind: str) -> Limbs:
            limbs = Limbs(c)
            limbs.add(self.value_whole(dy, kind, [ALL, same("o"), *(ALL for _ in positions)]), 0)
            return limbs

        def table_limbs(kind: str) -> Limbs:
            """Of a table that an embedding reads too."""
            limbs, j = weight_limbs(kind), next(j for j, g in enumerate(self.model.graph) if g["op"] == "embedding")
            require(self.dys[j].sizes[2] == x.sizes[2], "circuit", "positions of a shared table")
            for k, form in enumerate(self.value_limbs(self.dys[j], kind, [sb, same("c"), same("s")])):
                limbs.add(product(self.token(j, kind), form), 32 + 22 * k)
            return limbs

        summed = [("b", self.B), *positions]
        if node["weight"] in self.model.shared:
            self.parameters.append(Parameter(node["weight"], waxes, summed, True, table_limbs, []))
            return dx
        self.parameters.append(Parameter(node["weight"], groups + waxes, summed, True, weight_limbs, [], factors))
        if node.get("bias") is not None:
            self.parameters.append(Parameter(node["bias"], [("o", outputs)], [], False, bias_limbs, []))
        return dx

    g_conv2d = g_unembedding = g_linear

    def g_relu(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        if not needed:
            return None
        c, sources = self.c, self.x_sources(x.sizes)
        dx = self.new(f"{node['name']}/dx", x.sizes)
        con = c.constraint(f"{node['name']}/backward", self.x_axes(x.sizes))
        sign = c.whole(self.own(self.relu[i][1], *sources))
        whole = self.value_whole(dy, "passes", sources)
        c.member(con, "gradient", left(product(sign, whole), neg(self.value_whole(dx, "passes", sources))))
        return dx

    def g_leaky_relu(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        if not needed:
            return None
        dx = self.new(f"{node['name']}/dx", x.sizes)
        con = self.c.constraint(f"{node['name']}/input-gradient", self.x_axes(x.sizes))
        self.scaled_by_slope(i, con, dx, dy, "dx")
        return dx

    def g_maxpool2d(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        if not needed:
            return None
        c, win = self.c, self.windows[i]
        dx = self.new(f"{node['name']}/dx", x.sizes)
        axes = [("pass", self.P), ("b", self.B), ("c", x.sizes[1]), ("i", win.positions)]
        con = c.constraint(f"{node['name']}/backward", axes, [("k", win.entries)])
        bc = [same("b"), same("c")]
        choice = c.whole(self.own(self.tensors_of[i]["choice"], *bc, gather("k", "i", win.pairs_of)))
        whole = self.value_whole(dy, "passes", [*bc, gather("k", "i", win.readers)])
        out = self.value_whole(dx, "passes", [*bc, same("i")])
        c.member(con, "gradient", left(product(choice, whole), neg(out)))
        return dx

    def g_batchnorm2d(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        c, name, norm = self.c, node["name"], self.norm(node)
        C = x.sizes[1]
        axes = [("b", self.B), ("c", C), *(("s", n) for n in x.sizes[2:])]
        sources = [same(a) for a, _ in axes]
        u = Value([(1, self.tensors_of[i]["u"])], (C,))
        dx = None
        if needed:
            con = c.constraint(f"{name}/input-gradient", [("pass", self.P), *axes])
            dx = self.new(f"{name}/dx", x.sizes)
            limbs = Limbs(c)
            dy_limbs = self.value_limbs(dy, "passes", sources)
            limbs.product(self.value_limbs(u, "passes", [same("c")]), dy_limbs)
            self.rescaled(con, self.value_limbs(dx, "passes", sources), limbs, "dx")
        con = c.constraint(f"{name}/sums", [("pass", self.P), ("c", C)], [axes[0], *axes[2:]])
        h = self.tensor(f"{name}/h", [C], VALUE)
        limbs = Limbs(c)
        limbs.product(self.value_limbs(dy, "passes", sources), self.value_limbs(x, "passes", sources))
        self.subtract_mean(limbs, norm, dy)
        self.rescaled(con, c.limbs(self.own(h, same("c"))), limbs, "h")

        def beta_limbs(kind: str) -> Limbs:
            limbs = Limbs(c)
            limbs.add(self.value_whole(dy, kind, [ALL, same("c"), *(ALL for _ in axes[2:])]), 0)
            return limbs

        gamma = Parameter(node["weight"], [("c", C)], [], True, lambda kind: self.multiple(norm, h, kind), [])
        self.parameters += [gamma, Parameter(node["bias"], [("c", C)], [], False, beta_limbs, [])]
        return dx

    def g_groupnorm(self, i: int, node: dict, x: Value, dy: Value, needed: bool) -> Value | None:
        c, name, st, own = self.c, node["name"], self.statistics(i, node, x), self.tensors_of[i]
        sources, dx = [same(k) for k, _ in st.flat[1:]], None
        a, h = (Value([(1, own[k])], ()) for k in ("a", "h"))
        if needed:
            con = c.constraint(f"{name}/scaled", st.flat)
            e = self.new(f"{name}/e", x.sizes)
            limbs = Limbs(c)
            limbs.product(c.limbs(self.own(own["gamma"], same("o"))), self.value_limbs(dy, "passes", sources))
            self.rescaled(con, self.value_limbs(e, "passes", sources), limbs, "e")
            m1, _ = self.mean_statistic(f"{name}/m1", e, st)
            con = c.constraint(f"{name}/m2", st.axes, st.summed)
            m2, domain = self.statistic(f"{name}/m2", st), Domain(tuple(st.axes), True)
            rest = c.wire(domain, f"{name}/m2.remainder", [*REM32, (0, st.n, 32)])
            limbs = Limbs(c)
            limbs.product(*(self.value_limbs(v, "passes", st.inner) for v in (e, h)))
            limbs.const(st.n << 31)
            limbs.value(rest, -1)
            self.wide_multiple(limbs, self.own(m2.parts[0][1], *(same(k) for k, _ in st.axes[1:])), -(st.n << 32))
            c.assert_zero(con, domain, "m2", limbs)
            con = c.constraint(f"{name}/slope", st.axes)
            slope = self.statistic(f"{name}/slope", st)
            limbs = Limbs(c)
            limbs.product(self.of_statistic(a, st), self.of_statistic(m2, st))
            self.rescaled(con, self.of_statistic(slope, st), limbs, "slope")
            con = c.constraint(f"{name}/input-gradient", st.entries)
            dx = self.new(f"{name}/dx", x.sizes)
            limbs = Limbs(c)
            self.times_centred(limbs, e, m1, self.of_statistic(a, st), st)
            limbs.product(self.value_limbs(h, "passes", st.inner), self.of_statistic(slope, st), -1)
            self.rescaled(con, self.value_limbs(dx, "passes", st.inner), limbs, "dx")

        def gamma_limbs(kind: str) -> Limbs:
            limbs = Limbs(c)
            limbs.product(self.value_limbs(dy, kind, sources), self.value_limbs(h, kind, sources))
            return limbs

        def beta_limbs(kind: str) -> Limbs:
            limbs = Limbs(c)
            limbs.add(self.value_whole(dy, kind, [ALL, same("o"), *(ALL for _ in st.flat[3:])]), 0)
            return limbs

        out, summed = [("o", x.sizes[1])], [("b", self.B), *st.flat[3:]]
        self.parameters.append(Parameter(node["weight"], out, summed, True, gamma_limbs, []))
        if node["bias"] is not None:
            self.parameters.append(Parameter(node["bias"], out, [], False, beta_limbs, []))
        return dx

    # ---- 5. parameters

    def section_parameters(self) -> None:
        c, T, s = self.c, self.T, self.s
        self.q = c.wire(self.each, "step-size/q", radix(B(22), B(22), U(16)))
        entries = sum(math.prod(n for _, n in p.axes) for p in self.parameters if p.contracted) * (T - 1)

        def taken(name: str, out: Axes, summed: Axes, factors: object, digits: list, *rest: tuple[int, int]) -> bool:
            """Whether a congruence is; rest: views with what they are multiplied by."""
            terms = [term for view, k in rest for term in c.whole_worths(view, k)]
            return c.contracted(name, out, summed, *factors, digits, terms, *self.cost)

        def over(t: int, n: int, sources: Sources) -> int:
            unroll = c.tensors[t].unroll
            return c.view(t, same("step") if unroll == n else map_("step", range(n)), *sources)

        for p in self.parameters:
            W, axes = p.name, p.axes
            sizes, sources = [n for _, n in axes], [same(a) for a, _ in axes]

            def weight(n: int, o: int) -> int:
                return c.view(self.weight[W], map_("step", [2 * t + o for t in range(n)]), *sources)  # noqa: B023

            all_steps, most = [("step", T), *axes], [("step", T - 1), *axes]
            g = c.tensor(f"gradient/{W}", T, sizes, VALUE)
            quotient = (over(g, T, sources), -(1 << 32))
            cut = [at(U(22), 0), at(B(10), 22)]
            if p.factors and taken(f"gradient/{W}", all_steps, p.summed, p.factors("even"), cut, quotient):
                pass
            elif p.contracted:
                con = c.constraint(f"gradient/{W}", all_steps, p.summed)
                self.rescaled(con, c.limbs(over(g, T, sources)), p.limbs("even"), "g")
            else:
                con = c.constraint(f"gradient/{W}", all_steps, p.summed)
                e0 = add(*p.limbs("even").summands[0])
                c.member(con, "sum", left(e0, neg(c.whole(over(g, T, sources)))))
            E = V = g
            if s.eta is not None and (s.variant == "asam-shifted" or "weight" in W):
                H = math.floor(s.eta * 2**32 + Fraction(1, 2))
                sign = c.tensor(f"sign/{W}", T, sizes, radix(BIT))
                magnitude = c.tensor(f"magnitude/{W}", T, sizes, radix(U(22), U(18)))
                b, m = (c.whole(over(t, T, sources)) for t in (sign, magnitude))
                con = c.constraint(f"sign/{W}", all_steps)
                c.member(con, "sign", left(product(b, scale(m, 2)), b, neg(m), neg(c.whole(weight(T, 0)))))
                E, V = c.tensor(f"E/{W}", T, sizes, VALUE), c.tensor(f"V/{W}", T - 1, sizes, VALUE)
                for name, out, of, n, domain in (("E", E, g, T, all_steps), ("V", V, E, T - 1, most)):
                    con = c.constraint(f"{name}/{W}", domain)
                    m0, m1 = c.limbs(over(magnitude, n, sources))
                    limbs = Limbs(c)
                    limbs.product([merge(m0, c.whole(over(sign, n, sources))), m1], c.limbs(over(of, n, sources)))
                    self.wide_multiple(limbs, over(of, n, sources), H)
                    self.rescaled(con, c.limbs(over(out, n, sources)), limbs, name.lower())
            elif s.variant == "asam-all":
                E, V = c.tensor(f"E/{W}", T, sizes, VALUE), c.tensor(f"V/{W}", T - 1, sizes, VALUE)
                con = c.constraint(f"E/{W}", all_steps)
                limbs = Limbs(c)
                limbs.product(c.limbs(weight(T, 0)), c.limbs(over(g, T, sources)))
                self.rescaled(con, c.limbs(over(E, T, sources)), limbs, "e")
                con = c.constraint(f"V/{W}", most)
                limbs = Limbs(c)
                limbs.product(c.limbs(weight(T - 1, 0)), c.limbs(over(E, T - 1, sources)))
                self.rescaled(con, c.limbs(over(V, T - 1, sources)), limbs, "v")
            row, summed = (axes[:1], axes[1:]) if len(axes) > 1 else ([], axes)
            require(math.prod(n for _, n in summed) <= 1 << 17, "circuit", "summed indices of squares")
            con = c.constraint(f"squares/{W}", [("step", T), *row], summed)
            E0, E1 = c.limbs(over(E, T, sources))
            domain = Domain((("step", T), *row), True)
            for label, x, y, digits in (
                ("00", E0, E0, radix(U(22), U(22), U(15))),
                ("01", E0, E1, radix(U(22), U(22), B(16))),
                ("11", E1, E1, radix(U(22), U(22), U(15))),
            ):
                wire = c.wire(domain, f"squares/{W}.{label}", digits)
                p.wires.append(wire)
                c.member(con, label, left(product(x, y), neg(c.whole(wire))))
            q = c.view(c.views[self.q][0], ALL, map_("step", range(T - 1)))
            factors = c.limbs(q), c.limbs(over(V, T - 1, sources))
            domain = Domain(tuple(most), True)
            moved = (weight(T - 1, 1), -(1 << 40)), (weight(T - 1, 0), 1 << 40)
            cut = [at(U(22), 0), at(B(18), 22)]
            if not taken(f"perturbation/{W}", most, [], factors, cut, *moved):
                con = c.constraint(f"perturbation/{W}", most)
                limbs = Limbs(c)
                limbs.product(*factors)
                rem = c.wire(domain, f"perturbation/{W}.remainder", [at(U(22), 0), at(U(18), 22)])
                limbs.const(2**39)
                limbs.value(rem, -1)
                limbs.value(weight(T - 1, 1), -1, 40)
                limbs.value(weight(T - 1, 0), 1, 40)
                c.assert_zero(con, domain, "d", limbs)
            e, D = 32 if p.contracted else 0, self.D
            f = next((f for f in range(9) if D % (1 << f) == 0 and D >> f <= 1 << 22), None)
            require(f is not None, "circuit", "D")
            d, middle = D >> f, 10 + f
            few = 2**10 * D <= 2**22 and entries >= 2**11 * D
            if p.factors:
                if few:
                    cut = [at(U(22), 0), at((-(2**9) * D, 2**10 * D), 22)]
                elif d % 2 == 0:
                    cut = [at(U(22), 0), at(U(middle), 22), at((-d // 2, d), 22 + middle)]
                else:
                    cut = [at(U(22), 0), at(B(middle), 22), at((-(d // 2), d), 22 + middle)]
                moved = (weight(T - 1, 2), D << 32), (weight(T - 1, 0), -(D << 32))
                if taken(f"update/{W}", most, p.summed, p.factors("odd"), cut, *moved):
                    continue
            con = c.constraint(f"update/{W}", most, p.summed)
            limbs = p.limbs("odd")
            if not p.contracted:
                digits = [at(U(f), 0)] * (f > 0) + [at(R(d), f)]
            elif few:
                digits = [at(U(22), 0), at(R(2**10 * D), 22)]
            else:
                digits = [at(U(22), 0), at(U(middle), 22), at(R(d), 22 + middle)]
            rem = c.wire(domain, f"update/{W}.remainder", digits)
            limbs.const((D << e) // 2)
            limbs.value(rem, -1)
            for view, m in ((weight(T - 1, 2), D), (weight(T - 1, 0), -D)):
                if D < 2**26:
                    limbs.value(view, m, e)
                else:
                    self.wide_multiple(limbs, view, m, e)
            c.assert_zero(con, domain, "w", limbs)

    # ---- 6. step size

    def wide_multiple(self, limbs: Limbs, view: int, m: int, power: int = 0) -> None:
        for k, v in enumerate(limbs_of(abs(m))):
            limbs.value(view, v if m > 0 else -v, power + 22 * k)

    def step_size(self) -> None:
        c, each = self.c, self.each
        a, b = self.s.rho.numerator, self.s.rho.denominator
        con = c.constraint("step-size", each.axes)

        def wire(name: str, k: int) -> int:
            return c.wire(each, f"step-size/{name}", radix(*[U(22)] * k))

        self.n = n = wire("n", 5)
        limbs = Limbs(c)
        limbs.value(n, -1)
        for p in self.parameters:
            for w, e in zip(p.wires, (0, 23, 44)):
                t = c.tensors[c.views[w][0]]
                limbs.value(c.view(t.number, same("step"), *(ALL for _ in t.sizes)), 1, e)
        c.assert_zero(con, each, "n", limbs)
        q2, q2n, qn2 = wire("q2", 6), wire("q2n", 7), wire("2qn", 7)
        low, high = wire("low", 9), wire("high", 9)
        q_limbs, n_limbs = c.limbs(self.q), c.limbs(n)
        limbs = Limbs(c)
        limbs.product(q_limbs, q_limbs)
        limbs.value(q2, -1)
        c.assert_zero(con, each, "q2", limbs)
        limbs = Limbs(c)
        limbs.product(c.limbs(q2), n_limbs)
        limbs.value(q2n, -1)
        c.assert_zero(con, each, "q2n", limbs)
        limbs = Limbs(c)
        limbs.product(q_limbs, n_limbs, 2)
        limbs.value(n)
        limbs.value(qn2, -1)
        c.assert_zero(con, each, "2qn", limbs)
        limbs = Limbs(c)
        limbs.const(a * a << 144)
        limbs.value(low, -1)
        self.wide_multiple(limbs, q2n, -b * b)
        c.assert_zero(con, each, "low", limbs)
        limbs = Limbs(c)
        limbs.const(-(a * a << 144) - 1)
        limbs.value(high, -1)
        self.wide_multiple(limbs, q2n, b * b)
        self.wide_multiple(limbs, qn2, b * b)
        c.assert_zero(con, each, "high", limbs)

    # ---- 7. score

    def score(self) -> None:
        y = self.log_ratios() if self.ratios else self.sharpnesses()
        c, each, T = self.c, self.each, self.T
        none, ones = Domain(()), [U(22)]
        if self.s.statistic == "max":
            slack = c.wire(each, "score/slack", radix(*ones * 3))
            con = c.constraint("score/threshold", each.axes)
            limbs = Limbs(c)
            limbs.const(self.tau_units)
            limbs.value(slack, -1)
            limbs.value(y, -1)
            c.assert_zero(con, each, "threshold", limbs)
            return
        if self.deviation:
            digits = radix(B(22), B(22), B(8)) if self.ratios else radix(U(22), U(22), U(22), U(18))
            score_sum = c.wire(none, "score/sum", digits)
        squares = c.wire(none, "score/squares", radix(*ones * (5 if self.ratios else 8)))
        self.slack_limbs = 5 if self.ratios else 6
        slack = c.wire(none, "score/slack", radix(*ones * self.slack_limbs))
        con = c.constraint("score/squares", [], each.axes)
        limbs = Limbs(c)
        limbs.product(c.limbs(y), c.limbs(y))
        limbs.value(squares, -1)
        c.assert_zero(con, none, "squares", limbs)
        con = c.constraint("score/threshold", [])
        y_all = c.view(c.views[y][0], ALL, ALL)
        if self.ratios:
            c.member(con, "sum", left(c.whole(y_all), neg(c.whole(score_sum))))
        elif self.deviation:
            limbs = Limbs(c)
            limbs.value(y_all)
            limbs.value(score_sum, -1)
            c.assert_zero(con, none, "sum", limbs)
        limbs = Limbs(c)
        limbs.const(self.factor * self.tau_units**2)
        limbs.value(slack, -1)
        limbs.value(squares, -T if self.deviation else -1)
        if self.deviation:
            limbs.product(c.limbs(score_sum), c.limbs(score_sum))
        c.assert_zero(con, none, "threshold", limbs)
        self.slack = c.views[slack][0]

    def sharpnesses(self) -> int:
        c, each, rho = self.c, self.each, self.s.rho
        con = c.constraint("score/roots", each.axes)
        norm = c.wire(each, "score/scaled-norm", radix(*[U(22)] * 8))
        y = c.wire(each, "score/y", radix(U(22), U(22), U(22), U(8)))
        y2 = c.wire(each, "score/y2", radix(*[U(22)] * 7))
        low, high = (c.wire(each, f"score/{name}", radix(*[U(22)] * 9)) for name in ("low", "high"))
        fours = [4 ** (31 - k) for k in range(32)]
        limbs = Limbs(c)
        limbs.product([self.scale_form(limb(fours, k), self.even) for k in range(3)], c.limbs(self.n))
        limbs.value(norm, -1)
        c.assert_zero(con, each, "scaled-norm", limbs)
        limbs = Limbs(c)
        limbs.product(c.limbs(y), c.limbs(y))
        limbs.value(y2, -1)
        c.assert_zero(con, each, "y2", limbs)
        a, m = rho.numerator**2, (rho.denominator * self.rows) ** 2 * 2**30
        limbs = Limbs(c)
        self.wide_multiple(limbs, norm, a)
        limbs.value(low, -1)
        self.wide_multiple(limbs, y2, -m)
        c.assert_zero(con, each, "low", limbs)
        limbs = Limbs(c)
        limbs.const(m - 1)
        limbs.value(high, -1)
        self.wide_multiple(limbs, norm, -a)
        self.wide_multiple(limbs, y2, m)
        self.wide_multiple(limbs, y, 2 * m)
        c.assert_zero(con, each, "high", limbs)
        return y

    def log_ratios(self) -> int:
        c, each, s = self.c, self.each, self.s
        r = s.rho**2 / (256 * self.rows)
        m = math.lcm(r.denominator, s.eps.denominator)
        k1, k2 = int(r * m), int(s.eps * m)
        g = math.gcd(k1, k2)
        c1, c2 = k1 // g, k2 // g
        l = max(c1 << 110, c2 << 132).bit_length()
        L = -(-(l + 1) // 22)
        con = c.constraint("score/ratios", each.axes)
        scaled_loss = c.wire(each, "score/scaled-loss", radix(*[U(22)] * 6))
        numerator = c.wire(each, "score/numerator", radix(*[U(22)] * L))
        fours = [4**k for k in range(32)]
        limbs = Limbs(c)
        limbs.product([self.scale_form(limb(fours, k), self.even) for k in range(3)], c.limbs(self.loss_total))
        limbs.value(scaled_loss, -1)
        c.assert_zero(con, each, "scaled-loss", limbs)
        limbs = Limbs(c)
        limbs.value(numerator, -1)
        self.wide_multiple(limbs, self.n, c1)
        self.wide_multiple(limbs, scaled_loss, c2)
        c.assert_zero(con, each, "numerator", limbs)
        self.log(con, each, c.limbs(numerator), 22 * L - 1, "score/ln-numerator")
        self.log(con, each, c.limbs(scaled_loss), 131, "score/ln-loss")
        y = c.wire(each, "score/y", radix(B(22), B(18)))
        y_rem = c.wire(each, "score/y.remainder", [at(U(22), 0), at(U(2), 22)])
        limbs = Limbs(c)
        limbs.value(y, -1, 24)
        limbs.value(y_rem, -1)
        self.add_log(limbs, "score/ln-numerator", 1)
        self.add_log(limbs, "score/ln-loss", -1)
        limbs.const(2**23 - ln_units(Fraction(m, g)))
        c.assert_zero(con, each, "y", limbs)
        return y

    # ---- 8. public tensors

    def section_public(self) -> None:
        """`public_digits` holds, for each public tensor, for each digit the list of its values."""
        self.public_digits: list[list[list[int]]] = []
        for t, w in self.public:
            self.c.public.append((t, 0))
            high = [(v + 2**21) >> 22 for v in w]
            self.public_digits.append([[v - (h << 22) for v, h in zip(w, high)], high])
        if self.s.variance is not None:
            require(self.s.statistic != "max", "statement", "a largest value is not revealed")
            v = self.factor * self.tau_units**2 - self.s.variance
            require(0 <= v < 1 << 22 * self.slack_limbs, "statement", "the variance does not fit")
            self.c.public.append((self.slack, 0))
            self.public_digits.append([[v >> (22 * k) & 0x3FFFFF] for k in range(self.slack_limbs)])
