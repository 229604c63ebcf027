"""Small models with everything their circuits need: hand-made ones by name, random ones by seed.

    random_case(7)                       graph, shapes, batch, steps, variant and data from the seed,
    random_case(7, kind="q32", batch=1)  ... but for what is given; some are refused (GradientTooSmall)
    tiny_cnn(), tiny_mlp()               small circuits; the first has every layer type
    Graph(rng, [1, 4, 4]).flatten().linear(3).case(batch=2)
    classifier(weights, pixels, labels)  one linear layer with the logits one wants
    build(graph, params, spec, pixels=..., labels=...)

Each is a `Case`: ``certificate, witness, trace = case.run(tau=Fraction(3))``. `violations` checks a witness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from circuits.compile import Certificate, Plan
from circuits.head.statistic import STATISTICS, Statistic
from circuits.language.constraints import Circuit, Congruence, Constraint, Expr
from circuits.language.forms import View
from circuits.language.functions import Lookup
from circuits.language.layout import SMALLEST_CUT
from circuits.language.tensors import Tensor
from circuits.layers import LAYERS
from circuits.net import RESIDUE_COST
from prover.combinations import fill_combinations
from prover.execution.run import Trace, execute, fill_threshold
from prover.execution.witness import Witness
from zkcert.core import sis
from zkcert.core.field import P
from zkcert.data.hashing import hash_samples
from zkcert.public.config import SHIFTED, ProbeConfig
from zkcert.public.model import Model, input_affine

EPS = Fraction(1, 10**8)
BATCHES, STEPS, VARIANTS, KINDS = (1, 2, 3, 5), (2, 3), ("asam-all", "sam"), ("u8", "q32")


@dataclass(frozen=True, eq=False)
class Case:
    """A model, the public plan of a probe of it, and the private data.

    pixels: uint8, or int64 in Q31.32, [T, B, C, H, W]; labels: int64 [T, B]; samples: both as committed
    bytes, uint8 [T, B, bytes]; randomness: uint8 [T, B, 1280]. Of tokens: int64 [T, B, 1, 1, L] and [T, B, L], those
    one behind.
    """

    model: Model
    plan: Plan
    pixels: np.ndarray
    labels: np.ndarray
    samples: np.ndarray
    randomness: np.ndarray

    @property
    def config(self) -> ProbeConfig:
        p = self.plan
        return ProbeConfig(
            p.steps, p.batch, p.rho, Fraction(p.batch, p.divisor), p.eps, p.variant, p.ddof, p.statistic, p.eta
        )

    def execute(
        self, tau: Fraction = Fraction(30), revealed: int | None = None, smallest_cut: int = SMALLEST_CUT
    ) -> tuple[Certificate, Witness, Trace]:
        """The circuit and its honest execution, whose threshold is not filled in yet."""
        certificate = Certificate(self.plan)
        certificate.close(tau, revealed, smallest_cut)
        return certificate, *execute(certificate, self.samples, self.randomness)

    def run(
        self, tau: Fraction = Fraction(30), revealed: int | None = None, smallest_cut: int = SMALLEST_CUT
    ) -> tuple[Certificate, Witness, Trace]:
        """The same with the threshold, and with what depends on drawn weights."""
        certificate, witness, trace = self.execute(tau, revealed, smallest_cut)
        fill_threshold(certificate, witness, trace)
        fill_late(witness)
        return certificate, witness, trace


def fill_late(witness: Witness, seed: int = 0) -> None:
    """Draw the weights of all combinations from the seed, and fill what depends on them."""
    rng = np.random.default_rng([seed, 6])
    for draw in witness.circuit.draws:
        draw.drawn = rng.integers(0, draw.prime, draw.size)
    fill_combinations(witness)


def sample_bytes(pixels: np.ndarray, labels: np.ndarray, label_bytes: int = 1) -> np.ndarray:
    """Samples as committed: one byte per value, or q + 2^43 in six, then the label, little-endian."""
    flat = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.dtype != np.uint8:
        shifted = flat.astype("<i8") + (1 << 43)
        flat = shifted[..., None].view(np.uint8).reshape(*flat.shape, 8)[..., :6].reshape(*flat.shape[:2], -1)
    tail = labels.astype("<i8")[..., None].view(np.uint8)[..., :label_bytes]
    return np.concatenate([flat, tail], axis=2)


def build(
    graph: Sequence[Mapping[str, Any]],
    params: Mapping[str, np.ndarray],
    spec: Mapping[str, Any],
    *,
    pixels: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    kind: str = "u8",
    steps: int = 2,
    batch: int = 3,
    rho: Fraction = Fraction(1, 20),
    divisor: int | None = None,
    eps: Fraction = EPS,
    variant: str = "asam-all",
    eta: Fraction | None = None,
    statistic: str = "std-log-ratio",
    ddof: int = 0,
    label_bytes: int = 1,
    seed: int = 0,
    residue_cost: int = RESIDUE_COST,
) -> Case:
    """A case from parts; pixels and labels are drawn from `seed` where absent. `divisor` is B / lr."""
    rng = np.random.default_rng([seed, 1])
    model = Model([dict(node) for node in graph], dict(spec), {k: np.asarray(v) for k, v in params.items()})
    if "tokens" in spec:
        windows = pixels if pixels is not None else rng.integers(0, model.classes, (steps, batch, spec["shape"][2] + 1))
        samples = windows.astype("<i8")[..., None].view(np.uint8)[..., :label_bytes].reshape(steps, batch, -1)
        pixels, labels = windows[:, :, None, None, :-1], windows[..., 1:]
    elif pixels is None:
        shape = (steps, batch, *spec["shape"])
        limits = (0, 256, shape, np.uint8) if kind == "u8" else (-1 << 33, 1 << 33, shape)
        pixels = rng.integers(*limits)
    if labels is None:
        labels = rng.integers(0, model.classes, (steps, batch))
    if "tokens" in spec:
        kind = "tokens"
    else:
        kind = "u8" if pixels.dtype == np.uint8 else "q32"
        samples = sample_bytes(pixels, labels, label_bytes)
    randomness = np.random.default_rng([seed, 5]).integers(0, 256, (steps, batch, sis.RHO), np.uint8)
    hashes = hash_samples(samples.reshape(steps * batch, -1), randomness.reshape(steps * batch, -1))
    plan = Plan(
        graph=model.graph,
        input=model.input,
        affine=input_affine(model.input, kind),
        weights={name: model.quantized(name) for name in model.params},
        kind=kind,
        classes=model.classes,
        label_bytes=label_bytes,
        steps=steps,
        batch=batch,
        rho=rho,
        divisor=divisor or 80 * batch,
        eps=eps,
        variant=variant,
        eta=eta,
        statistic=statistic,
        ddof=ddof,
        hashes=hashes.reshape(steps, batch, sis.ROWS),
        constants=model.constants,
        residue_cost=residue_cost,
    )
    return Case(model, plan, pixels, labels, samples, randomness)


# ------------------------------------------------------------------------------------------------ graphs


class Graph:
    """A graph under construction, its weights drawn as it grows: ``Graph(rng, [2, 5, 6]).conv(3).relu()``."""

    def __init__(self, rng: np.random.Generator, shape: Sequence[int], pad: int = 0, scale: float = 1.0) -> None:
        """shape: [C, H, W] of the samples; scale: of the weights, relative to 1/sqrt(fan-in)."""
        self.rng, self.scale = rng, scale
        self.spec: dict[str, Any] = {
            "shape": list(shape),
            "pad": pad,
            "mean": [0.3] * shape[0],
            "std": [0.4] * shape[0],
        }
        self.shape = [shape[0], *(n + 2 * pad for n in shape[1:])]
        self.nodes: list[dict[str, Any]] = []
        self.params: dict[str, np.ndarray] = {}
        self.shapes = {"@input": self.shape}  # of all but the last node
        self.source: str | None = None  # of the next node, if it is not the last one

    def _node(self, op: str, **fields: Any) -> str:
        name = f"{op}{len(self.nodes)}"
        if self.source is None:
            self.shapes[self.last] = self.shape
        else:
            fields["inputs"], self.source = [self.source], None
        self.nodes.append({"op": op, "name": name, **fields})
        return name

    def branch(self, name: str) -> Graph:
        """Let the next node read an earlier one."""
        self.shapes[self.last] = self.shape
        self.source, self.shape = name, self.shapes[name]
        return self

    def _affine(self, op: str, shape: Sequence[int], bias: bool, **fields: Any) -> None:
        name = f"{op}{len(self.nodes)}"
        names = f"{name}.weight", f"{name}.bias" if bias else None
        self._node(op, weight=names[0], bias=names[1], **fields)
        scale = self.scale / np.sqrt(np.prod(shape[1:]))
        self.params[names[0]] = (scale * self.rng.standard_normal(shape)).astype(np.float32)
        if bias:
            self.params[names[1]] = (0.3 * self.rng.standard_normal(shape[0])).astype(np.float32)

    def _resize(self) -> None:
        """The shape of the output of the node just added."""
        spec = LAYERS[self.nodes[-1]["op"]].spec
        described = spec.described(self.nodes[-1], lambda name: self.params[name].shape)
        self.shape = list(spec.output_shape(described, self.shape))

    def conv(
        self,
        out: int,
        kernel: Sequence[int] = (3, 3),
        stride: Sequence[int] = (1, 1),
        pad: Sequence[int] = (0, 0),
        bias: bool = True,
        groups: int = 1,
        **options: Any,
    ) -> Graph:
        """options: of its `LayerSpec`."""
        shape = (out, self.shape[0] // groups, *kernel)
        more = options if groups == 1 else {**options, "groups": groups}
        self._affine("conv2d", shape, bias, stride=list(stride), padding=list(pad), **more)
        self._resize()
        return self

    def pool(self, op: str, kernel: Sequence[int] = (2, 2), stride: Sequence[int] = (2, 2), **options: Any) -> Graph:
        """op: "maxpool2d" or "avgpool2d"; options: of its `LayerSpec`."""
        self._node(op, kernel=list(kernel), stride=list(stride), **options)
        self._resize()
        return self

    def adaptive(self, rows: int, columns: int) -> Graph:
        self._node("adaptiveavgpool2d", size=[rows, columns])
        self._resize()
        return self

    def relu(self) -> Graph:
        self._node("relu")
        return self

    def leaky_relu(self, slope: float = 0.01) -> Graph:
        self._node("leaky_relu", negative_slope=slope)
        return self

    def hardtanh(self, low: float = 0.0, high: float = 6.0) -> Graph:
        self._node("hardtanh", low=low, high=high)
        return self

    def plain(self, op: str, **fields: Any) -> Graph:
        """A layer without parameters that keeps the shape."""
        self._node(op, **fields)
        return self

    def function(self, name: str) -> Graph:
        """One of `circuits.segments`."""
        return self.plain("function", function=name)

    def norm(self) -> Graph:
        """Batch-norm with statistics of a trained network's kind: variances that differ, means of both signs."""
        name, count = f"batchnorm2d{len(self.nodes)}", self.shape[0]
        drawn = {
            "weight": 1 + 0.3 * self.rng.standard_normal(count),
            "bias": 0.3 * self.rng.standard_normal(count),
            "mean": self.rng.standard_normal(count),
            "var": np.exp(self.rng.uniform(-3, 3, count)),
        }
        self._node("batchnorm2d", eps=1e-5, **{key: f"{name}.{key}" for key in drawn})
        self.params.update({f"{name}.{key}": x.astype(np.float32) for key, x in drawn.items()})
        return self

    def group_norm(self, groups: int = 1, each: bool = False, bias: bool = True) -> Graph:
        """A normalisation by the statistics of each sample, of groups of channels, or `each` position by itself."""
        name, count = f"groupnorm{len(self.nodes)}", self.shape[0]
        options = {"each": True} if each else {}
        own = f"{name}.bias" if bias else None
        self._node("groupnorm", weight=f"{name}.weight", bias=own, groups=groups, eps=1e-5, **options)
        self.params[f"{name}.weight"] = (1 + 0.3 * self.rng.standard_normal(count)).astype(np.float32)
        if own:
            self.params[own] = (0.3 * self.rng.standard_normal(count)).astype(np.float32)
        return self

    def _own(self, op: str, shape: Sequence[int], scale: float = 0.5, **fields: Any) -> Graph:
        """A node with one parameter of that shape."""
        name = f"{op}{len(self.nodes)}.weight"
        self.params[name] = (scale * self.rng.standard_normal(shape)).astype(np.float32)
        self._node(op, weight=name, **fields)
        self._resize()
        return self

    def embedding(self, tokens: int, channels: int) -> Graph:
        """Of samples that are windows of tokens."""
        self.spec = {"shape": self.spec["shape"], "tokens": tokens}
        return self._own("embedding", (tokens, channels))

    def positions(self) -> Graph:
        return self._own("positions", self.shape)

    def prepend(self) -> Graph:
        return self._own("prepend", self.shape[:1])

    def moved(self, op: str, **fields: Any) -> Graph:
        """A layer without parameters that has another shape: "line", "take"."""
        self._node(op, **fields)
        self._resize()
        return self

    def attention(self, heads: int = 1, causal: bool = False) -> Graph:
        return self.moved("attention", heads=heads, causal=causal)

    def unembedding(self) -> Graph:
        """With the table of the embedding, which comes first."""
        self._node("unembedding", weight=self.nodes[0]["weight"])
        self._resize()
        return self

    @property
    def last(self) -> str:
        """The name of what the next node reads."""
        return self.nodes[-1]["name"] if self.nodes else "@input"

    def read(self, name: str) -> Graph:
        """Let the node just added read another one; for layers that keep the shape."""
        self.nodes[-1]["inputs"] = [name]
        return self

    def add(self, other: str) -> Graph:
        """Add the output of an earlier node, of the same shape."""
        return self._with("add", other)

    def _with(self, op: str, other: str) -> Graph:
        """A node that reads an earlier one too."""
        first = self.source or self.last
        self._node(op)
        self.nodes[-1]["inputs"] = [first, other]
        return self

    def cat(self, *others: str) -> Graph:
        """The channels of the last node, and behind them those of earlier ones, whose images have the same size."""
        names = [self.last, *others]
        self._node("cat", inputs=names)
        self.shape = [sum(self.shapes[name][0] for name in names), *self.shape[1:]]
        return self

    def channels(self, first: int, count: int, groups: int = 1) -> Graph:
        self._node("channels", first=first, count=count, **({} if groups == 1 else {"groups": groups}))
        self._resize()
        return self

    def flatten(self) -> Graph:
        self._node("flatten")
        self.shape = [int(np.prod(self.shape))]
        return self

    def linear(self, out: int, bias: bool = True) -> Graph:
        self._affine("linear", (out, self.shape[0]), bias)
        self.shape = [out]
        return self

    def case(self, **options: Any) -> Case:
        """See `build`."""
        return build(self.nodes, self.params, self.spec, **options)


