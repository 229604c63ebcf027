"""What a proof will take: exact sizes from the circuit, and time and memory per phase from measured rates.

The rates are in `zkcert/assets/rates.json`, fitted by `python -m benchmarks.scaling` to measured proofs: a phase takes
``fixed + sum_s rate_s size_s`` seconds, or bytes, over the sizes s named in WORK. Needs numpy only.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from circuits.argument.identities import split_axes
from circuits.argument.lookups import digit_trees
from circuits.argument.protocol import message_counts
from circuits.argument.tuples import leaf_count, tuple_trees
from circuits.language.layout import Layout
from circuits.language.tensors import ceil_log2
from circuits.statement import certificate
from zkcert.core import field as ff
from zkcert.core.code import pad_code
from zkcert.core.container import MAGIC
from zkcert.core.sis import ROWS
from zkcert.errors import UnusableInput
from zkcert.files.writing import replace_file
from zkcert.public.model import Model
from zkcert.public.reading import read_file
from zkcert.public.statement import Statement

WORK: dict[str, tuple[str, ...]] = {
    "load": ("parameters",),
    "witness": ("digits", "multiplications"),
    "reference": ("multiplications",),
    "late digits": ("digits",),
    "commit": ("cells",),
    "constraints": ("digits", "table_cells"),
    "range checks": ("digits",),
    "batch": ("entries",),
    "open": ("entries",),
    "pads": ("pad_cells",),
    "self-check": ("columns", "opened"),
}
"""The sizes (fields of `Sizes`) that a phase's time grows with."""

MEMORY: dict[str, tuple[str, ...]] = {name: ("entries", "parameters") for name in WORK}
MEMORY["range checks"] += ("tree",)
"""The sizes that a phase's peak memory grows with."""

TUPLE_COST = 4
"""Memory of a leaf of a tree of tuples, 48 bytes, in those of a tree of digits, about."""
SHIPPED_RATES = Path(__file__).parent.parent / "zkcert" / "assets" / "rates.json"
PARALLEL = 0.9
"""Share of the work that runs on all cores, for machines with another number of them."""


# ------------------------------------------------------------------------------------------------- sizes


@dataclass(frozen=True)
class Sizes:
    """What a circuit comes to.

    digits, table_entries, entries  range-checked digits, entries of the range tables, entries of X
    tree                            leaves of the largest tree of digits, padded, a tuple counted as TUPLE_COST of them
    columns                         columns of X
    multiplications                 of the network, the gradients and the weight updates, over all passes
    table_cells                     entries of all tables of the product sum-checks
    rows, row_bits, log_n, queries  the matrix: rows of 2^row_bits pairs of entries, codewords of 2^log_n values
    cells, pad_cells                values in all codewords of the matrix and of the pads
    opened                          values in the queried columns of both
    proof_bytes                     exact but for the Merkle paths and the digits of the header's numbers
    """

    parameters: int
    steps: int
    batch_size: int
    digits: int
    table_entries: int
    entries: int
    tree: int
    columns: int
    multiplications: int
    table_cells: int
    rows: int
    row_bits: int
    log_n: int
    queries: int
    cells: int
    pad_cells: int
    opened: int
    proof_bytes: int

    @property
    def x_bytes(self) -> int:
        """Of X, in memory or in a scratch file."""
        return 4 * self.entries


def sizes_of(statement: Statement, model: Model) -> Sizes:
    """The sizes of a proof of `statement`, whose samples need not be known."""
    config = statement.config
    samples = config.steps * config.batch_size
    cert = certificate(statement, model, np.zeros((samples, ROWS), np.uint64))
    layout = cert.close(statement.tau)
    leaves = [count for _, count in digit_trees(layout)]
    tuples = [leaf_count(tree) for tree in tuple_trees(layout)]
    code = layout.code
    counts = message_counts(layout, code.variables)
    pads = pad_code(*counts)
    multiplications = table_cells = 0
    for con in layout.circuit.constraints:
        pairs = len({a for _, e in con.members for a, _ in e.products})
        if pairs:
            multiplications += prod(ax.size for ax in (*con.out, *con.summed))
            table_cells += 2 * pairs << sum(ax.bits for ax in split_axes(con)[1])
    return Sizes(
        parameters=model.param_count,
        steps=config.steps,
        batch_size=config.batch_size,
        digits=layout.digit_count,
        table_entries=layout.table_entries,
        entries=layout.data_end,
        tree=max(1 << ceil_log2(max(leaves)), *(TUPLE_COST << ceil_log2(count) for count in (1, *tuples))),
        columns=sum(p.size for place in layout.places.values() for p in place.positions),
        multiplications=multiplications,
        table_cells=table_cells,
        rows=code.rows,
        row_bits=code.row_bits,
        log_n=code.log_n,
        queries=code.queries,
        cells=code.rows << code.log_n,
        pad_cells=(pads.rows + 3) << pads.log_n,
        opened=sum(c.queries * c.rows for c in (code, *code.levels, pads)),
        proof_bytes=proof_bytes(statement, layout),
    )


