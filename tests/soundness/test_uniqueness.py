"""Soundness of the circuits: samples and public values determine every digit, and no identity can be left out.

Everything follows from the circuits' declarations (unrolled.py, determined.py): a new layer type is
covered as soon as `every_layer` uses it. Harmless freedom is listed in TIES, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from fractions import Fraction
from functools import cache, cached_property
from itertools import count
from math import isqrt

import numpy as np
import pytest

from circuits.graph import Connections
from circuits.head.constants import LOG_STAGES, LOG_TABLE, ONE, log_factors
from circuits.head.score import Q_LIMIT
from circuits.language.constraints import Constraint
from circuits.layers import LAYERS
from tests.activations import curved
from tests.branching import Branching
from tests.builders import (
    KINDS,
    VARIANTS,
    Case,
    bordered,
    classifier,
    leaky,
    normalised,
    residual,
    tiny_cnn,
    violations,
    wide,
)
from tests.soundness.determined import Contradiction, Knowledge
from tests.soundness.honest import CASES
from tests.soundness.unrolled import Equation, Unrolled
from zkcert.core.field import P

# What a prover may choose where values are equal: which of the largest logits, which of the largest losses attains the
# maximum. Nothing else depends on it (test_ties_are_the_only_freedom).
TIES = {"softmax/is-max", "scale/is-largest"}
# Members that all others imply, (constraint, member): that exactly one bit of a stage of a logarithm is set. With none
# or two the next w would be 0 or about 2, and the next stage wants one just above 1 (two tests prove it). These cost no
# digit and stay, so that a choice is one whatever the tables are.
IMPLIED = {(con, f"c{i}") for con in ("loss/samples", "score/ratios") for i in range(4)}
# Needed, though no digit of `every_layer` that is off by one says so: each has a test of its own.
ELSEWHERE = {("softmax", "far"), ("step-size", "q2n[8:9]"), ("step-size", "q2n[9:]")}
SPARE = IMPLIED | ELSEWHERE
FEW = 8


def every_layer(seed: int = 0, **options) -> Case:
    """Every kind of layer on a handful of positions, with and without biases, shortcuts, what only a ReLU reads, and
    sums of five terms: branches, and gradients."""
    g = Branching(np.random.default_rng([seed, 10]), [1, 2, 3]).norm().relu().conv(2, (1, 2))
    g.pool("maxpool2d", (2, 1), (1, 1)).relu()
    stem = g.last
    g.conv(2, (1, 1), bias=False).norm().group_norm().add(stem).relu()
    block = g.last
    g.pool("maxpool2d", (1, 3), (1, 1), padding=[0, 1]).add(block)
    two = g.last
    g.relu().read(block).add(two).add(block).add(block)
    four = g.last
    g.adaptive(1, 3).pool("avgpool2d", (1, 2), (1, 2)).hardtanh(-1.0, 1.0).conv(2, (1, 1), groups=2, bias=False)
    g.plain("hardswish").function("elu")
    point = g.last
    g.branch(four).multiply(point).pool("maxpool2d", (1, 2), (1, 2)).cat(point).channels(0, 4, 2).prelu(4).flatten()
    g.linear(2).leaky_relu(0.3).plain("hardsigmoid").linear(1, bias=False).binary()
    return g.case(seed=seed, **{"batch": 1, "divisor": 3, "rho": Fraction(1, 1000), **options})


def every_sequence(seed: int = 0, **options) -> Case:
    """The same of layers of sequences, on windows of two tokens: of all other kinds that tokens can have."""
    g = Branching(np.random.default_rng([seed, 26]), [1, 1, 2]).embedding(3, 2)
    g.positions().prepend().conv(6, (1, 1), bias=False).attention(1, causal=True).conv(2, (1, 2), bias=False)
    g.moved("line")
    stem = g.last
    g.moved("take", position=1).multiply(stem).unembedding()
    return g.case(seed=seed, **{"batch": 1, "divisor": 3, "rho": Fraction(1, 1000), **options})


class Solved:
    """A case whose digits were determined, with what each conclusion rests on."""

    def __init__(self, case: Case, patient: bool = False, reduced: bool = True) -> None:
        """reduced: residues lie below their primes, so that there is one for a congruence (see the test of them)."""
        certificate, self.witness, _ = case.run()
        self.circuit = certificate.circuit
        self.u = Unrolled(self.circuit)
        self.values = self.u.values(self.witness)
        self.unknown = self.u.unknown()
        self.bounds = {v: (0, prime - 1) for v, prime in self.residues()} if reduced else {}
        self.k = Knowledge(self.u, self.values, self.unknown, bounds=self.bounds).solve(patient)

    @property
    def constraints(self) -> list[Constraint]:
        """Those of the circuit, and its lookups."""
        return [*self.circuit.constraints, *self.u.lookups]

    def residues(self) -> Iterator[tuple[int, int]]:
        """The variables that hold residues, and their primes."""
        for combination in self.circuit.combinations:
            for division in (d for reduction in combination.reductions for d in reduction.divisions):
                if division.residue is not None:
                    for v in self.u.wholes(division.residue.tensor):
                        yield v, division.prime

    def free(self) -> set[str]:
        """Tensors of the digits that are not determined."""
        return {self.u.names[v][0].name for v in self.k.free()}

    def agrees(self) -> bool:
        """Whether everything concluded holds for the honest execution."""
        k = self.k
        return all(lo <= x <= hi for lo, x, hi in zip(k.lo, self.values, k.hi, strict=True))

    # -- what rests on a member, at the last index of its constraint where none says nothing

    def last(self, con: Constraint) -> tuple[int, ...]:
        """That index: a padded window has entries outside the image, of which identities say nothing."""
        return self._last.get(id(con), tuple(ax.size - 1 for ax in con.out))

    @cached_property
    def _last(self) -> dict[int, tuple[int, ...]]:
        said: dict[tuple[int, tuple[int, ...]], set[int]] = {}
        for e in self.u.equations:
            if e.constraint is not None and e.variables:
                said.setdefault((id(e.constraint), e.index), set()).update(e.members)
        out: dict[int, tuple[int, ...]] = {}
        for con in self.constraints:
            whole = [index for (c, index), ms in said.items() if c == id(con) and len(ms) == len(con.members)]
            if whole:
                out[id(con)] = max(whole)
        return out

    @cached_property
    def members(self) -> list[tuple[Constraint, int]]:
        return [(con, m) for con in self.constraints for m in range(len(con.members))]

    def sums(self) -> list[int]:
        """The members that say what a long sum is."""
        names = [(con.name.rsplit("/")[-1], con.members[m][0]) for con, m in self.members]
        return [i for i, name in enumerate(names) if name in (("sum", "sum"), ("dy", "sum"))]

    @cached_property
    def own(self) -> dict[tuple[int, int], list[Equation]]:
        """The equations at the last index that state a member, alone or added up with others."""
        out: dict[tuple[int, int], list[Equation]] = {}
        for e in self.u.equations:
            if e.constraint is not None and e.index == self.last(e.constraint):
                for m in e.members:
                    out.setdefault((id(e.constraint), m), []).append(e)
        return out

    @cached_property
    def at(self) -> dict[int, list[Equation]]:
        """The equations of each variable."""
        out: dict[int, list[Equation]] = {}
        for e in self.u.equations:
            for v in e.variables:
                out.setdefault(v, []).append(e)
        return out

    @cached_property
    def first(self) -> dict[int, int]:
        """When something was first learnt of a variable."""
        out: dict[int, int] = {}
        for n, (v, _) in enumerate(self.k.log):
            out.setdefault(v, n)
        return out

    @cached_property
    def rests(self) -> list[int]:
        """Per variable, a bit for each member that its value was concluded from (or may have been)."""
        bit = {(id(con), m): 1 << i for i, (con, m) in enumerate(self.members)}
        says = {v: self.k.groups[g] for v, g in self.k.group.items()}
        one = {e.variables: e for e in self.u.equations if self.u.says_one(e)}

        @cache
        def basis(e: Equation) -> tuple[int, tuple[int, ...]]:
            """Members an equation states or uses, and all variables that it speaks of."""
            used, variables = [e], set(e.variables)
            for v in e.variables:
                if v in says:
                    used.append(one[says[v]])
                    variables.update(says[v])
            bits = 0
            for x in used:
                if x.constraint is not None and x.index == self.last(x.constraint):
                    for m in x.members:
                        bits |= bit[id(x.constraint), m]
            return bits, tuple(variables)

        out = [0] * len(self.values)
        for v, reasons in self.k.log:
            for e in reasons:
                bits, variables = basis(e)
                for x in variables:
                    bits |= out[x]
                out[v] |= bits
        return out

    def without(
        self,
        con: Constraint,
        m: int,
        unknown: set[int],
        pin: dict[int, int] | None = None,
        later: Set[int] = frozenset(),
    ) -> Knowledge:
        """What follows without a member where only some variables are unknown, from equations that do not speak of
        `later` ones. pin: values given to a few of the unknown."""
        gone = {id(e) for e in self.own[id(con), m]}
        found = {id(e): e for v in unknown for e in self.at.get(v, ()) if id(e) not in gone}
        rest = [self.u.equation(con, label, e, self.last(con), ms) for label, e, ms in self.u.wide(con, m)]
        equations = [e for e in [*found.values(), *rest] if not later or later.isdisjoint(e.variables)]
        pin = pin or {}
        values = list(self.values)
        for v, x in pin.items():
            values[v] = x
        return Knowledge(self.u, values, [v for v in unknown if v not in pin], equations, self.bounds).solve()

    def without_all(self, names: Set[tuple[str, str]]) -> Knowledge:
        """What follows from samples and public values without these members at any index."""
        equations = [e for e in self.u.equations if e.constraint is None]
        for con in self.constraints:
            gone = {m for m, (label, _) in enumerate(con.members) if (con.name, label) in names}
            own = [e for e in self.u.equations if e.constraint is con]
            equations += [e for e in own if gone.isdisjoint(e.members)]
            assert all(len(e.members) == 1 for e in own if not gone.isdisjoint(e.members))  # no limb of a wide identity
        return Knowledge(self.u, self.values, self.unknown, equations, self.bounds).solve()

    def spoken_of(self, i: int) -> tuple[set[int], set[int]]:
        """The values (with their digits) that rest on member i: those it speaks of, and all."""
        con, m = self.members[i]
        rests = {v for v in self.unknown if self.rests[v] >> i & 1}
        near = {v for e in self.own[id(con), m] for v in e.variables}
        near |= {v for w in near for e in self.at[w] if e.constraint is None for v in e.variables}
        return near & rests, rests

    def freed(self, i: int) -> str:
        """A digit that no longer follows without member i, although all that it says nothing of is known; or ""."""
        con, m = self.members[i]
        free = self.without(con, m, self.spoken_of(i)[0]).free()
        return self.u.describe(free[0]) if free else ""

    def forged(self, i: int) -> str:
        """A digit that can have another value without member i, all other equations being kept; or ""."""
        con, m = self.members[i]
        near, rests = self.spoken_of(i)
        free = self.without(con, m, near, later=rests - near).free()
        # one digit per tensor, ranges before bits and bits that are set before others; then a few more
        free.sort(key=lambda v: (self.u.bounds[v] == (0, 1), not self.values[v], v))
        likely = [*{self.u.names[v][:2]: v for v in reversed(free)}.values()][::-1]
        for v in dict.fromkeys([*likely, *sorted(free)[:FEW]]):
            lo, hi = self.u.bounds[v]
            for x in (self.values[v] + 1, self.values[v] - 1):
                if lo <= x <= hi:
                    try:
                        self.without(con, m, rests, {v: x})
                    except Contradiction:
                        continue
                    return f"{self.u.describe(v)} = {x}"
        return ""


@cache
def solved(variant: str, kind: str) -> Solved:
    return Solved(every_layer(variant=variant, kind=kind))


@cache
def congruences() -> Solved:
    """With every contraction that can be one a congruence."""
    return Solved(every_layer(residue_cost=0, variant="sam"))


BOTH = [(variant, kind) for variant in VARIANTS for kind in KINDS]


# ------------------------------------------------------------------------------------------------ one witness only


def test_every_registered_layer_is_covered():
    graph = every_layer().plan.graph
    assert {node["op"] for case in (every_layer(), every_sequence()) for node in case.plan.graph} == set(LAYERS)
    connections = Connections(graph)
    assert connections.sums and connections.gradient_sums


@pytest.mark.parametrize(("variant", "kind"), BOTH)
def test_every_digit_is_determined(variant, kind):
    s = solved(variant, kind)
    assert violations(s.circuit, s.witness) == []
    assert s.agrees()
    assert [s.u.describe(v) for v in s.k.free()] == []


@cache
def sequences() -> Solved:
    return Solved(every_sequence())


def test_every_digit_of_sequences_is_determined():
    s = sequences()
    assert violations(s.circuit, s.witness) == []
    assert s.agrees()
    assert [s.u.describe(v) for v in s.k.free()] == []


def test_that_is_many_digits():
    """Samples, their randomness and the first weights not counted."""
    assert sum(sum(map(s.u.is_digit, s.unknown)) for s in (solved(*both) for both in BOTH)) > 20_000


def test_every_digit_of_congruences_is_determined():
    """Congruences as the integer identities that their combinations prove; residues below their primes."""
    s = congruences()
    assert len(s.circuit.combinations) > 20 and violations(s.circuit, s.witness) == []
    assert s.agrees()
    assert [s.u.describe(v) for v in s.k.free()] == []


@pytest.mark.slow
def test_residues_that_are_not_reduced_are_the_only_other_freedom():
    """r and r + q, where that is below 2^30: of sums that are zero, as those of a ReLU's zeros are. Nothing but what is
    divided after it depends on which."""
    s = Solved(every_layer(residue_cost=0), reduced=False)
    assert s.agrees() and s.free()
    assert all(t.late for t in s.circuit.tensors if t.name in s.free())


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        lambda: tiny_cnn(batch=1),
        lambda: tiny_cnn(batch=1, residue_cost=0),
        lambda: tiny_cnn(batch=2, variant="sam", kind="q32", seed=1),
        lambda: residual(batch=1),
        lambda: normalised(batch=1, seed=2),
        lambda: leaky(batch=1),
        lambda: bordered(batch=1),
        lambda: curved(batch=1),
        lambda: every_layer(seed=1, batch=2, steps=3),
    ],
    ids=[
        "cnn",
        "cnn of congruences",
        "cnn, sam, q32",
        "residual",
        "batch-norm",
        "leaky",
        "borders",
        "functions",
        "three steps",
    ],
)
def test_every_digit_of_larger_circuits_is_determined(case):
    s = Solved(case(), patient=True)
    assert s.agrees()
    assert [s.u.describe(v) for v in s.k.free()] == []


def test_ties_are_the_only_freedom():
    """Equal logits, and samples of equal loss: all but the choice among equals is determined."""
    weights, pixels = [[0.5, 1.0], [0.5, 1.0], [0.5, 1.0]], [[64, 0], [64, 0]]
    s = Solved(classifier(weights, pixels, [0, 1]))
    assert s.agrees()
    assert s.free() == TIES


CERTIFIED = ("std of s", "rms of s", "max of s", "ddof")


@cache
def certified(name: str) -> Solved:
    """A statistic, or a variant, beside the usual ones."""
    return Solved(CASES[name](), patient=True)


@pytest.mark.parametrize("name", CERTIFIED)
def test_every_digit_of_statistics_and_variants_is_determined(name):
    s = certified(name)
    assert violations(s.circuit, s.witness) == [] and s.agrees()
    assert [s.u.describe(v) for v in s.k.free()] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CERTIFIED)
def test_every_identity_of_statistics_and_variants_is_needed(name):
    """Those that other circuits do not have."""
    s = certified(name)
    own = [i for i, (con, _) in enumerate(s.members) if con.name.startswith(("score/", "sign/"))]
    idle = [s.members[i] for i in own if not (s.freed(i) or s.forged(i))]
    assert own and {(con.name, con.members[m][0]) for con, m in idle} <= SPARE | set(HIGH)


HIGH = {
    ("score/roots", "y2[6:]"): "yy",
    ("score/squares", "squares[6:]"): "sum_yy",
    ("score/threshold", "threshold[6:]"): "slack",
    ("score/threshold", "threshold[7:]"): "",
}
"""Members that say something only where some s_t is above about 2^18, with the wire they hold; the last only with more
than three steps, too: three have T sum y^2 - (sum y)^2 below 2^150."""


@pytest.mark.parametrize("name", ["std of s", "rms of s"])
def test_large_sharpnesses_need_their_highest_limbs(name):
    """Without the highest limb each of these wires may be anything that agrees with its value below."""
    certificate, w, _ = CASES[name]().run()
    score, circuit = certificate.score, certificate.circuit
    y = wide(w, score.y)
    y[0, :2] = (1 << 74) - 1, (1 << 72) + 3
    squares, bound = int((y * y).sum()), score.statistic.weight * score.tau**2
    values = {"yy": y * y, "sum_yy": np.array([squares], object), "slack": np.array([bound - squares], object)}
    w.put(score.y.tensor, y)
    members = [(con.name, label) for con in circuit.constraints for label, _ in con.members]
    for con, label in (key for key, wire in HIGH.items() if wire and key in members):
        for wire, value in values.items():
            w.put(getattr(score, wire).tensor, value % (1 << 132) if wire in ("slack", HIGH[con, label]) else value)
        w.fill_carries(score.con.carries[1], score.con.out)
        w.fill_carries_in(score.yy_con)
        w.fill_carries_in(score.threshold)
        group = f"{con}/{label.partition('[')[0]}["
        assert [v for v in violations(circuit, w) if v.startswith(group)] == [f"{con}/{label}"]


# ------------------------------------------------------------------------------------------------ the equations


def test_unrolled_equations_are_the_declared_identities():
    """On digits that are none of an honest execution; sums of limbs are the sums of the equations."""
    s, rng = solved("asam-all", "q32"), np.random.default_rng(3)
    w = type(s.witness)(s.witness.layout)
    for t in s.circuit.tensors:
        for d, digit in enumerate(t.digits):
            w.write(t, d, rng.integers(digit.range.lo, digit.range.hi + 1, t.sizes))
    values = s.u.values(w)
    single: dict[tuple[int, int], dict] = {}
    for e in s.u.equations:
        if e.constraint is None:
            assert e.value(values) == 0
        elif len(e.members) == 1 and e.constraint not in s.u.lookups:
            single.setdefault((id(e.constraint), e.members[0]), {})[e.index] = e.value(values)
    for con, m in s.members:
        if con in s.u.lookups:
            continue
        expected = np.asarray(w.expression(con.members[m][1], con.out, con.summed))
        assert expected.shape == tuple(ax.size for ax in con.out)
        assert {i: int(expected[i]) for i in np.ndindex(*expected.shape)} == single[id(con), m]
    for e in s.u.equations:
        if len(e.members) > 1:
            con, total, shift = e.constraint, 0, None
            for m in e.members:
                first = int(con.members[m][0].rsplit("[")[-1].split(":")[0])
                shift = first if shift is None else shift
                total += single[id(con), m][e.index] << 22 * (first - shift)
            assert e.value(values) == total


def test_no_equation_can_reach_p():
    """The integers of the check are those that are proved modulo p."""
    s = solved("asam-all", "u8")
    for e in s.u.equations:
        if len(e.members) == 1:
            lo = hi = e.const
            for v, c in e.linear:
                a, b = sorted(c * x for x in s.u.bounds[v])
                lo, hi = lo + a, hi + b
            for x, y in e.products:
                (a, b), (c, d) = ([sum(f(k * z for z in s.u.bounds[v]) for v, k in form) for f in (min, max)]
                                  for form in (x, y))  # fmt: skip
                corners = (a * c, a * d, b * c, b * d)
                lo, hi = lo + min(corners), hi + max(corners)
            assert max(-lo, hi) < P, (e.label, e.index)


# ------------------------------------------------------------------------------------------------ nothing is spare


def spare(s: Solved, every: int) -> set[tuple[str, str]]:
    """Members without which everything still follows; a second witness is looked for every so many times only."""
    followed = [i for i in range(len(s.members)) if not s.freed(i)]
    idle = [s.members[i] for i in followed[::every] if not s.forged(i)]
    return {(con.name, con.members[m][0]) for con, m in idle}


def test_spare_members_exist():
    s = solved("asam-all", "u8")
    assert {(con.name, con.members[m][0]) for con, m in s.members} >= SPARE


def test_every_identity_is_needed():
    """Without any one member (at one index only) a digit is free, or another witness exists."""
    assert spare(solved("asam-all", "u8"), every=24) <= SPARE


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "kind"), BOTH)
def test_every_single_identity_is_needed(variant, kind):
    assert spare(solved(variant, kind), every=1) <= SPARE


@pytest.mark.slow
def test_every_identity_of_congruences_is_needed():
    """Congruences, reductions and closings too."""
    assert spare(congruences(), every=24) <= SPARE


@pytest.mark.slow
def test_every_identity_of_sequences_is_needed():
    assert spare(sequences(), every=24) <= SPARE


def test_long_sums_need_their_identity():
    """Those of branches and of joined channels, and of their gradients: alone, as `test_every_identity_is_needed` tries
    few of its kind."""
    s = solved("asam-all", "u8")
    assert len(s.sums()) == 4
    assert [s.members[i][0].name for i in s.sums() if not (s.freed(i) or s.forged(i))] == []


@pytest.mark.parametrize("kind", KINDS)
def test_implied_members_follow_from_the_others(kind):
    """Without all of them at once every digit is still determined: the same witness, and no other."""
    s = solved("asam-all", kind)
    assert s.without_all(IMPLIED).free() == []


def test_one_bit_is_set_per_stage_of_a_logarithm_whatever_the_input():
    """Proof of the same for all circuits: with no bit set, or two or more, the next w is out of what its stage takes,
    even if that stage, too, may set as many bits as it likes. w: as in circuits/head/logarithm.py."""
    for i in range(LOG_STAGES):
        factors, scale = log_factors(i), 66 if i == 0 else 56
        unit = 61 if i == 0 else 52 - 4 * i  # w = start + index << unit + rest, rest < 1 << unit
        start = 1 << 65 if i == 0 else ONE
        below = 52 - 4 * (i + 1)
        most = ONE + (1 << 41) if i + 1 == LOG_STAGES else ONE + (sum(range(LOG_TABLE[i + 1])) + 1 << below)
        assert list(factors) == sorted(factors, reverse=True)
        # None: the next w is zero, and must be ONE at least. Two or more: their indices add up to `index`, so that none
        # is larger, and factors decrease.
        for index in range(16 if i == 0 else sum(range(LOG_TABLE[i])) + 1):
            least = factors[min(index, LOG_TABLE[i] - 1)]
            assert 2 * least * (start + (index << unit)) >> scale >= most, (i, index)


def large_gradient() -> Case:
    """||T g|| is above 128."""
    weights, pixels = [[0.5, 0.25], [0.5, -0.25], [-0.5, 0.25]], [[255, 255], [255, 192], [192, 255], [255, 224]]
    return classifier(weights, pixels, [2, 2, 2, 2], variant="sam", rho=Fraction(1))


@pytest.mark.parametrize(
    ("member", "case"),
    [("q2n[7:8]", every_layer), ("q2n[8:9]", every_layer), ("q2n[9:]", large_gradient)],
    ids=["2^154", "2^176", "2^198"],
)
def test_a_step_size_needs_every_limb_of_its_square(member, case):
    """Without the limb worth M, a root of A + j M passes for one of A = rho^2 2^144: every other identity holds."""
    certificate, w, _ = case().run()
    size, last = certificate.size, certificate.plan.steps - 1  # whose q nothing else reads
    n, a, b = wide(w, size.n)[0, last], size.rho.numerator**2 << 144, size.rho.denominator**2
    limb = int(member[4])
    wrong = ((q, j << 22 * limb) for j in count(1) for q in [isqrt((a + (b * j << 22 * limb)) // (b * n))])
    q, x1 = next((q, q * q * n - over) for q, over in wrong if q * q * n >= over)
    x2 = (2 * q + 1) * n
    assert q < Q_LIMIT and b * x1 <= a < b * (x1 + x2)
    low, high = a - b * x1, b * (x1 + x2) - a - 1
    forged = {size.q: q, size.qq: q * q, size.x1: x1, size.x2: x2, size.low: low, size.high: high}
    for view, value in forged.items():
        values = wide(w, view)
        values[0, last] = value
        w.put(view.tensor, values)
    w.fill_carries_in(size.con)
    for step in size.con.carries[2]:
        if step.carry is not None and step.last > limb:  # what the limbs above want
            w.put(step.carry.tensor, np.zeros(size.domain.axes[0].size, np.int64))
    assert violations(certificate.circuit, w) == [f"step-size/{member}"]


def test_far_logits_need_their_identity():
    weights = [[0.0, 0.25], [-0.5, 0.0], [-15.0, 0.25]]
    s = Solved(classifier(weights, [[64, 0], [56, 8]], [0, 0]))
    assert s.agrees() and not s.free()
    (i,) = (i for i, (con, m) in enumerate(s.members) if (con.name, con.members[m][0]) == ("softmax", "far"))
    assert s.freed(i) or s.forged(i)


@cache
def remainders() -> list[int]:
    """The top digits, at their last index, of the tensors that are remainders by name."""
    s = solved("asam-all", "u8")
    last_of = {
        t.name: v
        for v, (t, d, _) in enumerate(s.u.names)
        if d == len(t.digits) - 1 and t.name.endswith("remainder")
    }  # fmt: skip
    return sorted(last_of.values())


def wider(s: Solved, v: int) -> bool:
    """Whether another witness exists once a digit has twice its range: one with the digit a whole range away."""
    equations = [i for i, (con, m) in enumerate(s.members) for e in s.own[id(con), m] if v in e.variables]
    rests = {w for w in s.unknown if any(s.rests[w] >> i & 1 for i in equations)}
    lo, hi = s.u.bounds[v]
    size, reach = hi - lo + 1, {}
    for w in (w for e in s.at[v] if e.constraint is None for w in e.variables if not s.u.is_digit(w)):
        low, high = s.u.bounds[w]
        reach[w] = 2 * low - high - 1, 2 * high - low + 1
    for x in (s.values[v] + size, s.values[v] - size):
        values = [*s.values]
        values[v] = x
        equations_of = {id(e): e for w in rests for e in s.at[w]}
        try:
            Knowledge(s.u, values, [w for w in rests if w != v], [*equations_of.values()], reach).solve()
        except Contradiction:
            continue
        return True
    return False


def test_a_wider_remainder_admits_another_witness():
    """Negative control of the ranges: quotient and remainder are unique because the remainder's range is exact."""
    s = solved("asam-all", "u8")
    chosen = remainders()[:: max(1, len(remainders()) // 6)]
    assert len(chosen) >= 5
    assert [s.u.describe(v) for v in chosen if not wider(s, v)] == []