def tiny_mlp(seed: int = 0, **options: Any) -> Case:
    """Twelve inputs, five hidden units, four classes."""
    rng = np.random.default_rng([seed, 2])
    return Graph(rng, [1, 3, 4]).flatten().linear(5).relu().linear(4).case(seed=seed, **options)


def tiny_cnn(seed: int = 0, **options: Any) -> Case:
    """Every layer type: convolutions with and without bias, padding, overlapping average windows."""
    rng = np.random.default_rng([seed, 3])
    g = Graph(rng, [2, 5, 6], pad=1).conv(3, pad=(1, 1)).relu().pool("maxpool2d")
    g.conv(4, (2, 3), (1, 1), (0, 1), bias=False).relu().pool("avgpool2d", (2, 2), (1, 1))
    return g.flatten().linear(3).case(seed=seed, **options)


def residual(seed: int = 0, **options: Any) -> Case:
    """Residual blocks: a shortcut around convolutions, one through a convolution, one of the samples, and sums that
    nothing rectifies, read by a convolution, a pool and the head."""
    rng = np.random.default_rng([seed, 6])
    g = Graph(rng, [2, 4, 4], scale=0.7).conv(2, pad=(1, 1)).add("@input").relu()
    stem = g.last
    g.conv(2, pad=(1, 1)).relu().conv(2, pad=(1, 1), bias=False).add(stem).relu()
    block = g.last
    g.conv(2, (1, 1)).read(stem).add(block)
    mixed = g.last
    g.conv(2, (1, 1)).add(mixed).conv(3, (1, 1), bias=False)
    g.add(g.last).pool("maxpool2d").pool("avgpool2d").flatten().linear(3)
    wide = g.last
    g.relu().linear(3).add(wide)
    return g.case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})


