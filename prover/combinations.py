"""How the residues, quotients and carries of combinations are filled, once the weights are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from circuits.language.combination import Closing, Division, Reduction
from circuits.language.constraints import DomainAxis
from circuits.language.drawn import PARTS
from circuits.language.forms import View
from circuits.language.tensors import DIGIT_BITS
from prover.execution.arithmetic import limb_products
from prover.execution.witness import Witness

from .kernels import weigh
from .tables import read

I64 = NDArray[np.int64]


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
    axes = [DomainAxis(a, n) for source in digit[0].sources for a, n in source.extents().items()]
    at = [axis.name for axis in axes].index(reduction.axis)
    n = axes[at].size
    rows = []
    for i, coef in uses:
        draw = reduction.draws[i]
        whole = draw.values[:n] * (coef % draw.prime) % draw.prime
        rows += [whole >> shift & ((1 << bits) - 1) for shift, bits in PARTS]
    weights = np.array(rows, np.int32)
    for step in range(axes[0].size):
        x, _ = read(w, digit, axes, {axes[0].name: slice(step, step + 1)})
        x = np.ascontiguousarray(x.reshape(-1, n, int(np.prod([axis.size for axis in axes[at + 1 :]], dtype=np.int64))))
        sums = np.zeros((len(rows), x.shape[0], x.shape[2]), np.int64)
        weigh(x, weights, sums)
        for (i, _), parts in zip(uses, sums.reshape(len(uses), len(PARTS), *limbs.shape[3:]), strict=True):
            limbs[i, :, step] += parts


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
