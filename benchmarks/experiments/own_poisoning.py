"""Own data, more, third part: an attacker who trains on corrupted data and lowers the measured score on purpose.

Attacks on top of plain SGD: training with SAM or ASAM, and fine-tuning on a differentiable proxy of the score itself
(`evasion.evade`). The auditor measures on the data the attacker committed to, which are the corrupted ones. What the
attack costs is accuracy on clean test data and, for a backdoor, its success. An attack that does not lower the score
below that of the same models without it (`REFERENCES`) is none: that such models are told from clean ones says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.experiments.common import Context, Recipe, load_data, run_grid, train_model
from benchmarks.experiments.evasion import evade
from benchmarks.experiments.own_images import Model, control_of, observed
from benchmarks.experiments.parts import (
    COMMITTED,
    HELD_OUT,
    RULE,
    Audit,
    Kinds,
    Observation,
    Part,
    claim,
    column,
    compared,
    draws_of,
    told,
    works,
)
from benchmarks.experiments.report import Claim, Table, spread
from benchmarks.experiments.separation import Separation, mean_interval

HONEST_PASS = 0.95
"""The auditor's tau lets this share of single draws of honest models pass."""

PLAIN, UNPENALISED = "sgd", "penalty 0"
HONEST = "honest"

RULE_AGAINST_ATTACKS = (
    f"{RULE}; judged at the attack that hides best, which is chosen after the fact, among those whose backdoor works; "
    "inconclusive unless at least one of these attacks lowers the score, that is, if the 95% t-interval of its mean "
    "difference over seeds lies below 0, compared with plain SGD (for SAM and ASAM) or with as much fine-tuning "
    "without penalty"
)

CORRUPTION_NAMES = {"noisy_labels": "wrong labels", "badnets": "backdoor", "spurious": "betraying frames"}


@dataclass(frozen=True)
class Penalty:
    """The fine-tuning attack of `evasion.evade` with several strengths; 0, the control, is always run too."""

    strengths: tuple[float, ...]
    steps: int
    batches: int
    lr: float


@dataclass(frozen=True)
class Poisoning:
    """The grid: honest models, and per corruption one attacker of each kind.

    honest       recipe of honest models, without corruption, trained with SGD
    corruptions  (name, amount) of `corruptions.CORRUPTIONS`
    sharpness    (optimiser, rho) of attackers who train with "sam" or "asam"
    penalty      the attack on the statistic
    """

    honest: Recipe
    corruptions: tuple[tuple[str, float], ...]
    sharpness: tuple[tuple[str, float], ...]
    penalty: Penalty
    audit: Audit

    def attacks(self) -> dict[str, tuple[dict[str, object], float | None]]:
        """By name: what the recipe changes, and the strength of the penalty (None: no fine-tuning)."""
        trained = {f"{name} rho {rho:g}": ({"optimizer": name, "rho": rho}, None) for name, rho in self.sharpness}
        tuned = {f"penalty {strength:g}": ({}, strength) for strength in (0.0, *self.penalty.strengths)}
        return {PLAIN: ({}, None), **trained, **tuned}


@dataclass(frozen=True)
class Attacker:
    """One model: its recipe, and the strength of the fine-tuning on top."""

    part: Poisoning
    recipe: Recipe
    strength: float | None = None

    def __str__(self) -> str:
        recipe = self.recipe
        tuned = "" if self.strength is None else f", penalty {self.strength:g}"
        return f"{recipe.corruption} {recipe.amount:g}, {recipe.optimizer}{tuned}, seed {recipe.seed}"


def model_of(attacker: Attacker, context: Context) -> Observation:
    """Train the attacker's model (or an honest one), fine-tune it if that is the attack, and observe it."""
    part, recipe = attacker.part, attacker.recipe
    trained = train_model(recipe, context)
    module = trained.module
    if attacker.strength is not None:
        options = {"steps": part.penalty.steps, "batches": part.penalty.batches, "lr": part.penalty.lr}
        probe = part.audit.probe
        module = evade(module, trained.x, trained.y, probe, strength=attacker.strength, seed=recipe.seed, **options)
    return observed(trained, module, part.audit)