def fan(branches: int, readers: int, seed: int = 0, **options: Any) -> Case:
    """A sum of the samples and so many convolutions, read by so many others, whose sum a pool, a ReLU and the head
    read: the sums, and the gradients at the first sum, have a tensor of their own from five terms on."""
    rng = np.random.default_rng([seed, 8])
    g = Graph(rng, [2, 3, 3], scale=0.4)

    def spread(source: str, count: int, own: bool) -> None:
        total = source if own else None
        for _ in range(count):
            g.conv(2, (1, 1), bias=False).read(source)
            if total is not None:
                g.add(total)
            total = g.last

    spread("@input", branches, own=True)
    spread(g.last, readers, own=False)
    wide = g.last
    g.relu().add(wide).pool("maxpool2d", (2, 2), (1, 1)).flatten().linear(3)
    return g.case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})


def normalised(seed: int = 0, **options: Any) -> Case:
    """Batch-norms of the samples, before a ReLU, before a shortcut and its ReLU, of a sum, and before a pool."""
    rng = np.random.default_rng([seed, 7])
    g = Graph(rng, [2, 4, 3]).norm().conv(3, pad=(1, 1), bias=False).norm().relu()
    stem = g.last
    g.conv(3, pad=(1, 1), bias=False).norm().add(stem).relu()
    g.conv(3, (1, 1)).add(stem).norm().pool("avgpool2d", (4, 3), (4, 3))
    return g.flatten().linear(3).case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})


