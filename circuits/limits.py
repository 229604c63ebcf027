"""What a verifier is willing to work through: sizes a proof's own length does not bound, checked before it is read."""

from __future__ import annotations

from zkcert.core.code import matrix_code
from zkcert.errors import UnusableInput

from .ir import Constraint, Form, View
from .layout import Layout
from .protocol import message_counts

MAX_MESSAGES = 1 << 19  # hidden values sent
MAX_WEIGHTS = 1 << 27  # coefficients of columns in all claims of constraints


def operands(con: Constraint) -> list[list[Form]]:
    """The forms of each claim a constraint ends in: its linear part, and both operands of every product sent."""
    grouped: dict[Form, list[Form]] = {}
    for _, e in con.members:
        for a, b in e.products:
            grouped.setdefault(a.primitive[1], []).append(b)
    return [[e.linear for _, e in con.members], *([left] for left in grouped), *grouped.values()]


def column_weights(layout: Layout) -> int:
    """How many coefficients of columns `weight_at` computes: per claim and view, those of the view's tensor."""
    sizes = {t: sum(p.size for p in place.positions) for t, place in layout.places.items()}
    total = 0
    for con in layout.circuit.constraints:
        for forms in operands(con):
            views: set[View] = {v for form in forms for v, _, _ in form.terms}
            total += sum(sizes[v.tensor] for v in views)
    return total


def require_bounded(layout: Layout) -> None:
    """UnusableInput if the circuit has more messages or weights than a verifier works through."""
    singles, triples = message_counts(layout, matrix_code(layout.data_end).variables)
    if singles + 2 * triples > MAX_MESSAGES:
        raise UnusableInput(f"{singles + 2 * triples} messages, at most {MAX_MESSAGES}: fewer layers can be proved")
    weights = column_weights(layout)
    if weights > MAX_WEIGHTS:
        raise UnusableInput(f"{weights} weights of columns, at most {MAX_WEIGHTS}: take fewer steps or layers")
