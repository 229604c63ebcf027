"""Certificates: commit, announce, estimate, prove, inspect."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from verifier.__main__ import BEACON_ORDER
from verifier.report import statement_lines
from zkcert import api
from zkcert.api.certificate import configuration
from zkcert.api.fleet import COLUMNS, FAILED, KEPT, PROVED
from zkcert.calibration import read_tau
from zkcert.cli.application import app, leaving
from zkcert.cli.display import PhaseDisplay, err, gigabytes, out, print_json, print_lines, progress_bar, warn
from zkcert.cli.options import (
    CALIBRATED,
    PROBE,
    READING,
    AsJson,
    ChainInfo,
    Device,
    Fetch,
    Given,
    ModelFile,
    fetched,
    reading,
    with_options,
)
from zkcert.errors import UnusableInput
from zkcert.progress import duration
from zkcert.public.defaults import DEFAULT
from zkcert.trust.times import time_text

if TYPE_CHECKING:
    from prover.resources import Estimate

REVEALING = (
    "A model that somebody else chose can be built so that its exact score tells what single samples are: reveal that "
    "of your own models only."
)
PROOF_NAME = "proof.bin"
THRESHOLD = "The largest score that the proof admits, such as 1.2;"


@app.command()
@with_options(READING)
def commit(
    *,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="The samples: .npz with x and y; a folder of PNG or JPEG for each class; CSV, Parquet or Arrow; IDX "
            "images (or images,labels); CIFAR for Python; with --context tokens, as a .npy of integers or a .txt.",
        ),
    ],
    file: Annotated[str, typer.Option("--out", "-o", help="The secret file to write, *.zkd.")] = "data.zkd",
    classes: Annotated[
        int | None, typer.Option(help="Number of classes. [default: of their names, or the largest label + 1]")
    ] = None,
    given: Given,
    keep_order: Annotated[
        bool, typer.Option("--keep-order", help="Do not shuffle: indices in proofs are places in DATA.")
    ] = False,
    only_look: Annotated[bool, typer.Option("--look", help="Show what would be committed, and write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a data.root; a secret file never is.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fix a dataset, and write its secret and its public file.

    The secret data.zkd holds the samples and what hides them; the public data.root, beside it, fixes every sample and
    shows none. Look at what is printed of the data: wrong labels or pixels make a model look better than it is.
    """
    wanted = reading(given)
    with progress_bar("hashing samples") as progress:

        def read(done: int, total: int) -> None:
            progress(done, total, "reading samples")

        if only_look:
            look = api.look(data, classes=classes, **wanted, progress=read)
        else:
            result = api.commit(
                data,
                file,
                classes=classes,
                **wanted,
                keep_order=keep_order,
                force=force,
                progress=lambda done, total: progress(done, total, "hashing samples"),
                warned=warn,
                reading=read,
                seen=None if as_json else lambda look: print_lines(look.lines()),
            )
    if only_look:
        for text in look.warnings:
            warn(text)
        print_json(look.to_dict()) if as_json else print_lines(look.lines())
        return
    if as_json:
        print_json(result.to_dict())
        return
    out.print(f"root    {result.root.root.hex()}")
    out.print(f"secret  {result.secret} (keep it: without it nothing can be proved about this root)")
    out.print(f"public  {result.public}")