def leaky(seed: int = 0, **options: Any) -> Case:
    """LeakyReLUs of the samples, before a ReLU, of a sum that others read, of features; slopes of 0 and 1 too."""
    rng = np.random.default_rng([seed, 9])
    g = Graph(rng, [2, 3, 3], scale=0.7).leaky_relu(0.3).conv(2, pad=(1, 1)).leaky_relu(1.0)
    stem = g.last
    g.conv(2, (1, 1)).leaky_relu(0.5).relu().add(stem).leaky_relu()
    wide = g.last
    g.conv(2, (1, 1), bias=False).add(wide).pool("avgpool2d").flatten().linear(4).leaky_relu(0.0)
    return g.linear(3).case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})


def bordered(seed: int = 0, **options: Any) -> Case:
    """Pools with borders: maxima of windows that reach out of the image on every side, also of those that overlap;
    averages that count the border or not, with another divisor, beyond the border; to sizes that do not divide."""
    rng = np.random.default_rng([seed, 13])
    g = Graph(rng, [1, 6, 7], scale=0.7).conv(2, (2, 2)).pool("maxpool2d", (3, 3), (2, 2), padding=[1, 1])
    g.conv(2, (1, 1)).pool("maxpool2d", (3, 2), (1, 1), padding=[1, 1]).relu()
    g.pool("maxpool2d", (2, 2), (2, 2), ceil=True).conv(2, (1, 1)).pool("avgpool2d", (2, 2), (1, 1), padding=[1, 1])
    g.pool("avgpool2d", (3, 2), (3, 2), padding=[1, 1], ceil=True).pool("avgpool2d", (2, 2), (1, 1), divisor=3)
    g.conv(2, (1, 1)).adaptive(3, 2).pool("avgpool2d", (2, 2), (1, 1), padding=[1, 0], inside=True).adaptive(3, 2)
    return g.flatten().linear(3).case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})


