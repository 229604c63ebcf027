"""The verifier's command: `python -m verifier proof.bin model.pt --tau 1.2`.

Needs numpy, blake3 and pycryptodome only.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from signal import SIGINT
from typing import NoReturn

from zkcert import __version__
from zkcert.errors import UnusableInput, ZkcertError

from .files import verify_files
from .output import ENDED_BY_SIGNAL, print_verdict
from .report import failure, failure_dict

EXIT_CODES = "exit codes: 0 accepted, 1 rejected, 2 unusable input"
TAU_HELP = "accept only if the proven threshold is at most this number (`zkcert verify` also takes a calibration.json)"
CONFIG_HELP = (
    "the configuration insisted on, such as steps=5,batch_size=8, or a JSON file of such keys; what is left out must "
    "have its default"
)
BEACON_ORDER = (
    "Everything but the beacon must be announced before the beacon exists: the beacon decides which samples are "
    "drawn, and a prover who knows it can try tiny changes of the model until good samples come up."
)


class _Parser(argparse.ArgumentParser):
    """Reports usage errors like any other unusable input: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UnusableInput(f"{message} (see --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="verify",
        description="Check a certificate of directional sharpness; needs neither PyTorch nor numba.",
        epilog=f"{BEACON_ORDER} {EXIT_CODES}.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"zkcert {__version__}")
    parser.add_argument("proof", help="proof.bin, from the prover")
    parser.add_argument("model", help="the model, model.pt or .safetensors")
    parser.add_argument("--tau", required=True, help=TAU_HELP)
    parser.add_argument("--data-root", metavar="FILE|HEX", help="data.root, or its root: the dataset insisted on")
    parser.add_argument("--announcement", metavar="FILE|HEX", help="announce.json, or the digest published")
    parser.add_argument("--beacon", metavar="HEX", help="the beacon given after the announcement")
    parser.add_argument("--config", metavar="FILE|K=V,...", help=CONFIG_HELP)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    as_json = False
    try:
        args = _parser().parse_args(argv)
        as_json = args.json
        verdict = verify_files(
            args.proof,
            args.model,
            tau=args.tau,
            data_root=args.data_root,
            announcement=args.announcement,
            beacon=args.beacon,
            config=args.config,
        )
    except (ZkcertError, OSError, MemoryError) as error:
        code, line = failure(error)
        return print_verdict(json.dumps(failure_dict(error), indent=1) if as_json else "", code, line)
    except KeyboardInterrupt:
        print("interrupted; nothing was verified", file=sys.stderr)
        return ENDED_BY_SIGNAL + SIGINT
    except Exception as error:  # a defect: not to be taken for a rejection
        print(f"internal error, nothing was verified: {type(error).__name__}: {error}"[:500], file=sys.stderr)
        return 2
    return print_verdict(json.dumps(verdict.to_dict(), indent=1) if as_json else "\n".join(verdict.lines()), 0)


if __name__ == "__main__":
    gc.disable()  # a process that ends when the proof is checked: looking for garbage only costs time
    code = main()
    gc.freeze()
    sys.exit(code)
