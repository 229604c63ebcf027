"""What a verifier is willing to work through: sizes a proof's own length does not bound, checked before it is read.

What costs nothing to find out is checked first (`require_small`). What a circuit needs beyond it is counted while
it is built, which stops at the first count above its limit: index tables (net.py), terms (language), columns
(layout.py), and the rest here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuits.argument.protocol import message_counts
from circuits.argument.tuples import tuple_trees
from circuits.language.constraints import Constraint
from circuits.language.forms import Form
from circuits.language.layout import Layout
from zkcert.core.code import pad_code
from zkcert.errors import UnusableInput

from .sample import Q32_BYTES

if TYPE_CHECKING:
    from .compile import Plan

MAX_STEPS = 1 << 10  # also keeps T^2 tau^2 within its limbs
MAX_SAMPLES = 1 << 16  # of all steps
MAX_CHANNELS = 1 << 10  # of a sample: each is a constraint of its own
MAX_INPUT = 1 << 18  # values of one padded sample
MAX_DENSE = 1 << 24  # channels times bytes per value times bytes per encoded sample: vectors that weigh bytes
MAX_NORM_CHANNELS = 1 << 17  # of all batch-norms: their public numbers are part of the circuit
LEAST_OPENING = 6 << 15  # bytes: of any circuit that has a table of 22 bits, as all have
MAX_MESSAGES = 1 << 19  # hidden values sent
MAX_WEIGHTS = 1 << 27  # coefficients of columns in all claims of constraints


def require_small(plan: Plan) -> None:
    """UnusableInput for a model, samples or a configuration that no circuit is built for."""
    (channels, height, width), pad = plan.input["shape"], plan.input.get("pad", 0)
    value_bytes = {"u8": 1, "tokens": plan.label_bytes}.get(plan.kind, Q32_BYTES)
    sample_bytes = channels * height * width * value_bytes + plan.label_bytes
    norm_channels = sum(max(map(len, known.values()), default=0) for known in plan.constants.values())
    if plan.steps > MAX_STEPS or plan.steps * plan.batch > MAX_SAMPLES:
        raise UnusableInput(f"at most {MAX_STEPS} steps and {MAX_SAMPLES} samples in all can be proved")
    if channels * (height + 2 * pad) * (width + 2 * pad) > MAX_INPUT:
        raise UnusableInput(f"inputs of shape {list(plan.input['shape'])} with padding {pad} are too large to prove")
    if channels > MAX_CHANNELS or channels * value_bytes * sample_bytes > MAX_DENSE:
        text = f"samples of shape {list(plan.input['shape'])} have too many channels: use a spatial axis instead"
        raise UnusableInput(text)
    if norm_channels > MAX_NORM_CHANNELS:
        raise UnusableInput(f"{norm_channels} channels of batch-norms, at most {MAX_NORM_CHANNELS} can be proved")


def least_lengths(parameters: int) -> tuple[int, int, int]:
    """Bytes that the messages, the opening and the pad proof have at least, about a model with so many parameters.

    Each parameter, a tensor, has two constraints with at least two products each, those of its squares and of its
    perturbation: docs/spec/files.md.
    """
    singles, triples = 2 * parameters, 4 * parameters
    messages = 16 * (singles + 2 * triples + 1) + 8
    return messages, LEAST_OPENING, pad_code(singles, triples).opening_bytes


def operands(con: Constraint) -> list[list[Form]]:
    """The forms of each claim a constraint ends in: its linear part, and both operands of every product sent."""
    grouped: dict[Form, list[Form]] = {}
    for _, e in con.members:
        for a, b in e.products:
            grouped.setdefault(a.primitive[1], []).append(b)
    return [[e.linear for _, e in con.members], *([left] for left in grouped), *grouped.values()]


def column_weights(layout: Layout) -> int:
    """How many coefficients of columns `weight_at` computes: per claim (or box of a lookup's domain) and view, those of
    the view's tensor."""
    sizes = {t: sum(p.size for p in place.positions) for t, place in layout.places.items()}
    total = 0
    for con in layout.circuit.constraints:
        for forms in operands(con):
            views = {v for form in forms for v, _, _ in form.terms}
            total += sum(sizes[v.tensor] for v in views)
    for box in (box for tree in tuple_trees(layout) for box in tree):
        views = {v for form in box.lookup.components for v, _, _ in form.terms}
        total += sum(sizes[v.tensor] for v in views)
    return total


def require_bounded(layout: Layout) -> None:
    """UnusableInput if the circuit has more messages or weights than a verifier works through."""
    singles, triples = message_counts(layout, layout.code.variables)
    if singles + 2 * triples > MAX_MESSAGES:
        raise UnusableInput(f"{singles + 2 * triples} messages, at most {MAX_MESSAGES}: fewer layers can be proved")
    weights = column_weights(layout)
    if weights > MAX_WEIGHTS:
        raise UnusableInput(f"{weights} weights of columns, at most {MAX_WEIGHTS}: take fewer steps or layers")