def proof_bytes(statement: Statement, layout: Layout) -> int:
    """The length of proof.bin."""
    samples = statement.config.steps * statement.config.batch_size
    code = layout.code
    singles, triples = message_counts(layout, code.variables)
    pads = pad_code(singles, triples)
    return round(
        len(MAGIC)
        + 4 * 8
        + len(statement.header())
        + samples * 8 * ROWS
        + multiproof_bytes((statement.dataset.n - 1).bit_length(), samples)
        + 4 * 8
        + 2 * 32
        + 16 * (singles + 2 * triples + 1)
        + 8
        + code.opening_bytes
        + (len(code.levels) * 32)
        + (1 + len(code.levels)) * 2 * 8
        + len(code.parts) * multiproof_bytes(code.log_n, code.queries)
        + sum(multiproof_bytes(level.log_n, level.queries) for level in code.levels)
        + pads.opening_bytes
        + 8
        + multiproof_bytes(pads.log_n, pads.queries)
    )


def multiproof_bytes(depth: int, leaves: int) -> float:
    """Expected size of the Merkle paths of random distinct leaves out of 2^depth: the siblings that are not known."""

    others = 2.0**depth - np.arange(leaves)

    def untouched(size: int) -> float:
        """The probability that none of the leaves lies in a subtree of that many."""
        if others[-1] <= size:
            return 0.0
        return float(np.exp(np.log1p(-size / others).sum()))

    return 32 * sum((1 << depth - level) * (untouched(1 << level) - untouched(2 << level)) for level in range(depth))


# ------------------------------------------------------------------------------------------------- rates


MAX_RATES = 1 << 20  # bytes of a file of rates


@dataclass(frozen=True)
class Rates:
    """Measured costs: phase -> {"fixed" or a size: seconds, or bytes}, and the machine they were measured on."""

    seconds: Mapping[str, Mapping[str, float]]
    memory: Mapping[str, Mapping[str, float]]
    probe: float
    threads: int

    @staticmethod
    def load(path: Path | None = None) -> Rates:
        """From a file of `save`; None: the user's own, else the shipped ones. Raises UnusableInput for another file."""
        if path is None:
            path = own_rates() if own_rates().exists() else SHIPPED_RATES
        data = read_file(path, MAX_RATES)
        try:
            rates = Rates(**json.loads(data))
            if not rates.memory or min(map(_number, (rates.probe, rates.threads))) <= 0:
                raise ValueError("no costs of memory, or no machine")
            known = {"fixed", *(field.name for field in fields(Sizes))}
            for costs in (*rates.seconds.values(), *rates.memory.values()):
                if "fixed" not in costs or not known.issuperset(costs) or min(map(_number, costs.values())) < 0:
                    raise ValueError("costs of an unknown form")
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UnusableInput(
                f"{path} holds no measured rates: leave --rates out, or give what "
                "`python -m benchmarks.scaling --rates FILE` wrote"
            ) from error
        return rates

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (json.dumps(asdict(self), indent=1) + "\n").encode())

    def predict(self, sizes: Sizes, slowdown: float = 1.0) -> dict[str, float]:
        """Seconds per phase on a machine that is `slowdown` times slower."""
        return {name: slowdown * _total(costs, sizes) for name, costs in self.seconds.items()}

    def peak_bytes(self, sizes: Sizes, scratch: bool = False) -> int:
        """The peak memory of the process, with X in memory or in a scratch file."""

        def needed(name: str, costs: Mapping[str, float]) -> float:
            x = sizes.x_bytes if scratch and name != "load" else 0  # which comes before X
            return max(_total(costs, sizes) - x, costs["fixed"])

        return round(max(needed(name, costs) for name, costs in self.memory.items()))

    def slowdown(self) -> float:
        """How much slower this machine is than the one of the rates, about."""
        share = PARALLEL * self.threads / threads() + 1 - PARALLEL
        return probe_seconds() / self.probe * share


