"""A block of Markdown for a model card: what was verified, and as plainly what was not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zkcert import __version__
from zkcert.api.files import File
from zkcert.files.writing import check_output, write_file
from zkcert.public.statement import Statement

if TYPE_CHECKING:
    from zkcert.api.order import OrderedVerdict

_KIND = "a block for a model card"
TITLE = "## Certificate of directional sharpness"


def card(verdict: OrderedVerdict) -> str:
    """The block. Text that others chose is shown as code, so that it cannot become anything else."""
    from verifier.report import decimal_text

    report = verdict.report
    statement: Statement = report.statement
    config, data = statement.config, statement.dataset
    rows = {
        "claim": f"the {config.of_steps.text} is at most {decimal_text(statement.tau)}"
        + ("" if report.score is None else f"; it is {report.score:.6f} (revealed)"),
        "probe": f"{config.steps} batches of {config.batch_size} samples, {config.variant}, rho {float(config.rho):g}, "
        f"lr {float(config.lr):g}, eps {float(config.eps):g}, ddof {config.ddof}"
        + ("" if config.eta is None else f", eta {float(config.eta):g}")
        + ("" if config.of_steps.of_ratios else f", statistic {config.statistic}"),
        "model file": f"SHA-256 `{verdict.model_sha256}`",
        "proof file": f"SHA-256 `{verdict.proof_sha256}`",
        "dataset": f"root `{data.root.hex()}`, {data.n:,} samples",
        "announcement": f"`{statement.announcement_digest.hex()}`",
        "public round": "none is named"
        if statement.drand is None
        else f"{statement.drand.number} of drand's chain `{statement.drand.chain.hex()}`",
        "soundness": f"a forger has to compute 2^{report.soundness.bits:.1f} hashes",
    }
    rows |= {step.name: f"**{step.state}**: {_code(step.text)}" for step in verdict.steps}
    lines = [TITLE, "", "| | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in rows.items()), ""]
    if verdict.warnings:
        lines += ["What the verifier was warned of:", "", *(f"* {_code(text)}" for text in verdict.warnings), ""]
    lines += [
        f"Verified with zkcert {__version__}; nobody has signed this block. Do not take its word for it: verify the",
        "proof yourself, with the announcement, the beacon and the keys that you trust.",
        "",
    ]
    return "\n".join(lines)


def _code(text: str) -> str:
    """As code in a cell of a table."""
    return f"`{text.replace('`', chr(39)).replace('|', '/')}`"


def save_card(verdict: OrderedVerdict, out: File, *, inputs: tuple[File, ...] = ()) -> Path:
    """Write the block to a new file; UnusableInput. No file is replaced."""
    return write_file(check_output(out, _KIND, inputs=inputs), [card(verdict).encode()], _KIND)