def pointwise(seed: int = 0, **options: Any) -> Case:
    """A head of a 1x1 convolution, a ReLU and a pooling to one position."""
    rng = np.random.default_rng([seed, 17])
    g = Graph(rng, [1, 3, 3]).conv(2, (2, 2)).relu().conv(3, (1, 1)).relu().pool("avgpool2d", (2, 2), (2, 2))
    return g.flatten().case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})


def grouped(seed: int = 0, **options: Any) -> Case:
    """Convolutions of several groups with and without biases, depthwise ones that make two channels of each, gaps in
    kernels; before a ReLU, before a shortcut, of a sum."""
    rng = np.random.default_rng([seed, 14])
    g = Graph(rng, [2, 4, 4], scale=0.7).conv(4, (2, 3), (1, 2), (1, 1), groups=2).relu()
    stem = g.last
    g.conv(4, (3, 3), (1, 1), (2, 2), bias=False, groups=4, dilation=[2, 2]).add(stem).relu()
    g.conv(8, (2, 2), (2, 1), groups=4).conv(4, (2, 1), (1, 1), (1, 0), groups=2, dilation=[2, 1])
    return g.flatten().linear(3).case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})


def standardised(seed: int = 0, **options: Any) -> Case:
    """Group norms of the samples, of a sum of branches whose weights and input get gradients, of one group and several,
    over all positions and at each, before a ReLU and before others, of features, without a bias; a group of equal
    entries."""
    rng = np.random.default_rng([seed, 19])
    g = Graph(rng, [2, 2, 3], scale=0.7).group_norm(2).conv(4, (1, 2)).group_norm(2, each=True).relu()
    stem = g.last
    g.conv(4, (1, 1)).add(stem).group_norm(bias=False).conv(2, (2, 1), bias=False).group_norm(1, each=True)
    return (
        g.flatten()
        .linear(4)
        .group_norm(2)
        .relu()
        .linear(3)
        .case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})
    )


