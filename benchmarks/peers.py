"""What other provers take on this machine: `python -m benchmarks.peers --out DIR`.

Of the provers of neural networks that can be installed as a package this is ezkl: one inference of LeNet-5 on one
image, its weights being constants of the circuit. zkcert's figures beside it are of `2T - 1` gradients of a batch of B
images of the same network, with everything bound and hidden: the two prove different things. ezkl has its default
arguments, calibrated for resources. DIR keeps an environment,
the inputs and `peers.json`; what is there is not done again. Needs the `onnx` extra, and the network for the first run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.against import machine
from benchmarks.extras import install
from zkcert.errors import UnusableInput, ZkcertError
from zkcert.files import signals
from zkcert.files.writing import replace_file

EZKL = "23.0.5"
INPUT = (1, 32, 32)
STEPS = (  # name, statement of Python that does it; a step's files are in the directory where it runs
    ("settings", "assert ezkl.gen_settings('model.onnx', 'settings.json')"),
    ("calibrate", "assert ezkl.calibrate_settings('input.json', 'model.onnx', 'settings.json', 'resources')"),
    ("compile", "assert ezkl.compile_circuit('model.onnx', 'circuit', 'settings.json')"),
    ("reference string", "ezkl.gen_srs('kzg.srs', json.load(open('settings.json'))['run_args']['logrows'])"),
    ("set-up", "assert ezkl.setup('circuit', 'verifying.key', 'proving.key', 'kzg.srs')"),
    ("witness", "ezkl.gen_witness('input.json', 'circuit', 'witness.json')"),
    ("prove", "assert ezkl.prove('witness.json', 'circuit', 'proving.key', 'proof.json', 'kzg.srs')"),
    ("verify", "assert ezkl.verify('proof.json', 'settings.json', 'verifying.key', 'kzg.srs')"),
)


def onnx_bytes(module: Any, shape: tuple[int, ...]) -> bytes:
    """An ONNX model of an nn.Sequential of convolutions, ReLUs, max-pools, flattening and linear layers, for one image.

    shape: (channels, height, width). UnusableInput for any other layer.
    """
    import torch
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, weights, value = [], [], "input"
    for number, layer in enumerate(module):
        out, kind = f"value{number}", type(layer).__name__
        params = [f"{name}{number}" for name, _ in layer.named_parameters()]
        weights += [
            numpy_helper.from_array(p.detach().numpy().astype(np.float32), f"{name}{number}")
            for name, p in layer.named_parameters()
        ]
        match kind:
            case "Conv2d":
                options = {"strides": layer.stride, "pads": [*layer.padding, *layer.padding]}
                nodes.append(helper.make_node("Conv", [value, *params], [out], **options))
            case "Linear":
                nodes.append(helper.make_node("Gemm", [value, *params], [out], transB=1))
            case "ReLU":
                nodes.append(helper.make_node("Relu", [value], [out]))
            case "MaxPool2d":
                size = [layer.kernel_size] * 2 if isinstance(layer.kernel_size, int) else list(layer.kernel_size)
                stride = [layer.stride] * 2 if isinstance(layer.stride, int) else list(layer.stride)
                nodes.append(helper.make_node("MaxPool", [value], [out], kernel_shape=size, strides=stride))
            case "Flatten":
                nodes.append(helper.make_node("Flatten", [value], [out]))
            case _:
                raise UnusableInput(f"no ONNX form of {kind} is written here")
        value = out
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, *shape])
    with torch.no_grad():
        shown = list(module(torch.zeros(1, *shape)).shape)
    result = helper.make_tensor_value_info(value, TensorProto.FLOAT, shown)
    graph = helper.make_graph(nodes, "network", [image], [result], initializer=weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    checker.check_model(model)
    return bytes(model.SerializeToString())


def ours() -> dict[str, Any]:
    """Figures of zkcert, of LeNet-5 with the paper's batch size and steps."""
    from benchmarks.lenet import CONFIG, run

    return run(None) | {"gradients": 2 * CONFIG.steps - 1}


