"""The fields (field.md): F_p with p = 2^61 - 1 as Python integers, F = F_p[i]/(i^2 + 1) as `El`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .errors import Reject

P = (1 << 61) - 1


class El:
    """The element a + b i of F; both lanes are kept in [0, p)."""

    __slots__ = ("a", "b")

    def __init__(self, a: int, b: int = 0) -> None:
        self.a = a % P
        self.b = b % P

    def __add__(self, o: El | int) -> El:
        if isinstance(o, int):
            return El(self.a + o, self.b)
        return El(self.a + o.a, self.b + o.b)

    __radd__ = __add__

    def __sub__(self, o: El | int) -> El:
        if isinstance(o, int):
            return El(self.a - o, self.b)
        return El(self.a - o.a, self.b - o.b)

    def __rsub__(self, o: int) -> El:
        return El(o - self.a, -self.b)

    def __neg__(self) -> El:
        return El(-self.a, -self.b)

    def __mul__(self, o: El | int) -> El:
        if isinstance(o, int):
            return El(self.a * o, self.b * o)
        a, b, c, d = self.a, self.b, o.a, o.b
        return El(a * c - b * d, a * d + b * c)

    __rmul__ = __mul__

    def __pow__(self, n: int) -> El:
        out, base = El(1), self
        while n:
            if n & 1:
                out = out * base
            base = base * base
            n >>= 1
        return out

    def __eq__(self, o: object) -> bool:
        if isinstance(o, int):
            return self.b == 0 and (self.a - o) % P == 0
        return isinstance(o, El) and self.a == o.a and self.b == o.b

    def __hash__(self) -> int:
        return hash((self.a, self.b))

    def __bool__(self) -> bool:
        return bool(self.a or self.b)

    def __repr__(self) -> str:
        return f"[{self.a},{self.b}]"

    def conj(self) -> El:
        """The conjugate a - b i."""
        return El(self.a, -self.b)

    def inverse(self) -> El:
        """1 / self; a zero rejects (field.md, "Inverses")."""
        norm = (self.a * self.a + self.b * self.b) % P
        if not norm:
            raise Reject("division by a challenge that is zero")
        n = pow(norm, P - 2, P)
        return El(self.a * n, -self.b * n)

    def to_bytes(self) -> bytes:
        return self.a.to_bytes(8, "little") + self.b.to_bytes(8, "little")


ZERO, ONE, I = El(0), El(1), El(0, 1)


def elements(data: bytes, what: str) -> list[El]:
    """Elements of 16 bytes each; a lane that is not below p rejects."""
    out = []
    for at in range(0, len(data), 16):
        a, b = int.from_bytes(data[at : at + 8], "little"), int.from_bytes(data[at + 8 : at + 16], "little")
        if a >= P or b >= P:
            raise Reject("malformed", f"a lane is not below p in {what}")
        out.append(El(a, b))
    return out


def omega(m: int) -> El:
    """The root of unity of order 2^m."""
    root = El(3, 5) ** (P - 1)
    for _ in range(61 - m):
        root = root * root
    return root


def powers(x: El, n: int) -> list[El]:
    """x^0, ..., x^(n-1)."""
    out, at = [], ONE
    for _ in range(n):
        out.append(at)
        at = at * x
    return out


def bits(n: int) -> int:
    """The smallest b with 2^b >= n, for n >= 1."""
    return (n - 1).bit_length()


def reverse(j: int, m: int) -> int:
    """`j` with its m bits reversed."""
    return int(format(j, f"0{m}b")[::-1], 2) if m else 0


def dot(xs: Iterable[El], ys: Iterable[El]) -> El:
    """The sum of products, reduced once."""
    a = b = 0
    for x, y in zip(xs, ys):
        xa, xb, ya, yb = x.a, x.b, y.a, y.b
        a += xa * ya - xb * yb
        b += xa * yb + xb * ya
    return El(a, b)


def total(xs: Iterable[El]) -> El:
    """The sum of elements."""
    a = b = 0
    for x in xs:
        a += x.a
        b += x.b
    return El(a, b)


def horner(coefficients: Sequence[El], x: El) -> El:
    """The polynomial with these coefficients, the constant one first, at x."""
    xa, xb = x.a, x.b
    a = b = 0
    for c in reversed(coefficients):
        a, b = (a * xa - b * xb + c.a) % P, (a * xb + b * xa + c.b) % P
    return El(a, b)


def eq_index(point: Sequence[El], i: int) -> El:
    """eq(r, i); r_0 belongs to the most significant bit."""
    out, n = ONE, len(point)
    for j, r in enumerate(point):
        out = out * (r if i >> (n - 1 - j) & 1 else 1 - r)
    return out


def eq_points(r: Sequence[El], s: Sequence[El]) -> El:
    """eq of two points."""
    out = ONE
    for x, y in zip(r, s, strict=True):
        out = out * (1 - x - y + 2 * (x * y))
    return out


def eq_vector(point: Sequence[El], size: int) -> list[El]:
    """eq(r, i) for i < size."""
    out = [ONE]
    for j, r in enumerate(point):
        nxt = []
        for v in out:
            high = v * r
            nxt.append(v - high)
            nxt.append(high)
        out = nxt[: -(-size // (1 << (len(point) - 1 - j)))]  # no more prefixes than indices below size have
    return out[:size]


def eq_prefix(point: Sequence[El], stop: int) -> El:
    """The sum of eq(r, i) over i < stop."""
    n = len(point)
    if stop >= 1 << n:
        return ONE
    out, at = ZERO, ONE
    for j, r in enumerate(point):
        if stop >> (n - 1 - j) & 1:
            out = out + at * (1 - r)
            at = at * r
        else:
            at = at * (1 - r)
    return out


def eq_prefix_index(point: Sequence[El], stop: int) -> El:
    """The sum of eq(r, i) i over i < stop."""
    n = len(point)

    def full(k: int) -> El:  # the sum over all values of the last n - k coordinates
        return total(r * (1 << (n - 1 - j)) for j, r in enumerate(point) if j >= k)

    if stop >= 1 << n:
        return full(0)
    out, at, base = ZERO, ONE, 0
    for j, r in enumerate(point):
        if stop >> (n - 1 - j) & 1:
            out = out + at * (1 - r) * (full(j + 1) + base)
            at = at * r
            base += 1 << (n - 1 - j)
        else:
            at = at * (1 - r)
    return out


def eq_product_prefix(r: Sequence[El], s: Sequence[El], stop: int) -> El:
    """The sum of eq(r, i) eq(s, i) over i < stop, for points of the same length."""
    n = len(r)
    after = [ONE] * (n + 1)
    for j in range(n - 1, -1, -1):
        after[j] = after[j + 1] * ((1 - r[j]) * (1 - s[j]) + r[j] * s[j])
    if stop >= 1 << n:
        return after[0]
    out, at = ZERO, ONE
    for j in range(n):
        low, high = (1 - r[j]) * (1 - s[j]), r[j] * s[j]
        if stop >> (n - 1 - j) & 1:
            out = out + at * low * after[j + 1]
            at = at * high
        else:
            at = at * low
    return out
