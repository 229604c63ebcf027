"""What a proof on several machines sends, and how long it would take: `python -m benchmarks.cluster --out DIR`.

A model is proved alone, and with workers on this machine (Ray), in one process after a warm-up. Bytes are counted, by
phase and worker; times on more machines are *predicted* from them and have not been measured:

    seconds = alone (1 - f) + alone f / machines + driver's bytes (1 / bandwidth + 1 / sealing)
              + passed bytes / bandwidth + waits (latency + machines * call)

f is the workers' share of the CPU time that the phase takes with them. A phase is divided no further than its pieces
allow, blocks of rows or shares of a tree, and a tree's messages go to no more machines than share it. Every machine is
as fast as this one; latency is that of a request and its reply, `call` what the driver spends on each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cost import SUBJECTS, build
from benchmarks.extras import install
from benchmarks.measure import BEACON, DATA, MODEL, PROOF, ROOT, random_samples, warm_up
from benchmarks.scaling import CLASSES, INPUT, network
from zkcert import api
from zkcert.errors import UnusableInput
from zkcert.files.writing import replace_file
from zkcert.public.config import ProbeConfig
from zkcert.public.model import Model
from zkcert.public.root import DatasetRoot
from zkcert.public.statement import Statement, check_tau

TAU = "100"
SMALL = "small"  # the network of benchmarks.scaling
PINGS = 200


def run(name: str, config: ProbeConfig, workers: int, least_share: int) -> dict[str, Any]:
    """The figures of one model, by its name."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if name == SMALL:
            from zkcert.convert import from_sequential

            from_sequential(network(8), input=INPUT).save(place / MODEL)
            shape, classes = INPUT["shape"], CLASSES
        else:
            subject = SUBJECTS[name]
            build(subject, place / MODEL, None)
            shape, classes = subject.input["shape"], subject.classes
        api.commit(random_samples(place / "noise.npz", shape, classes), place / DATA, classes=classes)
        return {"model": name, **measured(place, config, workers, least_share)}