def timed(place: Path, *command: object) -> dict[str, float]:
    """Seconds, seconds of CPU and peak memory of a process in `place`; UnusableInput if it fails."""
    log = place / "log"
    with log.open("w") as output:
        start = time.perf_counter()
        child = subprocess.Popen(list(map(str, command)), cwd=place, stdout=output, stderr=subprocess.STDOUT)
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.terminate()
            child.wait()
            raise
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise UnusableInput(f"{command[0]} ended with {child.returncode}: see {log}")
    cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    seconds = round(time.perf_counter() - start, 3)
    return {"seconds": seconds, "cpu_seconds": round(cpu, 3), "peak_rss_bytes": peak}


def environment(place: Path) -> Path:
    """The interpreter of an environment of its own with ezkl, made if it is not there."""
    python = place / "environment" / "bin" / "python"
    if not python.exists():
        timed(place, sys.executable, "-m", "venv", place / "environment")
    timed(place, python, "-m", "pip", "install", "--quiet", f"ezkl=={EZKL}")
    return python


def ezkl_figures(place: Path) -> dict[str, Any]:
    """Figures by step of one inference, and the proof's size."""
    from zkcert.zoo import lenet5

    place.mkdir(parents=True, exist_ok=True)
    python = environment(place)
    image = np.random.default_rng(0).standard_normal(INPUT)
    (place / "model.onnx").write_bytes(onnx_bytes(lenet5(), INPUT))
    (place / "input.json").write_text(json.dumps({"input_data": [image.ravel().tolist()]}))
    steps = {}
    for name, statement in STEPS:
        print(f"ezkl {EZKL}: {name}", file=sys.stderr, flush=True)
        steps[name] = timed(place, python, "-c", f"import json, ezkl; {statement}")
    proof, settings = (json.loads((place / name).read_text()) for name in ("proof.json", "settings.json"))
    size = len(bytes.fromhex(proof["hex_proof"].removeprefix("0x")))
    return {"version": EZKL, "log_rows": settings["run_args"]["logrows"], "proof_bytes": size, "steps": steps}


def table(record: dict[str, Any]) -> str:
    """The figures, as Markdown."""
    ezkl, ours = record["ezkl"], record["zkcert"]
    rows = [
        (
            "",
            f"ezkl {ezkl['version']}: one inference, B = 1",
            f"zkcert: {ours['gradients']} gradients, B = {ours['batch_size']}",
        ),
        ("---", "---", "---"),
    ]
    steps, phases = ezkl["steps"], ("reference string", "set-up")
    rows += [(name, f"{steps[name]['seconds']:.1f} s", "none") for name in phases]
    made = steps["witness"]["seconds"] + steps["prove"]["seconds"]
    rows.append(("witness and proof", f"{made:.1f} s", f"{ours['prove_seconds']:.1f} s"))
    peak = max(step["peak_rss_bytes"] for step in steps.values())
    rows.append(("memory", f"{peak / 1e9:.2f} GB", f"{ours['peak_rss_bytes'] / 1e9:.2f} GB"))
    rows.append(("proof", f"{ezkl['proof_bytes'] / 1e3:.1f} kB", f"{ours['proof_bytes'] / 1e3:.0f} kB"))
    rows.append(("verify, fresh process", f"{steps['verify']['seconds']:.1f} s", f"{ours['verify_seconds']:.1f} s"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for peers.json and what is made on the way"
    )
    args = parser.parse_args()
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        path = args.out / "peers.json"
        record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"machine": machine()}
        for name, figures in (("zkcert", ours), ("ezkl", lambda: ezkl_figures(args.out / "ezkl"))):
            if name not in record:
                record[name] = figures()
                replace_file(path, (json.dumps(record, indent=1) + "\n").encode())
    except ImportError as error:
        print(f"error: {error}; install it: {install('prove', 'onnx', 'bench')}", file=sys.stderr)
        return 2
    except (ZkcertError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(record))
    return 0


if __name__ == "__main__":
    signals.install()
    sys.exit(main())
