"""How the residues, quotients and carries of combinations are filled, once the weights are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from circuits.language.combination import Closing, Division, Reduction
from circuits.language.drawn import PARTS, parts_of
from circuits.language.forms import View
from circuits.language.sources import Axis
from circuits.language.tensors import DIGIT_BITS
from prover.execution.arithmetic import limb_products
from prover.execution.witness import Witness

from .kernels import weigh
from .tables import read

I64 = NDArray[np.int64]
HALF_BITS = 11  # of a part of a weight
EXACT_TERMS = 1 << (53 - HALF_BITS - DIGIT_BITS)  # products of digits and halves that float64 adds up exactly


def fill_combinations(w: Witness) -> None:
    """Fill every late tensor of the circuit, whose weights are drawn."""
    for combination in w.circuit.combinations:
        for reduction in combination.reductions:
            fill_reduction(w, reduction)
        fill_closing(w, combination.closing)


def fill_reduction(w: Witness, reduction: Reduction) -> None:
    """Fill what a reduction commits."""
    shape = [axis.size for axis in reduction.con.out]
    limbs = np.zeros((len(reduction.draws), len(PARTS), *shape), np.int64)
    users: dict[tuple[View, int], list[tuple[int, int]]] = {}
    for i, terms in enumerate(reduction.terms):
        for view, d, coef in terms:
            users.setdefault((view, d), []).append((i, coef))
    for digit, uses in users.items():
        _add_weighed(w, reduction, digit, uses, limbs)
    for division, parts in zip(reduction.divisions, limbs, strict=True):
        fill_division(w, division, list(parts))


def _add_weighed(
    w: Witness, reduction: Reduction, digit: tuple[View, int], uses: Sequence[tuple[int, int]], limbs: I64
) -> None:
    """Add the weighed sums of one digit of a view: uses are the primes' numbers and the digit's factors."""
    axes = [Axis(a, n) for source in digit[0].sources for a, n in source.extents().items()]
    names = [axis.name for axis in axes]
    if reduction.axis not in names:
        _add_alike(w, reduction, digit, axes, uses, limbs)
        return
    at = names.index(reduction.axis)
    n, inner = axes[at].size, prod(axis.size for axis in axes[at + 1 :])
    parts = [parts_of(reduction.draws[i].values[:n], coef, reduction.draws[i].prime) for i, coef in uses]
    weights = np.concatenate(parts).astype(np.int32)
    shape = [axis.size if axis.name in names else 1 for axis in reduction.con.out[1:]]
    for step in range(axes[0].size):
        x, _ = read(w, digit, axes, {axes[0].name: slice(step, step + 1)})
        x = np.ascontiguousarray(x.reshape(-1, n, inner))
        if inner == 1:
            sums = exact_sums(x[:, :, 0], weights)
        else:
            sums = np.zeros((len(weights), x.shape[0], inner), np.int64)
            weigh(x, weights, sums)
        for (i, _), own in zip(uses, sums.reshape(len(uses), len(PARTS), *shape), strict=True):
            limbs[i, :, step] += own


def exact_sums(x: NDArray[np.int32], weights: NDArray[np.int32]) -> I64:
    """weights (m, n) times x (rows, n): int64 (m, rows), by exact float64 products of halves of the weights."""
    y, half = x.astype(np.float64), HALF_BITS
    low, high = (weights & ((1 << half) - 1)).astype(np.float64), (weights >> half).astype(np.float64)
    out: I64 = np.zeros((len(weights), len(x)), np.int64)
    for start in range(0, x.shape[1], EXACT_TERMS):
        part = slice(start, start + EXACT_TERMS)
        out += (low[:, part] @ y[:, part].T).astype(np.int64)
        out += (high[:, part] @ y[:, part].T).astype(np.int64) << half
    return out


def _add_alike(
    w: Witness,
    reduction: Reduction,
    digit: tuple[View, int],
    axes: Sequence[Axis],
    uses: Sequence[tuple[int, int]],
    limbs: I64,
) -> None:
    """The same for a digit that does not read the axis, and perhaps others neither."""
    x, out = w.read(*digit, axes), [axis.name for axis in reduction.con.out]
    names = [axis.name for axis in axes]
    x = x.transpose(sorted(range(len(names)), key=lambda i: out.index(names[i])))
    shape = iter(x.shape)
    x = x.reshape([next(shape) if name in names else 1 for name in out])
    for i, coef in uses:
        draw = reduction.draws[i]
        total = draw.values[: reduction.size].sum(keepdims=True) % draw.prime
        for part, weight in enumerate(parts_of(total, coef, draw.prime)[:, 0]):
            limbs[i, part] += x * weight


def fill_closing(w: Witness, closing: Closing) -> None:
    """Fill the quotients and carries of a closing."""
    every = (*closing.con.out, *closing.con.summed)
    inner = tuple(range(len(closing.con.out), len(every)))
    parts = zip(closing.divisions, closing.left, closing.right, closing.rest, strict=True)
    for division, left, right, rest in parts:
        a, b = ([w.form(form, every) for form in forms] for forms in (left, right))
        limbs = [part.sum(axis=inner) for part in limb_products(a, b)]
        for d in range(len(rest.tensor.digits)):
            limbs[d] = limbs[d] + w.digit(rest.tensor, d)
        fill_division(w, division, limbs)


def fill_division(w: Witness, division: Division, limbs: Sequence[I64]) -> None:
    """Divide sum_k limbs[k] 2^(22 k) by the prime, and fill residue, quotient and carries."""
    rest, quotient = np.zeros_like(limbs[0]), np.zeros_like(limbs[0])
    for limb in reversed(limbs):
        now = (rest << DIGIT_BITS) + limb
        part = now // division.prime
        rest, quotient = now - part * division.prime, (quotient << DIGIT_BITS) + part
    left = list(limbs)
    if division.residue is not None:
        w.put(division.residue.tensor, rest)
        _subtract(w, left, division.residue, 1)
    w.put(division.quotient.tensor, quotient)
    _subtract(w, left, division.quotient, division.prime)
    carry: I64 | int = 0
    for step in division.steps:
        here = range(step.first, min(step.last, len(left)))
        total = carry + sum(left[k] << DIGIT_BITS * (k - step.first) for k in here)
        carry = total >> DIGIT_BITS * (step.last - step.first)
        if step.carry is not None:
            w.put(step.carry.tensor, carry)


def _subtract(w: Witness, limbs: list[I64], view: View, coef: int) -> None:
    """Subtract a multiple of a tensor, digit by digit, from limbs."""
    for i, d in enumerate(view.tensor.digits):
        k, rest = divmod(d.shift, DIGIT_BITS)
        limbs += [np.zeros_like(limbs[0]) for _ in range(k + 1 - len(limbs))]
        limbs[k] = limbs[k] - w.digit(view.tensor, i).astype(np.int64) * (coef << rest)
