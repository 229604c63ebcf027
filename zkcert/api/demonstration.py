"""The demonstration."""

from __future__ import annotations

import math
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zkcert.api.certificate import announce, commit, verify
from zkcert.api.files import File, needs_extras
from zkcert.api.metric import measure
from zkcert.api.notebook import told
from zkcert.api.phases import Progress
from zkcert.api.proving import CrossCheckFailed, ProofResult, prove
from zkcert.core.container import ProofFile
from zkcert.errors import UnusableInput, ZkcertError
from zkcert.public.defaults import PAPER_AUDIT
from zkcert.public.model import Model
from zkcert.public.statement import Statement

if TYPE_CHECKING:
    from prover.resources import Estimate
    from verifier.report import Verdict


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration made. `rejected`: each forgery and what the verifier said to it."""

    proof: ProofResult
    verdict: Verdict
    rejected: tuple[tuple[str, str], ...]


def demo(
    out: File | None = None,
    *,
    say: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    planned: Callable[[Estimate], None] | None = None,
) -> DemoResult:
    """The whole path on a small LeNet-5 and a slice of Fashion-MNIST, then three forgeries; no downloads.

    out       a directory in which the files stay; None: a temporary one.
    say       called with what happens, line by line; None: `print` in a notebook, nothing elsewhere.
    progress, planned  as for `prove`.

    Returns the DemoResult: `proof`, `verdict` and what was `rejected`. Raises UnusableInput.
    """
    say = told(say)
    with needs_extras("the demonstration"), tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch if out is None else out)
        place.mkdir(parents=True, exist_ok=True)
        names = ("model.pt", "data.zkd", "data.root", "announce.json", "proof.bin")
        model, secret, root, announcement, proof = (place / name for name in names)
        if taken := [path for path in (model, secret, root, announcement, proof) if path.exists()]:
            raise UnusableInput(f"{taken[0]} exists; give a directory without earlier results")

        say("Provider: train LeNet-5 for a few seconds on 2,000 images of Fashion-MNIST.")
        dataset = Path(scratch) / "fashion.npz"
        train_lenet(model, dataset)
        say("Provider: commit to the images. data.root is public, data.zkd stays secret.")
        commitment = commit(dataset, secret)
        say(f"    root {commitment.root.root.hex()}, N = {commitment.root.n}")
        for line in commitment.summary.lines():
            say(f"    {line}")

        config = PAPER_AUDIT
        trials = [measure(model, dataset, config=config, seed=f"trial {i}").score for i in range(8)]
        tau = Fraction(math.ceil(20 * max(trials)), 10)
        say(
            f"Provider: the score depends on the samples drawn; eight trial draws give {min(trials):.3f} to "
            f"{max(trials):.3f}. The beacon will draw others, so tau needs room: twice the largest, {float(tau):g}."
        )
        say("Provider: announce model, dataset, configuration and tau, before the beacon exists.")
        announced = announce(model, root, announcement, tau=tau, config=config)
        say(f"    digest {announced.digest.hex()}")
        beacon = secrets.token_hex(32)
        say(f"Verifier: having seen the digest, choose a random beacon.\n    beacon {beacon}")
        say(f"Provider: prove. The beacon decides which {config.steps} x {config.batch_size} samples are drawn.")
        result = prove(
            model,
            secret,
            proof,
            announcement=announcement,
            beacon=beacon,
            progress=progress,
            planned=planned,
            warned=say,
        )
        say(
            f"    {result.size:,} bytes in {result.seconds:.1f} s; float64 reference within {result.cross_check:.1e}.\n"
            f"    Private: score {result.score:.6f}; on the samples drawn {result.fit.line()}."
        )
        say("Verifier: check the proof. Only proof, model, data.root and announcement are needed.")
        verdict = verify(proof, model, tau=tau, data_root=root, announcement=announcement, beacon=beacon, config=config)
        for line in verdict.lines():
            say(f"    {line}")
        say("Three forgeries:")
        rejected = []
        for name, forged_proof, forged_model in _forgeries(proof, model, Path(scratch)):
            try:
                verify(forged_proof, forged_model, tau=tau)
            except ZkcertError as error:
                rejected.append((name, str(error)))
                say(f"    {name}: REJECTED {error}")
            else:
                raise CrossCheckFailed(f"the verifier accepted a forgery: {name}")
        if out is not None:
            say(f"Files are in {place}.")
        return DemoResult(result, verdict, tuple(rejected))


def train_lenet(model: Path, dataset: Path, epochs: int = 8) -> None:
    """Write the shipped slice of Fashion-MNIST as .npz, and a LeNet-5 trained on it for a few epochs."""
    import torch

    from zkcert.convert import from_sequential
    from zkcert.data.normalised import input_values
    from zkcert.zoo import LENET5_INPUT, fashion_mnist_small, lenet5, train

    x, y = fashion_mnist_small()
    np.savez(dataset, x=x, y=y)
    module = lenet5()
    inputs = torch.tensor(input_values(LENET5_INPUT, x), dtype=torch.float32)
    train(module, inputs, torch.tensor(y.astype(np.int64)), epochs=epochs)
    from_sequential(module, input=LENET5_INPUT).save(model)


def _forgeries(proof: Path, model: Path, scratch: Path) -> Iterator[tuple[str, Path, Path]]:
    """(what was done, proof, model): inputs a verifier must reject."""
    honest = ProofFile.parse(proof.read_bytes())
    argument = bytearray(honest.argument)
    argument[8 + 64 + 8 + 16] ^= 1  # past the roots: a byte of the second message
    forged = scratch / "forged.bin"
    forged.write_bytes(replace(honest, argument=bytes(argument)).to_bytes())
    yield "one bit of a message flipped (which changes all later challenges)", forged, model

    statement = Statement.parse_header(honest.header)
    lower = replace(statement, tau=statement.tau / 2)
    forged.write_bytes(replace(honest, header=lower.header()).to_bytes())
    yield "tau halved in the statement, the argument kept", forged, model

    genuine = Model.load(model)
    params = {name: array.copy() for name, array in genuine.tensors.items()}
    next(iter(params.values())).flat[0] += 2.0**-20
    changed = scratch / "changed.safetensors"
    Model(genuine.graph, genuine.input, params).save(changed)
    yield "the same proof for a model with one weight changed by 2^-20", proof, changed