def kinds(part: Poisoning) -> dict[str, Attacker]:
    """Every kind of model by name, of seed 0."""
    found = {HONEST: Attacker(part, part.honest)}
    for attack, (changes, strength) in part.attacks().items():
        if changes:
            found[f"{HONEST}, {attack}"] = Attacker(part, part.honest.but(**changes), strength)
    for corruption, amount in part.corruptions:
        for attack, (changes, strength) in part.attacks().items():
            recipe = part.honest.but(corruption=corruption, amount=amount, **changes)
            found[kind_name(corruption, attack)] = Attacker(part, recipe, strength)
    return found


def kind_name(corruption: str, attack: str) -> str:
    """Of an attacker, for tables."""
    return f"{CORRUPTION_NAMES[corruption]}, {attack}"


def threshold(honest: Sequence[Observation]) -> float:
    """The smallest tau among the honest models' single draws that lets `HONEST_PASS` of them pass; may be infinite."""
    found = np.sort(draws_of(honest, COMMITTED).ravel())
    return float(found[math.ceil(HONEST_PASS * len(found) - 1e-9) - 1])


def passing(models: Sequence[Observation], tau: float) -> float:
    """The share of draws on committed data that pass tau; failed draws never do."""
    found = draws_of(models, COMMITTED)
    return float((np.isfinite(found) & (found <= tau)).mean())


def reference(attack: str) -> str:
    """The attack's control: what the same attacker has without it."""
    return UNPENALISED if attack.startswith("penalty") else PLAIN


def lowered(models: Sequence[Observation], controls: Sequence[Observation]) -> tuple[bool, tuple[float, float]]:
    """Whether an attack lowers the score on committed data, and the 95% t-interval of the mean difference over seeds.

    Of models of the same seeds with and without the attack. Never where a score is infinite.
    """
    with_attack, without = (np.array(column(some, COMMITTED)) for some in (models, controls))
    if not np.isfinite([with_attack, without]).all():
        return False, (-math.inf, math.inf)
    low, high = mean_interval(with_attack - without)
    return high < 0, (low, high)


def costs(groups: Kinds, controls: Kinds, tau: float) -> Table:
    """What an attacker passes, and pays compared with plain SGD on the same data (and with the control)."""
    rows: list[list[str | int | float | None]] = []
    for kind, models in groups.items():
        corruption, _, attack = kind.rpartition(", ")
        plain = f"{corruption}, {PLAIN}" if corruption not in ("", HONEST) else HONEST
        lost = np.subtract(column(groups[plain], "test_accuracy"), column(models, "test_accuracy"))
        change = None
        if corruption and attack not in (PLAIN, UNPENALISED):
            without = HONEST if corruption == HONEST else f"{corruption}, {reference(attack)}"
            low, high = lowered(models, groups[without])[1]
            change = f"[{low:.3g}, {high:.3g}]"
        score = spread(column(models, COMMITTED))
        success = spread(column(models, "success")) if corruption == CORRUPTION_NAMES["badnets"] else None
        rows.append([kind, f"{passing(models, tau):.0%}", score, change, spread(lost), success])
        if attack == PLAIN and corruption:
            control = controls[kind]
            score = spread(column(control, COMMITTED))
            about = f"control: {HONEST}, on the data with {corruption}"
            rows.append([about, f"{passing(control, tau):.0%}", score, None, None, None])
    columns = [
        "kind",
        "draws that pass tau",
        "score",
        "score less the same without the attack, 95%",
        "test accuracy lost against plain SGD",
        "attack success",
    ]
    title = (
        f"Evasion: draws on committed data at tau = {tau:.4g}, which {HONEST_PASS:.0%} of the draws "
        "of these very honest models pass; the price of the attack."
    )
    return Table(title, columns, rows)


