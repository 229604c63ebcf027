"""What is said to whoever decides: what was proved, what was checked around it, and what no proof can show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from verifier.report import Verdict, decimal_text
from zkcert.public.config import ProbeConfig
from zkcert.public.root import DatasetRoot
from zkcert.trust.order import CHECKED, CLAIMED, MISSING, Step

NEVER = (
    "That the model is good. What a low score tells about it is a question of its own, and experiments are mixed.",
    "That the data are good, honestly labelled, or those that the model was trained on. It is known only that the "
    "samples are those that were drawn from the dataset under the stated root.",
    "Anything about other draws: another draw of samples gives the same model another score.",
    "A bound on the score in real numbers. What is bounded is the probe in whole numbers of the specification; for "
    "ordinary models the two agree closely, but weights built to amplify rounding could separate them.",
    "That the software is free of faults: it is research code, which nobody outside its project has audited.",
)
"""What an accepted proof does not show, whatever was checked."""

NO_YARDSTICK = "Whether that is low or high is not known here: no calibration was given."

NAMES = {
    "model": "The model",
    "dataset": "Which dataset",
    "probe": "How the probe was run",
    "data": "Who vouches for the dataset",
    "announced": "When the announcement was made",
    "draws": "How many tries the provider had",
    "round": "Which public randomness was named beforehand",
    "beacon": "Which randomness drew the samples",
    "proof": "The proof",
    "attested": "What somebody has signed about these files",
}
"""Points for people, by the names of steps."""

FIELDS = {
    "steps": "T: mini-batches that the score is computed from",
    "batch_size": "B: samples in each mini-batch",
    "rho": "how far the weights are moved to see how the loss reacts",
    "lr": "learning rate of the update between mini-batches",
    "eps": "added to sharpness²/loss before the logarithm",
    "variant": "how each weight's step is scaled",
    "ddof": "taken off the number of mini-batches in the deviation",
    "statistic": "what the score is: of log(sharpness²/loss + eps), or of the sharpness by itself",
    "eta": "added to each weight's size, which scales its step",
}
"""What the entries of a configuration are."""


_OPTION = re.compile(r" \(--[a-z-]+(?: [a-z.]+)?\)")


def claim(verdict: Verdict) -> str:
    """What was proved, in a sentence."""
    proved, asked = decimal_text(verdict.report.statement.tau), decimal_text(verdict.expected.tau)
    text = f"The {verdict.report.statement.config.of_steps.text} of this model file is at most {proved}"
    return f"{text}, as was asked for." if proved == asked else f"{text}; asked for was at most {asked}."


_SAYS = {
    "std-log-ratio": "says how much that differs from one mini-batch of samples to the next",
    "std": "is here the standard deviation of the sharpness s_t itself over the mini-batches",
    "rms": "is here the root mean square of the sharpness s_t itself over the mini-batches",
    "max": "is here the largest sharpness s_t of the mini-batches",
}


def meaning(verdict: Verdict) -> Iterator[str]:
    """Paragraphs: what the score is, and what was shown about it."""
    report, statement = verdict.report, verdict.report.statement
    config = statement.config
    yield (
        "The score is the model's directional sharpness (arXiv 2606.25004). Sharpness says how strongly the loss "
        f"reacts when the weights are moved a little; the score {_SAYS[config.statistic]}. Scores can be compared only "
        "if they were computed with the same configuration."
    )
    yield (
        f"The provider has proved that {config.steps} mini-batches of {counted(config.batch_size, 'sample')}, drawn "
        f"from a private dataset of {statement.dataset.n:,}, give this model a score of at most "
        f"{decimal_text(statement.tau)}. No sample was shown."
    )
    if report.score is None:
        yield "The score itself is private: nothing is known of it but that bound."
    else:
        yield f"The provider has revealed the score itself, {report.score:.6f}, and proved that as well."
    yield (
        f"Whoever wants to forge this has to compute at least 2^{report.soundness.bits:.1f} hashes, which is out of "
        "anybody's reach, if the assumptions hold that are named below."
    )


def plainly(text: str) -> str:
    """Without the options of commands that are named in brackets."""
    return _OPTION.sub("", text)


def points(verdict: Verdict, steps: Sequence[Step]) -> list[Step]:
    """All that can be checked, with how well it is known: what the verifier may insist on, then the order in time."""
    return [Step("model", CHECKED, "the proof is about this file, and no other weights"), *_insisted(verdict), *steps]


def _insisted(verdict: Verdict) -> Iterator[Step]:
    expected = verdict.expected
    announced = expected.announcement is not None
    if isinstance(expected.root, DatasetRoot) or announced:
        by = (
            "announcement"
            if expected.root is None
            else "data.root"
            if isinstance(expected.root, DatasetRoot)
            else "root"
        )
        yield Step("dataset", CHECKED, f"the one of the {by} that the verifier gave")
    elif expected.root is not None:
        yield Step(
            "dataset", CLAIMED, "its root is the one that was given; its size and its shape are the provider's word"
        )
    else:
        yield Step("dataset", MISSING, "it may be any that the provider chose (--data-root)")
    if expected.config is not None:
        yield Step("probe", CHECKED, "with the configuration that the verifier insisted on")
        return
    usual = "the default" if verdict.report.statement.config == ProbeConfig() else "NOT the default"
    yield Step(
        "probe", MISSING, f"with a configuration of the provider's choice, {usual}; nobody insisted on one (--config)"
    )


def counted(number: int, what: str) -> str:
    """ "1 warning", "2 warnings"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
