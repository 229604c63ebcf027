"""The field against galois and big integers; transforms and tables against their definitions."""

from __future__ import annotations

import operator

import galois
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zkcert.core import field as fd
from zkcert.core.field import F, P

GF = galois.GF(P)
GF2 = galois.GF(
    P**2,
    irreducible_poly=galois.Poly([1, 0, 1], field=GF),
    primitive_element=galois.Poly([1, 5], field=GF),
    verify=False,
)

EDGES = [0, 1, 2, P - 1, P - 2, (1 << 32) - 1, 1 << 32, (1 << 60) + 1, P // 2, P ^ 0xFFFFFFFF]
residues = st.one_of(st.sampled_from(EDGES), st.integers(0, P - 1))
scalars = st.builds(F, residues, residues)
vectors = st.lists(scalars, min_size=1, max_size=9)
points = st.lists(scalars, max_size=5)


def total(values):
    return sum(values, F.ZERO)


def galois_scalar(x):
    return GF2(x.re + x.im * P)


def from_galois(x):
    im, re = divmod(int(x), P)
    return F(re, im)


@given(scalars, scalars, st.integers(-5, 1 << 62))
@settings(max_examples=60, deadline=None)
def test_scalars_agree_with_galois(a, b, e):
    x, y = galois_scalar(a), galois_scalar(b)
    assert from_galois(x + y) == a + b
    assert from_galois(x - y) == a - b
    assert from_galois(x * y) == a * b
    assert from_galois(-x) == -a
    assert from_galois(x**P) == a.conj()
    if b:
        assert from_galois(x / y) == a / b
        assert b * b.inv() == 1
        assert from_galois(y**e) == b**e


@given(scalars, st.integers(-(1 << 70), 1 << 70))
def test_scalars_mix_with_integers(a, n):
    f = F(n)
    assert (a + n, n + a) == (a + f, f + a)
    assert (a - n, n - a) == (a - f, f - a)
    assert (a * n, n * a) == (a * f, f * a)
    assert f == n and (f != n + 1) and (a == n) == (a == f)
    if n % P:
        assert a / n == a / f


def test_scalars_are_immutable_values():
    a = F(5, P + 7)
    assert (a.re, a.im) == (5, 7)
    with pytest.raises(AttributeError):
        a.re = 3
    assert len({a, F(5, 7), F(5), F(5 - P), 5}) == 2
    assert eval(repr(a)) == a
    assert a != "5" and bool(a) and not F.ZERO and F.ONE == 1
    for operation in (operator.add, operator.sub, operator.mul, operator.truediv):
        for pair in ((a, 0.5), (0.5, a)):
            with pytest.raises(TypeError):
                operation(*pair)
    for operation in (F.ZERO.inv, lambda: a / 0, lambda: F.ZERO**-1):
        with pytest.raises(ZeroDivisionError):
            operation()


@given(scalars)
def test_scalar_bytes(a):
    data = a.to_bytes()
    assert data == a.re.to_bytes(8, "little") + a.im.to_bytes(8, "little")
    assert F.from_bytes(data) == a


def test_bytes_must_be_canonical():
    top, p = (P - 1).to_bytes(8, "little"), P.to_bytes(8, "little")
    assert F.from_bytes(top + top) == F(P - 1, P - 1)
    for data in (p + top, top + p, b"\xff" * 16, top, top + top + b"\0"):
        with pytest.raises(ValueError):
            F.from_bytes(data)
        with pytest.raises(ValueError):
            fd.f_from_bytes(data)


@given(st.lists(st.tuples(residues, residues), min_size=1, max_size=20))
@settings(deadline=None)
def test_fp_arrays_agree_with_galois(pairs):
    a, b = np.array(pairs, np.uint64).T
    x, y = GF(a.tolist()), GF(b.tolist())
    for ours, theirs in (
        (fd.fp_add(a, b), x + y),
        (fd.fp_sub(a, b), x - y),
        (fd.fp_mul(a, b), x * y),
        (fd.fp_neg(a), -x),
    ):
        assert ours.dtype == np.uint64
        assert ours.tolist() == [int(v) for v in theirs]
    assert int(fd.fp_sum(a)) == sum(a.tolist()) % P


@given(st.lists(st.sampled_from([-(1 << 63), (1 << 63) - 1, -P, P, -P - 1, 1 - P, -1, 0, 1])))
def test_fp_from_int(values):
    assert fd.fp_from_int(np.array(values, np.int64)).tolist() == [v % P for v in values]


@given(st.data(), vectors)
def test_f_arrays_agree_with_scalars(data, a):
    b = data.draw(st.lists(scalars, min_size=len(a), max_size=len(a)))
    r, x, y = data.draw(scalars), fd.f_array(a), fd.f_array(b)
    assert fd.f_list(x) == a and fd.f_item(x, len(a) - 1) == a[-1]
    assert fd.f_list(fd.f_add(x, y)) == [u + v for u, v in zip(a, b, strict=True)]
    assert fd.f_list(fd.f_sub(x, y)) == [u - v for u, v in zip(a, b, strict=True)]
    assert fd.f_list(fd.f_mul(x, y)) == [u * v for u, v in zip(a, b, strict=True)]
    assert fd.f_list(fd.fp_neg(x)) == [-u for u in a]
    assert fd.f_list(fd.f_conj(x)) == [u.conj() for u in a]
    assert fd.f_list(fd.f_mul_scalar(x, r)) == [u * r for u in a]
    assert fd.f_list(fd.f_scale(x, y[0])) == [u * v.re for u, v in zip(a, b, strict=True)]
    assert fd.f_list(fd.f_from_fp(x[0])) == [F(u.re) for u in a]
    assert fd.f_item(fd.f_sum(x)) == total(a)
    assert fd.f_dot(x, y) == total(u * v for u, v in zip(a, b, strict=True))
    encoded = fd.f_to_bytes(x)
    assert encoded == b"".join(u.to_bytes() for u in a)
    np.testing.assert_array_equal(fd.f_from_bytes(encoded), x)


def random_field(*shape, seed=1):
    return np.random.default_rng(seed).integers(0, P, size=(2, *shape), dtype=np.uint64)


def test_products_of_all_edge_values():
    edges = np.array(EDGES, np.uint64)
    lanes = np.stack([v.ravel() for v in np.meshgrid(edges, edges)])
    for x in (lanes, lanes[:, ::-1], lanes[::-1]):
        expected = [u * v for u, v in zip(fd.f_list(lanes), fd.f_list(x), strict=True)]
        assert fd.f_list(fd.f_mul(lanes, x)) == expected
        assert fd.f_list(fd.f_mul(lanes, fd.f_conj(x))) == [
            u * v.conj() for u, v in zip(fd.f_list(lanes), fd.f_list(x), strict=True)
        ]


@pytest.mark.parametrize(
    "left, right",
    [
        ((), ()),
        ((), (3,)),
        ((0,), (0,)),
        ((4,), (2, 1, 4)),
        ((3, 1), (5,)),
        ((40000,), (40000,)),
        ((9, 1, 3000), (2, 1)),
    ],
)
def test_products_broadcast_over_trailing_axes(left, right):
    a, b = random_field(*left, seed=1), random_field(*right, seed=2)
    shape = np.broadcast_shapes(left, right)
    for operation, lane in ((fd.f_mul, fd.fp_mul), (fd.f_add, fd.fp_add), (fd.f_sub, fd.fp_sub)):
        result = operation(a, b)
        assert result.shape == (2, *shape)
        if operation is fd.f_mul:
            real = fd.fp_sub(lane(a[0], b[0]), lane(a[1], b[1]))
            np.testing.assert_array_equal(result[0], real)
            np.testing.assert_array_equal(result[1], fd.fp_add(lane(a[0], b[1]), lane(a[1], b[0])))
        else:
            np.testing.assert_array_equal(result, np.stack([lane(a[k], b[k]) for k in range(2)]))
    assert fd.fp_mul(a[0], b[0]).shape == shape
    scaled = fd.f_scale(a, b[0])
    np.testing.assert_array_equal(scaled, np.stack([fd.fp_mul(a[k], b[0]) for k in range(2)]))


def test_products_of_strided_operands():
    a = random_field(6, 5000)
    x, y = a[:, ::2, ::-1], np.swapaxes(a, 1, 2)[:, ::-1, ::2].swapaxes(1, 2)
    np.testing.assert_array_equal(fd.f_mul(x, y), fd.f_mul(x.copy(), y.copy()))


def test_long_products_agree_with_integers():
    a, b = random_field(70000)[0], random_field(70000, seed=2)[0]
    expected = [u * v % P for u, v in zip(a.tolist(), b.tolist(), strict=True)]
    assert fd.fp_mul(a, b).tolist() == expected


def test_sums_do_not_overflow():
    x = np.broadcast_to(np.uint64(P - 1), (2, 3, 1 << 20))
    assert fd.f_sum(x).tolist() == [[-(1 << 20) % P] * 3] * 2
    y = random_field(3, 4)
    for axis in (1, 2, -1, -2):
        expected = y.astype(object).sum(axis) % P
        assert fd.f_sum(y, axis).tolist() == expected.tolist()
    for axis in (0, -3):
        with pytest.raises(ValueError):
            fd.f_sum(y, axis)


def test_matrix_products():
    v, rng = random_field(11), np.random.default_rng(3)
    m = random_field(4, 11, seed=4)
    scalars_v = fd.f_list(v)
    signed = rng.integers(-(1 << 22), (1 << 22) + 1, size=(4, 11))
    for x in (signed, signed.astype(np.int32)):
        expected = [total(int(c) * s for c, s in zip(row, scalars_v, strict=True)) for row in x]
        assert fd.f_list(fd.f_dot_int(x, v)) == expected
    expected = [fd.f_dot(m[:, i], v) for i in range(4)]
    assert fd.f_list(fd.f_matvec(m, v)) == expected
    wide = random_field(3, 1 << 18)
    ones = np.stack((np.ones(1 << 18, np.uint64), np.zeros(1 << 18, np.uint64)))
    np.testing.assert_array_equal(fd.f_matvec(wide, ones), fd.f_sum(wide))
    for digit in (1 << 22, -(1 << 22)):
        digits = np.full((3, (1 << 17) + 5), digit)
        largest = np.full((2, (1 << 17) + 5), P - 1, np.uint64)
        assert fd.f_list(fd.f_dot_int(digits, largest)) == [fd.F(1, 1) * (-digit * ((1 << 17) + 5))] * 3


@given(points, st.data())
@settings(deadline=None)
def test_eq_table(point, data):
    n = len(point)
    table = fd.f_list(fd.eq_table(point))
    assert len(table) == 1 << n
    for i, value in enumerate(table):
        product = F.ONE
        for j, r in enumerate(point):
            product *= r if i >> (n - 1 - j) & 1 else 1 - r
        assert value == product
    other = data.draw(st.lists(scalars, min_size=n, max_size=n))
    others = fd.f_list(fd.eq_table(other))
    assert fd.eq_eval(point, other) == total(u * v for u, v in zip(table, others, strict=True))


def test_roots_of_unity():
    assert fd.root_of_unity(0) == 1 and fd.root_of_unity(1) == -1 and fd.root_of_unity(2) == F(0, 1)
    for k in range(1, 62):
        root = fd.root_of_unity(k)
        assert root * root == fd.root_of_unity(k - 1)
        assert root * root.conj() == 1
    for k in (-1, 62):
        with pytest.raises(ValueError):
            fd.root_of_unity(k)


@pytest.mark.parametrize("log_n", range(8))
def test_fft_evaluates(log_n):
    n, w = 1 << log_n, fd.root_of_unity(log_n)
    for m in {1, (n + 1) // 2, n}:
        coeffs = random_field(2, m)
        values = fd.f_fft(coeffs, log_n)
        assert values.shape == (2, 2, n)
        for row in range(2):
            powers = [fd.f_item(coeffs, (row, k)) for k in range(m)]
            for j in range(n):
                expected = F.ZERO
                for c in reversed(powers):
                    expected = expected * w**j + c
                assert fd.f_item(values, (row, j)) == expected


@pytest.mark.parametrize("log_n", [0, 1, 5, 12, 17])
def test_ifft_inverts(log_n):
    n = 1 << log_n
    coeffs = random_field(n)
    values = fd.f_fft(coeffs, log_n)
    np.testing.assert_array_equal(fd.f_ifft(values), coeffs)
    point, expected = fd.root_of_unity(log_n) ** (n // 3), F.ZERO
    for c in reversed(fd.f_list(coeffs)):
        expected = expected * point + c
    assert fd.f_item(values, n // 3) == expected


def test_fft_rejects_bad_lengths():
    with pytest.raises(ValueError, match="coefficients"):
        fd.f_fft(random_field(5), 2)
    with pytest.raises(ValueError, match="power of two"):
        fd.f_ifft(random_field(6))