def language(seed: int = 0, *, tied: bool = True, causal: bool = True, length: int = 3, **options: Any) -> Case:
    """Windows of three tokens (or of `length`) and one: positions, a block of attention, one of a ReLU, a norm; logits
    by the table of the embedding or by a convolution."""
    rng = np.random.default_rng([seed, 23])
    g = Graph(rng, [1, 1, length]).embedding(5, 4).positions()
    stem = g.last
    g.group_norm(1, each=True).conv(12, (1, 1)).attention(2, causal).conv(4, (1, 1)).add(stem)
    stem = g.last
    g.conv(3, (1, 1)).relu().conv(4, (1, 1)).add(stem).group_norm(1, each=True, bias=tied)
    g = g.unembedding() if tied else g.conv(5, (1, 1))
    return g.case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})


def patches(seed: int = 0, **options: Any) -> Case:
    """Patches of an image as a sequence, behind a class token, which alone reaches the end."""
    rng = np.random.default_rng([seed, 24])
    g = Graph(rng, [1, 4, 4]).conv(3, (2, 2), (2, 2)).moved("line").prepend().positions()
    stem = g.last
    g.conv(9, (1, 1)).attention(1).conv(3, (1, 1)).add(stem).moved("take", position=0)
    return g.flatten().linear(3).case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 2, **options})


