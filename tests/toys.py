"""Small things the protocol's tests share: a circuit whose tables are tiny, and one proved statement.

`toy_circuit` has every kind of constraint (products, plain sums, a public tensor, a modular link, sizes
that are no powers of two, cut into blocks) but no 22-bit table, so that a proof takes a fraction of a second.
`drawn_circuit` has a congruence with its combinations, whose residues need that table: a proof takes seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from circuits.language.combination import combine, value_terms
from circuits.language.constraints import Circuit, ModularLink, PublicTensor, expr, product
from circuits.language.forms import View
from circuits.language.layout import Layout
from circuits.language.sources import ONCE, Axis, Sum, Table
from circuits.language.tensors import B22, BIT, Digit, Range, balanced, radix, unsigned
from circuits.language.wide import limb_forms
from prover import grinding
from prover.argument import prove_circuit
from prover.execution.witness import Witness
from prover.oracle import count_multiplicities
from prover.prove import Proved, prove_statement
from tests.builders import Graph
from verifier.argument import verify_circuit
from zkcert.core.field import U64, F, P
from zkcert.core.transcript import Transcript
from zkcert.data.committed import CommittedDataset, commit
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model
from zkcert.public.statement import Statement


def random_fs(rng: np.random.Generator, count: int) -> list[F]:
    """Uniform elements of F."""
    return [F(int(a), int(b)) for a, b in rng.integers(0, P, (count, 2))]


def random_f_array(rng: np.random.Generator, *shape: int) -> U64:
    """A uniform F array (2, *shape)."""
    return rng.integers(0, P, (2, *shape), np.uint64)


def table_of(index: NDArray[np.int64]) -> Table:
    """A table of these entries (k, s)."""
    rows, columns = index.shape
    return Table(repr(index.tolist()), (rows, columns), lambda: index)


def multilinear(values: U64 | list[F], point: list[F]) -> F:
    """The multilinear extension of a table, zero beyond its end, most significant variable first; by halving."""
    table = values if isinstance(values, list) else [F(int(a), int(b)) for a, b in values.T]
    table = table + [F.ZERO] * ((1 << len(point)) - len(table))
    for r in point:
        half = len(table) // 2
        table = [a + r * (b - a) for a, b in zip(table[:half], table[half:], strict=True)]
    return table[0]


STEPS, BATCH, OUTPUTS, INPUTS, TARGET = 2, 3, 3, 5, 560
SMALL = (Digit(unsigned(4), 0), Digit(balanced(3), 4))
WIDE = (Digit(unsigned(8), 0), Digit(Range(64, -32), 8))


@cache
def toy_circuit() -> Circuit:
    """y = x w over steps and a batch, a = max(y, 0), total = sum a; w[0] is public, x and r are hashed."""
    c = Circuit()
    t, b, o, k = (Axis(n, s) for n, s in (("t", STEPS), ("b", BATCH), ("o", OUTPUTS), ("k", INPUTS)))
    x = c.tensor("x", STEPS, (BATCH, INPUTS), SMALL)
    w = c.tensor("w", STEPS, (OUTPUTS, INPUTS), (Digit(balanced(4)),))
    y, a = (c.tensor(n, STEPS, (BATCH, OUTPUTS), WIDE) for n in "ya")
    sign = c.tensor("sign", STEPS, (BATCH, OUTPUTS), (Digit(BIT),))
    size = c.tensor("magnitude", STEPS, (BATCH, OUTPUTS), (Digit(unsigned(8), 0), Digit(unsigned(5), 8)))
    total = c.tensor("total", 1, (STEPS,), (Digit(unsigned(8), 0), Digit(unsigned(8), 8)))
    r = c.tensor("r", STEPS, (BATCH, INPUTS), (Digit(unsigned(8)),))

    same = [t, b, o, k]
    xv, wv = View(x, (same[0], same[1], same[3])), View(w, (same[0], same[2], same[3]))
    on = lambda tensor: View(tensor, (same[0], same[1], same[2])).whole()  # noqa: E731
    con = c.constraint("matmul", (t, b, o), (k,))
    con.add("y", product(xv.whole(), wv.whole()) - on(y))
    con = c.constraint("relu", (t, b, o))
    con.add("output", product(on(sign), on(size)) + on(sign) - on(a))
    con.add("sign", 2 * on(a) - on(size) - on(sign) - on(y))
    con = c.constraint("sum", (t,))
    sums = View(a, (same[0], Sum(BATCH), Sum(OUTPUTS)))
    con.add("total", expr(sums.whole() - View(total, (ONCE, same[0])).whole()) + 7)
    c.publics.append(PublicTensor(w, 0, public_weights()[None]))
    ones = np.full((1, INPUTS), 7, np.uint64)
    target = np.full((STEPS, BATCH, 1), 7 * TARGET, np.uint64)
    c.links.append(ModularLink("hash", [(t, lambda i, j: ones[:, i:j]) for t in (r, x)], target))
    return c


def public_weights() -> np.ndarray:
    return np.random.default_rng(5).integers(-8, 8, (OUTPUTS, INPUTS))


@cache
def toy_layout() -> Layout:
    return Layout(toy_circuit(), smallest_cut=1)


def toy_witness(seed: int = 0) -> Witness:
    """A valid witness of the toy circuit; every seed gives another one of the same statement."""
    rng = np.random.default_rng(seed)
    circuit = toy_circuit()
    named = {t.name: t for t in circuit.tensors}
    w = Witness(toy_layout())
    x = rng.integers(-64, 64, (STEPS, BATCH, INPUTS))
    weights = rng.integers(-8, 8, (STEPS, OUTPUTS, INPUTS))
    weights[0] = public_weights()
    y = np.einsum("tbk,tok->tbo", x, weights)
    a, sign = np.maximum(y, 0), (y > 0).astype(np.int64)
    r = rng.integers(80, 120, x.shape)
    r[..., 4] = TARGET - r[..., :4].sum(axis=-1) - (x & 15).sum(axis=-1)
    values = {"x": x, "w": weights, "y": y, "a": a, "sign": sign, "magnitude": abs(y) - sign, "r": r}
    for name, value in {**values, "total": a.sum(axis=(1, 2)) + 7}.items():
        w.put(named[name], value)
    return w


def committed_vector(layout: Layout, witness: Witness) -> NDArray[np.int32]:
    """The data part of X for a witness, int32 (data_end,): a copy."""
    x = witness.x.copy()
    count_multiplicities(layout, x)
    return x


def toy_transcript() -> Transcript:
    t = Transcript("toy")
    t.absorb("statement", b"the toy circuit")
    return t


@contextmanager
def light_grinding() -> Iterator[None]:
    """Four bits at most: what is tested with the toy circuit is not the work."""
    grind, check = grinding.grind, Transcript.check_grind
    with (
        mock.patch.object(grinding, "grind", lambda transcript, bits: grind(transcript, min(bits, 4))),
        mock.patch.object(Transcript, "check_grind", lambda self, nonce, bits: check(self, nonce, min(bits, 4))),
    ):
        yield


def prove_toy(witness: Witness | None = None, strict: bool = False) -> bytes:
    with light_grinding():
        return prove_circuit(toy_layout(), witness or toy_witness(), toy_transcript(), strict=strict)


def verify_toy(proof: bytes) -> None:
    with light_grinding():
        verify_circuit(toy_layout(), toy_transcript(), proof)


@cache
def toy_proof() -> bytes:
    """An honest proof of the toy circuit, from fixed randomness: which check a change meets may depend on chance."""
    with mock.patch("prover.checkpoint.secrets.token_bytes", lambda size: bytes(range(size))):
        return prove_toy()


# ------------------------------------------------------------------------------------------------ drawn weights


@cache
def drawn_circuit() -> Circuit:
    """y = x w + bias, wide outputs y of 110 bits, modulo p and in combinations modulo five primes."""
    c = Circuit()
    t, left, right, k = (Axis(n, s) for n, s in (("t", 2), ("l", 3), ("r", 5), ("k", 4)))
    x, w = c.tensor("x", 2, (3, 4), radix(B22, B22)), c.tensor("w", 2, (5, 4), radix(B22, B22))
    y, bias = c.tensor("y", 2, (3, 5), radix(*[B22] * 5)), c.tensor("bias", 2, (5,), radix(B22, B22))
    view = lambda tensor, *axes: View(tensor, axes)  # noqa: E731
    rest = value_terms(view(y, t, left, right), -1) + value_terms(view(bias, t, right), 1 << 22)
    factors = limb_forms(view(x, t, left, k)), limb_forms(view(w, t, right, k))
    con = c.congruence("product", (t, left, right), (k,))
    combine(c, con, *factors, rest, [left], [right])
    c.require_combined()
    return c


@cache
def drawn_layout() -> Layout:
    return Layout(drawn_circuit())


def drawn_witness(seed: int = 0) -> Witness:
    """A valid witness but for what depends on drawn weights."""
    rng = np.random.default_rng(seed)
    values = {name: rng.integers(-(1 << 42), 1 << 42, shape) for name, shape in (("x", (2, 3, 4)), ("w", (2, 5, 4)))}
    values["bias"] = rng.integers(-(1 << 42), 1 << 42, (2, 5))
    exact = {name: value.astype(object) for name, value in values.items()}
    products = exact["x"][:, :, None] * exact["w"][:, None]
    exact["y"] = products.sum(axis=3) + (exact["bias"][:, None] << 22)
    w = Witness(drawn_layout())
    for t in drawn_circuit().tensors:
        if not t.late:
            w.put(t, exact[t.name])
    return w


def drawn_transcript() -> Transcript:
    t = Transcript("toy")
    t.absorb("statement", b"the toy circuit with drawn weights")
    return t


def prove_drawn(witness: Witness | None = None, strict: bool = False) -> bytes:
    with light_grinding():
        return prove_circuit(drawn_layout(), witness or drawn_witness(), drawn_transcript(), strict=strict)


def verify_drawn(proof: bytes) -> None:
    with light_grinding():
        verify_circuit(drawn_layout(), drawn_transcript(), proof)


@cache
def drawn_proof() -> bytes:
    """An honest one, from fixed randomness."""
    with mock.patch("prover.checkpoint.secrets.token_bytes", lambda size: bytes(range(size))):
        return prove_drawn()


# ------------------------------------------------------------------------------------------------ one statement


@dataclass(frozen=True, eq=False)
class Certified:
    """A statement with everything needed to prove it and a proof."""

    model: Model
    dataset: CommittedDataset
    statement: Statement
    proved: Proved


def tiny_model(seed: int = 0) -> Model:
    rng = np.random.default_rng([seed, 11])
    g = Graph(rng, [1, 3, 4]).flatten().linear(5).relu().linear(4)
    return Model(g.nodes, g.spec, g.params)


@cache
def tiny_dataset(seed: int = 0, count: int = 40) -> CommittedDataset:
    rng = np.random.default_rng([seed, 12])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        x, y = rng.integers(0, 256, (count, 1, 3, 4), np.uint8), rng.integers(0, 4, count)
        np.savez(path / "data.npz", x=x, y=y)
        commit(path / "data.npz", path / "data.zkd", classes=4)
        return CommittedDataset.open(path / "data.zkd")


@cache
def certified(reveal_score: bool = False) -> Certified:
    """Two steps of three samples of a small network, with a beacon."""
    model, dataset = tiny_model(), tiny_dataset()
    config = ProbeConfig(steps=2, batch_size=3, lr=Fraction(1, 80))
    statement = replace(Statement.of(model, dataset.root, config, Fraction(30)), beacon=b"a beacon")
    proved = prove_statement(statement, model, dataset, reveal_score=reveal_score)
    return Certified(model, dataset, proved.statement, proved)