def own_rates() -> Path:
    """Where rates measured on this machine are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zkcert" / "rates.json"


def _number(value: object) -> float:
    if type(value) not in (int, float) or not abs(float(value)) < math.inf:
        raise ValueError("not a number")
    return float(value)


def _total(costs: Mapping[str, float], sizes: Sizes) -> float:
    return costs["fixed"] + sum(rate * getattr(sizes, name) for name, rate in costs.items() if name != "fixed")


def fit(runs: Sequence[tuple[Sizes, float]], names: Iterable[str]) -> dict[str, float]:
    """Non-negative costs {"fixed", *names} with the least squared relative errors."""
    names = ["fixed", *names]
    y = np.array([value for _, value in runs])
    rows = np.array([[1.0, *(getattr(s, n) for n in names[1:])] for s, _ in runs])
    weight = 1 / np.maximum(y, y.max() * 1e-3 + 1e-9)
    costs = dict.fromkeys(names, 0.0)
    kept = list(range(len(names)))
    while kept:
        scale = np.maximum(np.abs(rows[:, kept]).max(axis=0), 1e-30)
        found = np.linalg.lstsq(rows[:, kept] / scale * weight[:, None], y * weight, rcond=None)[0] / scale
        if found.min() >= 0:
            costs.update(zip((names[i] for i in kept), found.tolist(), strict=True))
            break
        del kept[int(found.argmin())]
    return costs


def fit_rates(runs: Sequence[tuple[Sizes, Sequence[Mapping[str, Any]]]]) -> Rates:
    """Rates from measured proofs: sizes and phases as `ProofResult.to_dict` gives them."""
    found = [(sizes, {p["name"]: p for p in phases}) for sizes, phases in runs]
    seconds, memory = {}, {}
    for name, work in WORK.items():
        if all(name in phases for _, phases in found):
            seconds[name] = fit([(s, p[name]["seconds"]) for s, p in found], work)
            memory[name] = fit([(s, p[name]["peak_rss_bytes"]) for s, p in found], MEMORY[name])
    return Rates(seconds, memory, probe_seconds(), threads())


def threads() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def probe_seconds() -> float:
    """Time of a fixed piece of work on one core, for comparing machines: field products, hashing, a gather."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, ff.P, (2, 1 << 17), np.uint64)
    index = rng.permutation(1 << 22)
    data = np.arange(1 << 22, dtype=np.int32)

    def work() -> float:
        start = time.perf_counter()
        ff.f_mul(a, a)
        blake3(data.view(np.uint8)).digest()
        data[index].sum()
        return time.perf_counter() - start

    return min(work() for _ in range(5))


# ------------------------------------------------------------------------------------------- estimates, refusal


@dataclass(frozen=True)
class Estimate:
    """A prediction: seconds per phase, peak memory without and with a scratch file of `scratch_file_bytes`; `available`
    is the memory this machine has left, None if unknown."""

    sizes: Sizes
    phases: dict[str, float]
    peak_bytes: int
    scratch_peak_bytes: int
    available: int | None

    @property
    def seconds(self) -> float:
        return sum(self.phases.values())

    @property
    def scratch_file_bytes(self) -> int:
        """What a scratch file takes of the disk."""
        return self.sizes.x_bytes

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            **asdict(self.sizes),
            "seconds": round(self.seconds, 2),
            "phases": {name: round(value, 2) for name, value in self.phases.items()},
            "peak_bytes": self.peak_bytes,
            "scratch_peak_bytes": self.scratch_peak_bytes,
            "scratch_file_bytes": self.scratch_file_bytes,
            "available_bytes": self.available,
        }

    def require_memory(self, scratch: bool = False) -> None:
        """Raises UnusableInput, with advice, if the proof does not fit in the memory available."""
        needed = self.scratch_peak_bytes if scratch else self.peak_bytes
        if self.available is None or needed <= self.available:
            return
        file = ""
        if not scratch and self.scratch_peak_bytes <= self.available:
            file = f"give --scratch DIR ({self.scratch_file_bytes / 1e9:.1f} GB of disk), "
        raise UnusableInput(
            f"this proof needs about {needed / 1e9:.1f} GB of memory and {self.available / 1e9:.1f} GB are available: "
            f"{file}take fewer steps (now {self.sizes.steps}) or smaller batches (now {self.sizes.batch_size}), which "
            "need a new announcement, close other programs, or insist with --force"
        )


def estimate(statement: Statement, model: Model, rates: Rates | None = None) -> Estimate:
    """Predict a proof from public data."""
    rates = rates or Rates.load()
    sizes = sizes_of(statement, model)
    peaks = [rates.peak_bytes(sizes, scratch) for scratch in (False, True)]
    return Estimate(sizes, rates.predict(sizes, rates.slowdown()), *peaks, available_memory())


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes this process can still take: the least of what the system and its control groups leave; None if unknown."""
    found = [_system_memory(root), *_group_memory(root)]
    return min((value for value in found if value is not None), default=None)


def _system_memory(root: Path) -> int | None:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return None


def _group_memory(root: Path) -> list[int | None]:
    """What each memory control group around this process leaves, of version 2 and of version 1."""
    out = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = base / path.lstrip("/")
        while True:
            out.append(_left(group, *names))
            if group == base or base not in group.parents:
                break
            group = group.parent
    return out


def _left(group: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    top, used = ("".join(_lines(group / name)) for name in (limit, usage))
    if not (top.isdigit() and used.isdigit()):
        return None
    cached = next((int(x.split()[1]) for x in _lines(group / "memory.stat") if x.startswith(reclaimable + " ")), 0)
    return max(int(top) - int(used) + cached, 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()[:1000]
    except OSError:
        return []
