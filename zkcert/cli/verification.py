"""Verifying: on the terminal, and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from verifier.__main__ import BEACON_ORDER, CONFIG_HELP, EXIT_CODES
from verifier.report import failure_dict
from zkcert import api
from zkcert.cli.application import app
from zkcert.cli.display import err, out, print_json, print_lines
from zkcert.cli.options import CALIBRATED, AsJson, ChainInfo, Fetch, Given, ModelFile, ProofFile, fetched, with_options
from zkcert.errors import UnusableInput, ZkcertError
from zkcert.files.writing import finished
from zkcert.trust.times import MARGIN


def _files(name: str, text: str) -> Any:
    return Annotated[list[str] | None, typer.Option(name, metavar="FILE", help=f"{text} May be repeated.")]


def _file(name: str, text: str, metavar: str = "FILE") -> Any:
    return Annotated[str | None, typer.Option(name, metavar=metavar, help=text)]


def _number(name: str, text: str) -> Any:
    return Annotated[int | None, typer.Option(name, help=text)]


PINS: dict[str, Any] = {
    "data_root": _file("--data-root", "data.root, or its root: the dataset insisted on.", "FILE|HEX"),
    "announcement": _file("--announcement", "announce.json, or the digest published.", "FILE|HEX"),
    "beacon": _file("--beacon", "The beacon given after the announcement, or a drand round's JSON.", "HEX|FILE"),
    "chain": ChainInfo,
    "fetch": Fetch,
    "config": _file("--config", f"{CONFIG_HELP[0].upper()}{CONFIG_HELP[1:]}.", "FILE|K=V,..."),
    "receipts": _files("--receipt", "A witness's receipt for the announcement."),
    "witnesses": _files("--witness", "The public key of a witness whose receipt counts, *.pub."),
    "quorum": _number("--quorum", "How many of these witnesses, or of these authorities, must have signed; where both "
                      "are given, say of whom, with --witness-quorum and --authority-quorum. [default: all]"),
    "witness_quorum": _number("--witness-quorum", "How many of the witnesses must have signed. [default: all]"),
    "provider": _file("--provider", "The provider's public key, which receipts must name."),
    "announcements": _number("--announcements",
                             "How many the provider may have had witnessed by then. [default: any number]"),
    "timestamps": _files("--timestamp", "A time stamp (RFC 3161) of the announcement's digest, *.tsr."),
    "timestamp_roots": _file("--timestamp-roots", "Certificates (PEM) of the time stamping authorities you trust."),
    "margin": _number("--margin",
                      f"Seconds that must lie between receipts and time stamps, and the round. [default: {MARGIN}]"),
    "endorsements": _files("--endorsement", "What an authority has signed about the dataset."),
    "authorities": _files("--authority", "The public keys of authorities that count, *.pub."),
    "authority_quorum": _number("--authority-quorum", "How many of the authorities must vouch. [default: all]"),
    "attestation": _file("--attestation", "What somebody has signed of these two files (--attest)."),
    "attestation_key": _file("--attestation-key", "The public key of who has signed it, in PEM."),
}  # fmt: skip
"""What a verifier insists on, and whom she believes; see `asked`."""

Tau = Annotated[str, typer.Option(help=f"Accept only if the proven threshold is at most this; {CALIBRATED}")]


def _quorums(given: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Of witnesses, of authorities."""
    witnesses, authorities = given.get("witness_quorum"), given.get("authority_quorum")
    common = given.get("quorum")
    if common is None:
        return witnesses, authorities
    if not given.get("witnesses") and not given.get("authorities"):
        raise UnusableInput("--quorum needs --witness or --authority, the keys of those who count")
    if given.get("witnesses") and given.get("authorities"):
        raise UnusableInput("--quorum of whom? Say --witness-quorum and --authority-quorum where both are given")
    if witnesses is not None or authorities is not None:
        raise UnusableInput("--quorum is given twice: leave out --witness-quorum or --authority-quorum")
    return (None, common) if given.get("authorities") else (common, None)


def asked(given: Mapping[str, Any], proof: str) -> dict[str, Any]:
    """The options of PINS that were typed, as `api.verify` takes them; what is to be fetched is fetched."""
    witnesses, authorities = _quorums(given)
    evidence = api.Evidence(
        receipts=given.get("receipts") or (),
        witnesses=given.get("witnesses") or (),
        quorum=witnesses,
        provider=given.get("provider"),
        announcements=given.get("announcements"),
        stamps=given.get("timestamps") or (),
        roots=given.get("timestamp_roots"),
        margin=given.get("margin", MARGIN),
        endorsements=given.get("endorsements") or (),
        authorities=given.get("authorities") or (),
        authority_quorum=authorities,
    )
    evidence.check_options()
    names = ("data_root", "announcement", "beacon", "chain", "config", "attestation", "attestation_key")
    found: dict[str, Any] = {name: given.get(name) for name in names}
    found["beacon"] = fetched(given.get("fetch"), proof, found["beacon"], found["chain"])
    return {**found, "evidence": evidence}


@app.command(
    short_help="Check a proof, and say what it proves.",
    help=f"Check a proof and print what it proves. {BEACON_ORDER} {EXIT_CODES.capitalize()}.",
)
@with_options(PINS)
def verify(
    *,
    proof: ProofFile,
    model: ModelFile,
    tau: Tau,
    given: Given,
    attest: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the verdict there, signed: an in-toto Statement in DSSE.")
    ] = None,
    attest_key: Annotated[
        str | None, typer.Option(metavar="FILE", help="Your secret key for --attest, in PEM: Ed25519 or P-256.")
    ] = None,
    passphrase: Annotated[
        str | None, typer.Option(metavar="FILE", help="A file with the passphrase of that key.")
    ] = None,
    model_card: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the verdict there, as Markdown for a model card.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a proof and print what it proves."""
    try:
        if (attest is None) != (attest_key is None):
            raise UnusableInput("--attest and --attest-key go together: the file to write, and the key to sign with")
        verdict = api.verify(proof, model, tau=tau, **asked(given, proof))
        if attest is not None and attest_key is not None:
            api.attest(verdict, proof, model, attest, key=attest_key, passphrase=passphrase)
        if model_card is not None:
            api.save_card(verdict, model_card, inputs=(proof, model))
    except (ZkcertError, OSError, MemoryError) as error:
        if as_json:
            print_json(failure_dict(error))
        raise
    if as_json:
        print_json(verdict.to_dict())
    else:
        print_lines(verdict.lines())


@app.command()
@with_options(PINS)
def report(
    *,
    proof: ProofFile,
    model: ModelFile,
    tau: Tau,
    file: Annotated[str, typer.Option("--out", "-o", help="The page to write.")] = "report.html",
    given: Given,
    force: Annotated[bool, typer.Option("--force", help="Replace another report of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a proof, and write what comes out as a page for people.

    One HTML file that needs nothing else: what was proved, what was checked and what was not, files and the command
    that repeats it, the soundness. Written for a rejected proof, too; exit codes are those of verify.
    """
    try:
        result = api.report(proof, model, file, tau=tau, **asked(given, proof), force=force)
    except (ZkcertError, OSError, MemoryError) as error:
        if as_json:
            print_json(failure_dict(error))
        if Path(file) in finished:
            err.print(f"the report is {file}")
        raise
    if as_json:
        print_json({**result.verdict.to_dict(), "report": str(result.path)})
        return
    print_lines([*(f"WARNING: {text}" for text in result.verdict.warnings), result.verdict.lines()[-1]])
    out.print(f"report  {result.path}")