def attending(seed: int = 0, **options: Any) -> Case:
    """Attention of joined channels, which a cat and channels read; a head of more channels than one, as its table."""
    rng = np.random.default_rng([seed, 25])
    g = Graph(rng, [1, 1, 2]).embedding(4, 3)
    stem = g.last
    g.conv(6, (1, 1)).cat(stem).attention(1).cat(stem).channels(1, 4).conv(4, (1, 1), bias=False)
    return g.case(seed=seed, **{"rho": Fraction(1, 1000), "batch": 1, **options})


def random_graph(rng: np.random.Generator, scale: float = 1.0) -> Graph:
    """A random network of up to three convolutions and two linear layers on images up to 2 x 7 x 7."""
    shape = [int(rng.integers(1, 3)), int(rng.integers(3, 8)), int(rng.integers(3, 8))]
    g = Graph(rng, shape, int(rng.integers(0, 2)), scale)
    draw = lambda low, limits: [int(rng.integers(low, min(3, n) + 1)) for n in limits]  # noqa: E731
    if rng.random() < 0.15:
        g.relu()
    for _ in range(int(rng.integers(0, 4))):
        kernel = draw(1, g.shape[1:])
        pad = [int(rng.integers(0, min(k, 2))) for k in kernel]
        g.conv(int(rng.integers(1, 5)), kernel, draw(1, (2, 2)), pad, bias=bool(rng.random() < 0.7))
        if rng.random() < 0.8:
            g.relu()
        if rng.random() < 0.6:
            op = ("maxpool2d", "avgpool2d")[int(rng.integers(2))]
            g.pool(op, draw(1, g.shape[1:]), draw(1, (2, 2)))
    g.flatten()
    if rng.random() < 0.5:
        g.linear(int(rng.integers(2, 7)), bias=bool(rng.random() < 0.7)).relu()
    g.linear(int(rng.integers(2, 7)), bias=bool(rng.random() < 0.7))
    return g


def random_case(seed: int, *, scale: float | None = None, **options: Any) -> Case:
    """A random case; `options` as for `build` replace what the seed would choose."""
    rng = np.random.default_rng([seed, 4])
    pick = lambda values: values[int(rng.integers(len(values)))]  # noqa: E731
    chosen = {
        "kind": pick(KINDS),
        "steps": pick(STEPS),
        "batch": pick(BATCHES),
        "rho": pick((Fraction(1, 20), Fraction(3, 70), Fraction(1, 1000), Fraction(7, 500))),
        "divisor": pick((37, 400, 12345, 1 << 22)),
        "eps": pick((Fraction(0), EPS, Fraction(1, 3))),
        "variant": pick(VARIANTS),
    }
    drawn = pick((0.5, 1.0, 1.0, 2.0))
    g = random_graph(rng, drawn if scale is None else scale)
    return g.case(seed=seed, **{**chosen, **options})