@app.command()
def root(
    data: Annotated[str, typer.Argument(metavar="DATA.ZKD", help="The secret file of the commitment.")],
    file: Annotated[
        str | None, typer.Option("--out", "-o", help="The public file. [default: beside DATA.ZKD, *.root]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the root of another commitment.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the public file of a commitment again.

    From the secret data.zkd, where commit was killed between the two, or the public file was lost.
    """
    result = api.root(data, file, force=force)
    if as_json:
        print_json(result.to_dict())
        return
    out.print(f"root    {result.root.root.hex()}")
    out.print(f"public  {result.public}")


@app.command(
    short_help="Fix model, data, probe and tau, and print the digest to publish.",
    help=f"Fix model, dataset, configuration of the probe and tau, and print the digest to publish. {BEACON_ORDER}",
)
@with_options(PROBE)
def announce(
    *,
    model: ModelFile,
    data_root: Annotated[str, typer.Argument(metavar="DATA.ROOT", help="The public file of the commitment.")],
    tau: Annotated[str, typer.Option(help=f"{THRESHOLD} {CALIBRATED}")],
    file: Annotated[str, typer.Option("--out", "-o", help="The announcement to write.")] = "announce.json",
    given: Given,
    beacon: Annotated[
        str | None,
        typer.Option(metavar="drand:CHAIN@ROUND", help="The future round of a drand chain that will be the beacon."),
    ] = None,
    beacon_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Or its time, such as 2026-12-01T18:00Z or +2h. [chain: quicknet]"),
    ] = None,
    chain: ChainInfo = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another announcement of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fix everything but the beacon and print the digest to publish."""
    pins = {"beacon": beacon, "beacon_at": beacon_at, "chain": chain}
    result = api.announce(model, data_root, file, tau=tau, config=configuration(given, tau), force=force, **pins)
    named = result.statement.drand
    if as_json:
        print_json(result.to_dict())
    else:
        out.print(f"digest  {result.digest.hex()}")
        if named is not None and result.chain is not None and result.due is not None:
            out.print(f"beacon  {result.chain.describe(named.number)}, due at {time_text(result.due)}")
        out.print(f"file    {result.path}")
    for text in result.warnings:
        warn(text)
    if named is None:
        err.print("Publish the digest first; only then let the verifier, or public randomness, give the beacon.")
    else:
        err.print("Have the digest witnessed or time-stamped before the round is due: later nobody can tell.")


@app.command()
@with_options(PROBE)
def estimate(
    *,
    model: ModelFile,
    data_root: Annotated[
        str | None, typer.Option(metavar="FILE", help="data.root. [default: 50,000 samples of bytes]")
    ] = None,
    given: Given,
    rates: Annotated[
        str | None, typer.Option(metavar="FILE", help="Measured costs. [default: this machine's, or those shipped]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how long a proof will take, how much memory, and how large it will be.

    Needs no data. Sizes are exact but for Merkle paths; time and memory follow from measured rates.
    """
    found = api.estimate(model, config=replace(DEFAULT, **given), data_root=data_root, rates=rates)
    if as_json:
        print_json(found.to_dict())
        return
    sizes = found.sizes
    for name, text in {
        "parameters": f"{sizes.parameters:,}; T = {sizes.steps}, B = {sizes.batch_size}",
        "digits": f"{sizes.digits:,} in {sizes.columns:,} columns, {sizes.table_entries:,} table entries",
        "matrix": f"{sizes.rows:,} rows of 2^{sizes.row_bits} pairs, codewords of 2^{sizes.log_n}",
        "proof": f"{sizes.proof_bytes:,} bytes",
    }.items():
        out.print(f"{name:<14}{text}")
    for name, seconds in found.phases.items():
        out.print(f"  {name:<12}{seconds:10.1f} s")
    out.print(f"{'time':<14}{duration(found.seconds)}")
    available = "" if found.available is None else f" ({gigabytes(found.available)} available)"
    out.print(f"{'memory':<14}{gigabytes(found.peak_bytes)}{available}")
    file = f"{gigabytes(found.scratch_peak_bytes)}, and {gigabytes(found.scratch_file_bytes)} of disk"
    out.print(f"{'--scratch DIR':<14}{file}")


@app.command()
@with_options(PROBE)
def prove(
    *,
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="The model, as `zkcert.convert` writes it.", show_default=False),
    ] = None,
    data: Annotated[
        str | None,
        typer.Argument(metavar="DATA.ZKD", help="The secret file of the commitment.", show_default=False),
    ] = None,
    tau: Annotated[str | None, typer.Option(help=f"{THRESHOLD} {CALIBRATED} Needed without an announcement.")] = None,
    file: Annotated[str, typer.Option("--out", "-o", help="The proof to write.")] = PROOF_NAME,
    announcement: Annotated[
        str | None, typer.Option(metavar="FILE", help="announce.json; other options must agree with it.")
    ] = None,
    beacon: Annotated[
        str | None,
        typer.Option(metavar="HEX|FILE", help="Randomness from after the announcement, or a drand round's JSON."),
    ] = None,
    chain: ChainInfo = None,
    fetch: Fetch = None,
    reveal_score: Annotated[
        bool, typer.Option("--reveal-score", help=f"Put the exact score into the public statement. {REVEALING}")
    ] = False,
    given: Given,
    device: Device = "cpu",
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Keep the state there: after an interruption, go on. Secret."),
    ] = None,
    scratch: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Keep the digits in a file there: for models larger than memory. Secret."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Share the work: local:W workers here, or ray://HOST:PORT, Ray's."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a proof of that name; go on even if memory seems too small.")
    ] = False,
    jobs: Annotated[
        str | None,
        typer.Option(
            metavar="CSV",
            help="Instead of MODEL and DATA.ZKD: a table with a line for each proof, and the columns model, data, out, "
            f"and, as for one proof, {', '.join(COLUMNS[3:])}. Proofs that are there already are kept.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that the score is at most tau.

    Nothing is written unless the proof holds; exit code 1 if the score is above tau. Score, accuracy and loss are
    printed for the owner of the data only; without --reveal-score the proof holds none of them.
    """
    if jobs is not None:
        if reveal_score or given or file != PROOF_NAME or any((model, data, tau, announcement, beacon, chain, fetch)):
            raise UnusableInput("with --jobs, models, data and what is proved of them stand in the table")
        options = {"device": device, "checkpoint": checkpoint, "scratch": scratch, "cluster": cluster, "force": force}
        _prove_jobs(jobs, as_json, **options)
        return
    if model is None or data is None:
        raise UnusableInput("give MODEL and DATA.ZKD, or a table of them with --jobs")
    if fetch is not None and announcement is None:
        raise UnusableInput("--fetch needs --announcement, which names the round")
    beacon = fetched(fetch, announcement or "", beacon, chain)
    config = configuration(given, tau, announcement)
    calibration = None if tau is None else read_tau(tau)[1]
    warnings = [] if calibration is None else calibration.doubts
    if beacon is None:
        warnings.append("no --beacon: verifiers will be told that you could have tried many seeds.")
    elif announcement is None:
        warnings.append("no --announcement: verifiers cannot tell that the statement was fixed before the beacon.")
    if reveal_score:
        warnings.append(f"--reveal-score: {REVEALING}")
    kept = None if checkpoint is None else f"no proof was written; the same command goes on from {checkpoint}"
    with leaving(kept), PhaseDisplay() as display:

        def planned(estimate: Estimate) -> None:
            for text in warnings:
                warn(text)
            display.planned(estimate, scratch=scratch is not None, cluster=cluster is not None)

        result = api.prove(
            model,
            data,
            file,
            tau=tau,
            config=config,
            announcement=announcement,
            beacon=beacon,
            chain=chain,
            reveal_score=reveal_score,
            device=device,
            progress=display,
            planned=planned,
            warned=warn,
            checkpoint=checkpoint,
            scratch=scratch,
            cluster=cluster,
            force=force,
        )
    if as_json:
        print_json(result.to_dict())
    else:
        _summary(result)


def _prove_jobs(table: str, as_json: bool, **options: Any) -> None:
    """Prove a table of jobs; exit code 2 if one failed, 1 if the score of one is above its tau."""
    jobs = api.read_jobs(table)
    kept = "the same command goes on with the proofs that are missing"

    def started(job: api.Job) -> None:
        nonlocal display
        err.print(f"{jobs.index(job) + 1} of {len(jobs)}: {job.out}")
        display = PhaseDisplay()

    def progress(name: str, done: api.PhaseTime | None) -> None:
        display(name, done)

    def done(result: api.JobResult) -> None:
        display.stop()
        if as_json:
            return
        text = result.why
        if proof := result.proof:
            text = f"{proof.size:,} bytes, {duration(proof.seconds)}, score {proof.score:.9f}"
        out.print(f"{result.state:<12}{result.job.out}{f': {text}' if text else ''}")

    display = PhaseDisplay()
    with leaving(kept):
        results = api.prove_many(jobs, started=started, progress=progress, done=done, **options)
    if as_json:
        print_json([result.to_dict() for result in results])
    states = {result.state for result in results}
    if states - {PROVED, KEPT}:
        raise typer.Exit(2 if FAILED in states else 1)


def _summary(result: api.ProofResult) -> None:
    value = "log r_t" if result.statement.config.of_steps.of_ratios else "log s_t"
    privacy = "private" if result.statement.variance is None else "REVEALED in the proof"
    print_lines(
        [
            *statement_lines(result.statement)[:-1],
            f"{'score':<14}{result.score:.9f} ({privacy}), tau {float(result.tau):g}",
            f"{'fit':<14}{result.fit.line()} (private)",
            f"{'cross-check':<14}{value} within {result.cross_check:.2e} of PyTorch float64 "
            f"(limit {api.CROSS_CHECK_LIMIT:g})",
            f"{'proof':<14}{result.path}, {result.size:,} bytes, verified",
            f"{'cost':<14}{duration(result.seconds)}, {gigabytes(result.peak_rss_bytes)} of memory",
        ]
    )


@app.command()
@with_options(PROBE)
def inspect(
    *,
    file: Annotated[str, typer.Argument(metavar="PROOF", help="The certificate, proof.bin; with --circuit, a model.")],
    circuit: Annotated[
        bool, typer.Option("--circuit", help="Print the circuit that is proved about a model, as one text.")
    ] = False,
    announcement: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="announce.json, for --circuit. [default: bytes, and the largest tau]"),
    ] = None,
    given: Given,
    as_json: AsJson = False,
) -> None:
    """Show what a proof says of itself, unchecked, or a model's circuit.

    The text of a circuit is that of docs/spec/circuit-language.md. It follows from the model and the announcement, and
    every proof is bound to its digest.
    """
    if circuit:
        listed = api.circuit(file, config=configuration(given, None, announcement), announcement=announcement)
        if as_json:
            print_json(listed.to_dict())
        else:
            sys.stdout.writelines(f"{line}\n" for line in listed.lines)
        return
    if given or announcement is not None:
        raise UnusableInput("a configuration or an announcement is for --circuit: a proof has its own")
    found = api.inspect(file)
    if as_json:
        print_json(found.to_dict())
        return
    print_lines(statement_lines(found.statement))
    for name, size in (*found.sections.items(), ("total", found.size)):
        out.print(f"{name:<20}{size:>12,} bytes")
    out.print("Nothing of this has been checked; see zkcert verify.")