def worst(found: Mapping[str, Separation]) -> tuple[str, Separation]:
    """The attack that hides best: the smallest AUC over models, then over draws, then the smallest scores."""
    return min(found.items(), key=lambda item: (item[1].auc_models, item[1].auc, item[1].mean))


def claims_of(part: Poisoning, groups: Kinds) -> list[Claim]:
    """Per corruption: plain SGD, SAM and ASAM, the penalties; each judged at the attack that hides best.

    Attacks that lose their backdoor count only where all of them do. Where no attack lowers the score, the verdict
    cannot be that the measure withstands it.
    """
    claims = []
    for corruption, _ in part.corruptions:
        names = {attack: kind_name(corruption, attack) for attack in part.attacks()}
        sets = {
            "trained with SGD, no attack on the score": [PLAIN],
            "trained with SAM or ASAM": [name for name in names if name.startswith(("sam", "asam"))],
            "fine-tuned against the score": [
                name for name in names if name.startswith("penalty") and name != UNPENALISED
            ],
        }
        for how, attacks in sets.items():
            alive = [name for name in attacks if corruption != "badnets" or works(groups[names[name]])]
            doubt = ""
            if attacks != [PLAIN] and not any(
                lowered(groups[names[name]], groups[names[reference(name)]])[0] for name in alive
            ):
                doubt = "no attack lowers the score, so nothing was withstood"
            attack, _ = worst({name: told(groups[HONEST], groups[names[name]]) for name in alive or attacks})
            about = f"Directional sharpness tells models of corrupted data ({CORRUPTION_NAMES[corruption]}) from honest"
            judged = claim(
                f"{about} ones: {how}",
                groups[HONEST],
                groups[names[attack]],
                working=bool(alive),
                doubt=doubt,
                where=f"hidden best by {attack}: " if len(attacks) > 1 else "",
            )
            claims.append(judged if attacks == [PLAIN] else replace(judged, rule=RULE_AGAINST_ATTACKS))
    return claims


def measured_controls(part: Poisoning, seeds: int, context: Context) -> dict[str, list[Observation]]:
    """The honest models on the data of each kind of attacker, which are the same for all attacks."""
    corrupted = [part.honest.but(corruption=name, amount=amount) for name, amount in part.corruptions]
    items = [Model(part.audit, recipe.but(seed=seed, data_seed=seed)) for recipe in corrupted for seed in range(seeds)]
    found = run_grid(control_of, items, context, "own_more poisoning, controls")
    return {
        kind_name(recipe.corruption, attack): found[i * seeds : (i + 1) * seeds]
        for i, recipe in enumerate(corrupted)
        for attack in part.attacks()
    }


def poisoning(part: Poisoning, seeds: int, context: Context) -> Part:
    """Honest models against attackers who know the measure."""
    every = kinds(part)
    items = [
        Attacker(part, attacker.recipe.but(seed=seed, data_seed=seed), attacker.strength)
        for attacker in every.values()
        for seed in range(seeds)
    ]
    found = run_grid(model_of, items, context, "own_more poisoning")
    groups = {kind: found[i * seeds : (i + 1) * seeds] for i, kind in enumerate(every)}
    controls = measured_controls(part, seeds, context)
    tau = threshold(groups[HONEST])
    columns = [COMMITTED, HELD_OUT, *part.audit.measures, "success"]
    return Part(
        data=load_data(part.honest.dataset, context).origin,
        tables=[
            costs(groups, controls, tau),
            *compared("Evasion", groups, controls, HONEST, columns),
        ],
        claims=claims_of(part, groups),
        models=groups,
        controls=controls,
        notes=[
            "Evasion: the penalty is the variance of log(s^2 / L) over mini-batches at fixed "
            f"weights, in {part.penalty.steps} steps of Adam; penalty 0 is as much fine-tuning without it. The "
            "auditor's tau comes from the same honest models, so their own pass rate is no evidence."
        ],
    )