def measured(place: Path, config: ProbeConfig, workers: int, least_share: int) -> dict[str, Any]:
    """The figures of model.pt and data.zkd in a folder: proofs alone and with workers, and what was sent."""
    from prover.cluster.driver import Cluster
    from prover.cluster.rays import crew
    from prover.kernels import ROWS
    from prover.resources import sizes_of

    def prove(cluster: Cluster | None) -> tuple[api.ProofResult, dict[str, float]]:
        spent: dict[str, float] = {}

        def progress(phase: str, done: api.PhaseTime | None) -> None:
            spent[phase] = time.process_time() - spent.get(phase, 0.0)

        options = {"tau": TAU, "config": config, "beacon": BEACON, "force": True, "progress": progress}
        return api.prove(place / MODEL, place / DATA, place / PROOF, cluster=cluster, **options), spent

    warm_up()
    alone, _ = prove(None)
    with crew(f"local:{workers}") as actors:
        team = Cluster(actors, least_share=least_share)
        shared, spent = prove(team)
        traffic = team.traffic()
        call = call_seconds(team)
    model = Model.load(place / MODEL)
    sizes = sizes_of(Statement.of(model, DatasetRoot.load(place / ROOT), config, check_tau(TAU)), model)
    return {
        "steps": config.steps,
        "batch_size": config.batch_size,
        "workers": workers,
        "sizes": asdict(sizes),
        "blocks": -(-sizes.rows // ROWS),
        "least_share": least_share,
        "seconds_alone": {phase.name: phase.seconds for phase in alone.phases},
        "seconds_shared": {phase.name: phase.seconds for phase in shared.phases},
        "driver_cpu_seconds": spent,
        "traffic": {phase: asdict(found) for phase, found in traffic.items() if phase in spent},
        "call_seconds": call,
        "sealing_bytes_per_second": sealing_rate(),
    }


def call_seconds(team: Any) -> float:
    """CPU seconds of the driver for a small request and its reply."""
    start = time.process_time()
    for _ in range(PINGS):
        team.everyone("fell")
    return (time.process_time() - start) / (PINGS * team.size)


def sealing_rate(size: int = 1 << 26) -> float:
    """Bytes of an array that are sealed in a second."""
    from prover.cluster.sealing import KEY_BYTES, Sealed

    sealed, data = Sealed(bytes(KEY_BYTES)), np.zeros(size // 8, np.uint64)
    start = time.perf_counter()
    sealed.seal(data)
    return size / (time.perf_counter() - start)


def predicted(found: dict[str, Any], machines: int, bandwidth: float, latency: float) -> dict[str, float]:
    """Seconds of each phase with so many machines; bandwidth in bytes a second, latency in seconds."""
    seconds = {}
    for phase, alone in found["seconds_alone"].items():
        traffic = found["traffic"].get(phase)
        if traffic is None:
            seconds[phase] = alone
            continue
        theirs, own = sum(traffic["seconds"]), found["driver_cpu_seconds"][phase]
        share = theirs / (theirs + own)
        pieces = pieces_of(phase, found, machines)
        busy = pieces if phase == "range checks" else machines
        sent = sum(traffic["sent"]) + sum(traffic["received"])
        passed = sum(traffic["passed"])
        if phase == "open":  # sums of combinations, from pair to pair of machines
            passed *= np.log2(machines) / max(1, found["workers"] - 1)
        else:
            passed /= machines
        seconds[phase] = (
            alone * (1 - share)
            + alone * share / pieces
            + sent * (1 / bandwidth + 1 / found["sealing_bytes_per_second"])
            + passed / bandwidth
            + traffic["waits"] * (latency + busy * found["call_seconds"])
        )
    return seconds


def pieces_of(phase: str, found: dict[str, Any], machines: int) -> float:
    """By how much so many machines divide the work of a phase."""
    from prover.cluster.driver import tree_bits

    if phase == "range checks":
        return float(1 << tree_bits(found["sizes"]["tree"], machines, found["least_share"]))
    return found["blocks"] / -(-found["blocks"] // machines)


# -------------------------------------------------------------------------------------------------- reporting


def sent_table(found: dict[str, Any]) -> str:
    """Bytes by phase and worker, Markdown."""
    lines = [
        f"{found['model']}, B = {found['batch_size']}, T = {found['steps']}: {found['sizes']['digits']:,} digits, "
        f"{found['sizes']['rows']} rows of 2^{found['sizes']['row_bits']} pairs, {found['workers']} workers here",
        "",
        "| phase | worker | from the driver, MB | to the driver, MB | from other workers, MB | CPU s | waits |",
        "|" + " --- |" * 7,
    ]
    for phase, traffic in found["traffic"].items():
        columns = (traffic[key] for key in ("sent", "received", "passed", "seconds"))
        for worker, (sent, received, passed, seconds) in enumerate(zip(*columns, strict=True), 1):
            figures = f"{sent / 1e6:.2f} | {received / 1e6:.2f} | {passed / 1e6:.2f} | {seconds:.2f}"
            lines.append(f"| {phase} | {worker} | {figures} | {traffic['waits'] if worker == 1 else ''} |")
    return "\n".join(lines)


def time_table(found: dict[str, Any], machines: Sequence[int], bandwidth: float, latency: float) -> str:
    """Seconds alone, with workers here, and predicted, Markdown."""
    columns = [predicted(found, m, bandwidth, latency) for m in machines]
    lines = [
        f"Predicted for {bandwidth * 8e-9:g} Gbit/s and {latency * 1e3:g} ms; this machine seals "
        f"{found['sealing_bytes_per_second'] / 1e9:.2f} GB/s and takes {found['call_seconds'] * 1e6:.0f} us a call.",
        "",
        f"| seconds | alone | {found['workers']} workers here | {' | '.join(f'{m} machines' for m in machines)} |",
        "|" + " --- |" * (3 + len(machines)),
    ]
    alone, shared = found["seconds_alone"], found["seconds_shared"]
    for phase in alone:
        cells = [alone[phase], shared[phase], *(column[phase] for column in columns)]
        lines.append(f"| {phase} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    add: Callable[[dict[str, float]], str] = lambda column: f"{sum(column[phase] for phase in alone):.2f}"  # noqa: E731
    lines.append(f"| sum | {' | '.join(add(column) for column in (alone, shared, *columns))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="JSON and Markdown go there")
    parser.add_argument("--models", nargs="*", default=[SMALL], help=f"{SMALL} [default], or {', '.join(SUBJECTS)}")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2, help="on this machine [default: 2]")
    parser.add_argument("--machines", type=int, nargs="*", default=[4, 16, 64], help="to predict [default: 4 16 64]")
    parser.add_argument("--bandwidth", type=float, default=10.0, help="of each machine, Gbit/s [default: 10]")
    parser.add_argument("--latency", type=float, default=1.0, help="of a request and its reply, ms [default: 1]")
    parser.add_argument("--least-share", type=int, default=1 << 22, help="digits of a tree that a worker has at least")
    args = parser.parse_args()
    try:
        import cryptography  # noqa: F401
        import ray  # noqa: F401
    except ModuleNotFoundError as error:
        raise UnusableInput(f"this needs {error.name}: {install('prove', 'cluster')}") from error
    args.out.mkdir(parents=True, exist_ok=True)
    config, texts = ProbeConfig(steps=args.steps, batch_size=args.batch_size), []
    for name in args.models:
        path = args.out / f"{name}.json"
        if not path.exists():
            found = run(name, config, args.workers, args.least_share)
            replace_file(path, (json.dumps(found, indent=1) + "\n").encode())
        found = json.loads(path.read_text())
        texts += [sent_table(found), time_table(found, args.machines, args.bandwidth / 8e-9, args.latency / 1e3)]
        print("\n\n".join(texts[-2:]), end="\n\n", flush=True)
    replace_file(args.out / "cluster.md", ("\n\n".join(texts) + "\n").encode())


if __name__ == "__main__":
    main()