def grid_case(seed: int) -> Case:
    """`random_case` with every batch size with every variant and kind of data; eps and steps alternate too, and so do
    statistics, a ddof and an eta."""
    variant, statistic = VARIANTS[seed // 4 % 2], STATISTICS[seed % 5 % 4]
    scale: dict[str, Any] = {"variant": variant}
    if variant == "asam-all" and seed % 3 == 2:
        scale = {"variant": SHIFTED[seed % 2], "eta": Fraction(seed, 7)}
    return random_case(
        seed,
        batch=BATCHES[seed % 4],
        statistic=statistic,
        ddof=seed // 4 % 2 if Statistic(statistic).centred else 0,
        **scale,
        kind=KINDS[seed // 8 % 2],
        eps=(Fraction(0), EPS)[seed % 3 > 0],
        steps=STEPS[seed % 5 == 0],
    )


def classifier(
    weights: Sequence[Sequence[float]], pixels: Sequence[Sequence[int]], labels: Sequence[int], **options: Any
) -> Case:
    """One linear layer without bias on bytes, which count as byte / 4; the same batch at every step."""
    steps, x = options.setdefault("steps", 2), np.array(pixels, np.uint8)
    g = Graph(np.random.default_rng(0), [1, 1, x.shape[1]]).flatten().linear(len(weights), bias=False)
    g.params["linear1.weight"][:] = weights
    g.spec.update(mean=[0.0], std=[4 / 255])
    options = {"divisor": 1 << 22, "rho": Fraction(1, 10**5), **options}
    every = np.stack([x[:, None, None]] * steps)
    return g.case(pixels=every, labels=np.array([labels] * steps), batch=len(x), **options)


# ------------------------------------------------------------------------------------------------ checks


class Digits:
    """The digits of a tensor as an array (n_digits, *sizes), read from and written to their places in X."""

    def __init__(self, w: Witness, t: Tensor) -> None:
        self.w, self.t = w, t

    def __getitem__(self, at: Any) -> Any:
        return self.w.array(self.t)[at]

    def __setitem__(self, at: Any, values: Any) -> None:
        array = self.w.array(self.t)
        array[at] = values
        for d, digit in enumerate(array):
            self.w.write(self.t, d, digit)

    def at(self, d: int, index: int) -> tuple[int, ...]:
        """Where the entry with this flat index of digit d is."""
        return d, *map(int, np.unravel_index(index, self.t.sizes))


def wide(w: Witness, view: View) -> np.ndarray:
    """Values of a tensor of any width, as Python integers."""
    return sum(w.array(view.tensor)[i].astype(object) << d.shift for i, d in enumerate(view.tensor.digits))


def values_of(w: Witness, con: Constraint, e: Expr) -> np.ndarray:
    """The values of a member: int64, or integers of any size, reduced modulo p, for a congruence."""
    if not isinstance(con, Congruence):
        return w.expression(e, con.out, con.summed)
    return exact_values(w, con, e) % P


def exact_values(w: Witness, con: Constraint, e: Expr) -> np.ndarray:
    """The values of a member without constants, as integers of any size (small domains)."""
    every = (*con.out, *con.summed)
    form = lambda f, on: sum(w.read(v, d, on).astype(object) * c for v, d, c in f.terms)  # noqa: E731
    values = sum(np.broadcast_to(form(a, every) * form(b, every), [x.size for x in every]) for a, b in e.products)
    return values.sum(axis=tuple(range(len(con.out), len(every)))) + form(e.linear, con.out)


def no_row(w: Witness, lookup: Lookup) -> bool:
    """Whether some of its components are no row of its table."""
    columns = [np.broadcast_to(w.form(form, lookup.out), lookup.sizes).ravel() for form in lookup.components]
    rows = lookup.table.rows
    at = np.minimum(np.searchsorted(rows[:, 0], columns[0]), len(rows) - 1)
    return not np.array_equal(rows[at].T, columns)


def violations(circuit: Circuit, w: Witness) -> list[str]:
    """Names of everything the witness breaks: digit ranges, identities, lookups, public tensors, links (over F_p)."""

    out = []
    for t in circuit.tensors:
        for i, d in enumerate(t.digits):
            if w.digit(t, i).min() < d.range.lo or w.digit(t, i).max() > d.range.hi:
                out.append(f"range of {t.name}[{i}]")
    for con in circuit.constraints:
        for label, e in con.members:
            if np.any(values_of(w, con, e)):
                out.append(f"{con.name}/{label}")
    out += [f"lookup {lookup.name}" for lookup in circuit.lookups if no_row(w, lookup)]
    for pub in circuit.publics:
        if np.any(w.array(pub.tensor)[:, pub.index] != pub.values):
            out.append(f"public {pub.tensor.name}")
    for link in circuit.links:
        if np.any(link_values(link, w) != link.target):
            out.append(f"link {link.name}")
    return out


def link_values(link: Any, w: Witness) -> np.ndarray:
    """Left sides of a modular link whose tensors are bytes and whose matrices are the sample hash's."""
    parts = [w.array(t)[0].astype(np.uint8) for t, _ in link.parts]
    flat = [x.reshape(-1, x.shape[-1]) for x in parts]
    return hash_samples(*flat).reshape(link.target.shape)
