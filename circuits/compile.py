"""From a statement to a circuit."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial, reduce
from math import prod
from operator import add
from typing import Any

import numpy as np

from circuits.language.constraints import BoundError, Circuit, PublicTensor
from circuits.language.layout import SMALLEST_CUT, Layout
from zkcert.core.field import I64, U64
from zkcert.errors import RangeOverflow, UnusableInput

from .graph import Connections
from .head.score import LogRatios, Score, Sharpness, StepSize
from .head.softmax import MAX_CLASSES, Softmax
from .head.statistic import Statistic
from .layers import LAYERS, Layer
from .layers.spec import LayerSpec
from .limits import require_bounded, require_small
from .net import RESIDUE_COST, Net, Rectifier, Total
from .probe import Parameter, shift_of
from .sample import Samples
from .tokens import Tokens
from .value import Value


@dataclass(frozen=True)
class Plan:
    """The public inputs that determine the circuit.

    graph, input, affine: the model, as in zkcert.public.model; weights: name -> int64 Q31.32, in graph order;
    kind, classes, label_bytes: the dataset's schema; hashes: uint64 (T, B, 160); constants: of layers by name
    (`Model.constants`); shapes: of weights, where they are known without quantising them; residue_cost: see `Net`, the
    constant is the specification's, others are for toy proofs.
    """

    graph: Sequence[Mapping[str, Any]]
    input: Mapping[str, Any]
    affine: tuple[Sequence[int], Sequence[int]]
    weights: Mapping[str, I64]
    kind: str
    classes: int
    label_bytes: int
    steps: int
    batch: int
    rho: Fraction
    divisor: int
    eps: Fraction
    variant: str
    hashes: U64
    statistic: str = "std-log-ratio"
    ddof: int = 0
    eta: Fraction | None = None
    constants: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    residue_cost: int = RESIDUE_COST

    @property
    def places(self) -> int:
        """Terms of the loss that a sample has: a token for each position, or one label."""
        return int(self.input["shape"][2]) if self.kind == "tokens" else 1

    def shape_of(self, name: str) -> Sequence[int]:
        """That of a parameter."""
        return self.shapes[name] if name in self.shapes else self.weights[name].shape

    @property
    def weight_count(self) -> int:
        """Entries of all parameters."""
        return sum(prod(self.shape_of(name)) for name in self.weights)


@contextmanager
def collector_paused() -> Iterator[None]:
    """No search for unreachable cycles meanwhile: a circuit is a great many objects, and none of them is garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Certificate:
    """The circuit of one statement."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        require_small(plan)
        self.net = Net(plan.steps, plan.batch, plan.residue_cost, plan.weight_count, plan.places)
        with collector_paused():
            self._declare()

    def _declare(self) -> None:
        plan, net = self.plan, self.net
        if not 2 <= plan.classes <= MAX_CLASSES:
            raise UnusableInput(f"{plan.classes} classes: between 2 and {MAX_CLASSES} are supported")
        self.samples = Tokens(net, plan) if plan.kind == "tokens" else Samples(net, plan)
        self.connections = Connections(plan.graph)
        self.layers: list[Layer] = []
        self.sums: dict[int, Total] = {}  # by node: its output
        self.gradient_sums: dict[int, Total] = {}  # by node: the gradient at its output
        self.values, shapes = self._declare_layers()
        x, shape = self.values[len(plan.graph) - 1], shapes[len(plan.graph) - 1]
        if shape != ((plan.classes,) if plan.kind != "tokens" else (plan.classes, 1, plan.places)):
            raise UnusableInput(f"the model has {shape} outputs, the dataset {plan.classes} classes")
        if plan.kind != "tokens" and prod(x.shape[2:]) != 1:
            raise UnusableInput(
                "the model must end in a linear layer or in one position per image with a channel for each class: what "
                f"it flattens last has {prod(x.shape[2:])} positions; put a pooling to 1x1 before"
            )
        self.head = Softmax(net, x, self.samples.onehot)
        if not self.connections.reaches[-1]:
            raise UnusableInput("the model has no weights to perturb")
        self._declare_gradients()
        self.size = StepSize(net, plan.rho)
        divisor = plan.divisor * plan.places
        self.parameters = [
            Parameter(net, g, divisor, self.size.q.tensor, shift_of(plan.variant, plan.eta, g.name))
            for g in net.gradients
        ]
        self.size.declare(self.parameters)
        statistic = Statistic(plan.statistic, plan.steps, plan.ddof)
        score = LogRatios if statistic.of_ratios else Sharpness
        self.score: Score = score(net, self.head, self.size, plan.eps, statistic)
        for name, t in net.weights.items():
            net.circuit.publics.append(PublicTensor(t, 0, partial(self._digits, name)))

    def _digits(self, name: str) -> I64:
        """The model's digits of a parameter."""
        return weight_digits(self.net.arranged(name, self.plan.weights[name]))

    def _declare_layers(self) -> tuple[dict[int, Value], dict[int, tuple[int, ...]]]:
        """Declare all forward passes; outputs and shapes by node, -1 being the samples."""
        graph, inputs = self.plan.graph, self.connections.inputs
        values, shapes = {-1: self.samples.x}, {-1: tuple(self.samples.input_shape)}

        def received(spec: LayerSpec, nodes: Sequence[int]) -> list[Value]:
            read = [values[j] for j in nodes]
            if spec.together is not None:
                return read
            if not spec.joins:
                return [reduce(add, read)]
            self._count_joined(sum(len(v.parts) for v in read) * sum(v.shape[1] for v in read))
            return [Value.joined(read)]

        def rectifier(relu: str, rest: Sequence[int], shape: Sequence[int]) -> Rectifier:
            known = reduce(add, (values[j] for j in rest)) if rest else None
            if known is not None and known.shape != tuple(shape):
                raise UnusableInput(f"layer {relu}: one branch is flattened, the other is not")
            made = Rectifier(self.net, relu, shape, known)
            return self.net.rectifiers.setdefault(relu, made)

        for i, node in enumerate(graph):
            if (-1 in inputs[i] and self.plan.kind == "tokens") != (node["op"] == "embedding"):
                raise UnusableInput(f"layer {node['name']}: tokens, and nothing else, are read by embeddings")
            if found := self.connections.rectified(i):
                self.net.outputs[node["name"]] = partial(rectifier, graph[found[0]]["name"], found[1])
            layer_type = LAYERS[node["op"]]
            try:
                x = received(layer_type.spec, inputs[i])
                shape = layer_type.spec.received([list(shapes[j]) for j in inputs[i]])
                layer = layer_type(self.net, self._described(node), x, tuple(shape))
            except BoundError:
                raise
            except UnusableInput as error:
                raise UnusableInput(f"layer {node['name']}: {error}") from error
            self.layers.append(layer)
            values[i], shapes[i] = layer.y, layer.shape
            if i in self.connections.sums:
                self.sums[i] = Total(self.net, f"{node['name']}/sum", layer.y)
                values[i] = self.sums[i].value
        return values, shapes

    def _declare_gradients(self) -> None:
        """Declare the backward passes that some parameter needs; a node's gradient is the sum of its readers'."""
        deltas = {len(self.layers) - 1: self.head.dz}
        for i in reversed(range(len(self.layers))):
            if not self.connections.reaches[i]:
                continue
            if i in self.connections.gradient_sums:
                self.gradient_sums[i] = Total(self.net, f"{self.plan.graph[i]['name']}/dy", deltas[i])
                deltas[i] = self.gradient_sums[i].value
            inputs, start = self.connections.inputs[i], 0
            self.layers[i].declare_backward(self.net, deltas[i], [*map(self.connections.reached, inputs)])
            spec, every = self.connections.specs[i], self.layers[i].dx
            if every is not None and spec.joins:
                self._count_joined(every.table_entries)
            for n, j in enumerate(inputs):
                count, dx = self.values[j].shape[1], self.layers[i].handed(n)
                if dx is not None and self.connections.reached(j):
                    own = dx.picked(range(start, start + count)) if spec.joins else dx
                    deltas[j] = deltas[j] + own if j in deltas else own
                start += count

    def _count_joined(self, entries: int) -> None:
        self.net.count_table(entries, "concatenation")

    def _described(self, node: Mapping[str, Any]) -> dict[str, Any]:
        """The node with all its options, the shapes of its parameters and its public constants."""
        described = LAYERS[node["op"]].spec.described(node, self.plan.shape_of)
        return {**described, **self.plan.constants.get(node["name"], {})}

    def close(self, tau: Fraction, revealed: int | None = None, smallest_cut: int = SMALLEST_CUT) -> Layout:
        """Add the threshold, and the variance if it is to be public, and lay the circuit out; UnusableInput if it is
        larger than a verifier works through. smallest_cut: see `Layout`; another one is another proof system."""
        units = self.score.statistic.tau_units(tau, self.plan.classes)
        if units < 0:
            raise UnusableInput(f"tau {float(tau)} is below the charged error of the fixed-point score")
        self.score.close(units)
        if revealed is not None:
            self.reveal(revealed)
        self.circuit.require_combined()
        with collector_paused():
            self.layout = Layout(self.circuit, smallest_cut)
            require_bounded(self.layout)
        return self.layout

    def reveal(self, variance: int) -> None:
        """Make what the statistic gathers (`Statistic.gathered`) public; after `close`, whose layout stays as it is."""
        self.score.reveal(variance)

    @property
    def circuit(self) -> Circuit:
        return self.net.circuit


def weight_digits(values: I64) -> I64:
    """Digits (2, ...) of Q31.32 weights; raises RangeOverflow from 2^39 on."""
    if max(values.max(initial=0), -values.min(initial=0)) >= 1 << 39:
        worst = float(np.abs(values).max()) / 2.0**32
        raise RangeOverflow("weights", worst, 128.0)
    low, high = out = np.empty((2, *values.shape), np.int64)
    np.add(values, 1 << 21, out=low)
    np.right_shift(low, 22, out=high)
    low &= (1 << 22) - 1
    low -= 1 << 21
    return out
