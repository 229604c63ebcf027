"""The functions of zkcert.api on a tiny model; commands and bad input are in test_cli.py."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from blake3 import blake3

import zkcert
from zkcert import api
from zkcert.core.permutation import sample_indices
from zkcert.errors import ProofRejected, ThresholdExceeded, UnusableInput
from zkcert.public.config import ProbeConfig
from zkcert.public.statement import load_announcement


def prove(tiny, out, **options):
    options = {"announcement": tiny.announcement, "beacon": tiny.beacon, **options}
    return api.prove(tiny.model, tiny.data, out, **options)


def test_proof_result_describes_the_written_proof(tiny):
    result = tiny.result
    assert result.size == tiny.proof.stat().st_size
    assert result.tau == Fraction(5, 2) > result.score > 0
    assert 0 < result.cross_check < 1e-7
    assert result.statement.announcement_digest == load_announcement(tiny.announcement).announcement_digest
    names = [phase.name for phase in result.phases if not phase.name.startswith("compiling")]
    assert names[:3] == ["load", "witness", "reference"]
    assert names[-1] == "self-check"
    assert 0 < sum(phase.seconds for phase in result.phases) <= result.seconds
    peaks = [phase.peak_rss_bytes for phase in result.phases]
    assert all(peaks)
    assert result.peak_rss_bytes == max(peaks) > 1 << 20


def test_results_are_frozen(tiny):
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny.result.score = 0.0


def test_measured_score_is_the_proved_one(tiny):
    measured = api.measure(tiny.model, tiny.data, config=tiny.config, beacon=tiny.beacon)
    assert measured.score == pytest.approx(tiny.result.score, abs=1e-7)
    (draw,) = measured.draws
    rows = np.reshape(tiny.result.statement.indices(), (2, 2)).tolist()
    assert [list(batch) for batch in draw.indices] == rows
    expected = np.log(np.square(draw.sharpness) / draw.loss + float(tiny.config.eps))
    assert draw.log_ratio == pytest.approx(expected, abs=1e-12)
    assert measured.score == pytest.approx(np.std(expected), abs=1e-12)


def test_measured_samples_depend_on_the_beacon(tiny):
    found = [api.measure(tiny.model, tiny.data, config=tiny.config, beacon=b) for b in (None, "00", "0000")]
    assert len({measured.draws[0].indices for measured in found}) == 3


def test_measure_takes_plain_datasets_and_a_seed(tiny):
    first, again, other = (
        api.measure(tiny.model, tiny.dataset, config=tiny.config, seed=seed).draws[0] for seed in (None, "", "x")
    )
    assert first == dataclasses.replace(again, seed=first.seed)
    assert first.indices != other.indices
    drawn = sample_indices(blake3(b"x").digest(), 40, 4)
    assert np.ravel(other.indices).tolist() == drawn
    committed = api.measure(tiny.model, tiny.data, config=tiny.config, seed="x").draws[0]
    assert committed.indices == other.indices


def test_measure_refuses_the_wrong_source_of_randomness(tiny):
    for beacon, seed, draws, words in (("00", "x", 1, "not from both"), ("00", None, 2, "need a --seed")):
        with pytest.raises(UnusableInput, match=words):
            api.measure(tiny.model, tiny.data, config=tiny.config, beacon=beacon, seed=seed, draws=draws)
    with pytest.raises(UnusableInput, match="use --seed"):
        api.measure(tiny.model, tiny.dataset, config=tiny.config, beacon="00")
    with pytest.raises(UnusableInput, match=r"cannot be proved \(only std-log-ratio, std, rms, max\): no beacon draws"):
        api.measure(tiny.model, tiny.data, config={"statistic": "cv-sharpness", "steps": 2, "batch_size": 2})


def test_inspection_accounts_for_the_file(tiny):
    found = api.inspect(tiny.proof)
    assert found.statement == tiny.result.statement
    assert set(found.sections) == {"header", "sample hashes", "dataset multiproof", "argument"}
    assert sum(found.sections.values()) + 16 + 4 * 8 == found.size == tiny.result.size


def test_verdict_without_warnings_needs_beacon_and_announcement(tiny):
    digest = tiny.result.statement.announcement_digest.hex()
    verdict = zkcert.verify(tiny.proof, tiny.model, tau="3", announcement=digest, beacon="0x" + tiny.beacon)
    assert not any("NOT C" in text or "NO BEACON" in text for text in verdict.warnings)
    assert verdict.report.soundness.bits >= 100
    assert verdict.report.parameters == 12 * 6 + 6 + 6 * 3 + 3


def test_root_alone_leaves_the_number_of_samples_open(tiny):
    root = tiny.result.statement.dataset.root.hex()
    by_digits, by_file = (
        zkcert.verify(tiny.proof, tiny.model, tau="3", data_root=pin, beacon=tiny.beacon) for pin in (root, tiny.root)
    )
    assert any("chose N" in text for text in by_digits.warnings)
    assert not any("chose N" in text for text in by_file.warnings)


def test_verifier_can_insist_on_a_configuration(tiny):
    with pytest.raises(ProofRejected) as caught:
        zkcert.verify(tiny.proof, tiny.model, tau="3", config=ProbeConfig(steps=2, batch_size=2, rho="0.1"))
    assert caught.value.check == "config"


def test_announcement_of_another_threshold_is_another_announcement(tiny, tmp_path):
    other = api.announce(tiny.model, tiny.root, tmp_path / "a.json", tau="2.4", config=tiny.config)
    assert other.digest != tiny.result.statement.announcement_digest
    assert other.statement.seed == load_announcement(tiny.announcement).seed
    with pytest.raises(ProofRejected) as caught:
        zkcert.verify(tiny.proof, tiny.model, tau="3", announcement=tmp_path / "a.json")
    assert caught.value.check == "announcement"


def test_threshold_below_the_charged_error_is_refused_before_the_beacon(tiny, tmp_path):
    with pytest.raises(UnusableInput, match="charged error"):
        api.announce(tiny.model, tiny.root, tmp_path / "a.json", tau="0", config=tiny.config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"tau": "2.4"}, "tau"),
        ({"config": ProbeConfig(steps=3, batch_size=2)}, "the configuration"),
    ],
)
def test_prove_keeps_to_its_announcement(tiny, tmp_path, options, what):
    with pytest.raises(UnusableInput, match=f"announcement does not fit: {what} changed"):
        prove(tiny, tmp_path / "proof.bin", **options)
    assert not list(tmp_path.iterdir())


def test_score_above_threshold_is_refused(tiny, tmp_path):
    with pytest.raises(ThresholdExceeded, match="above tau"):
        prove(tiny, tmp_path / "p", announcement=None, tau=f"{tiny.result.score / 2:.6f}", config=tiny.config)
    assert not list(tmp_path.iterdir())


def test_disagreement_with_the_reference_stops_the_proof(tiny, tmp_path, monkeypatch):
    from zkcert import metric

    honest = metric.directional_sharpness

    def shifted(*args):
        found = honest(*args)
        return dataclasses.replace(found, log_ratio=found.log_ratio + np.array([0, 2e-5]))

    monkeypatch.setattr(metric, "directional_sharpness", shifted)
    with pytest.raises(api.CrossCheckFailed, match="float64 reference by 2e-05"):
        prove(tiny, tmp_path / "proof.bin")
    assert not list(tmp_path.iterdir())


def test_reference_that_is_not_a_number_stops_the_proof(tiny, tmp_path, monkeypatch):
    from zkcert import metric

    honest = metric.directional_sharpness
    monkeypatch.setattr(
        metric,
        "directional_sharpness",
        lambda *args: dataclasses.replace(honest(*args), log_ratio=np.array([np.nan, np.nan])),
    )
    with pytest.raises(api.CrossCheckFailed):
        prove(tiny, tmp_path / "proof.bin")


def test_proof_that_fails_its_own_verification_is_not_written(tiny, tmp_path, monkeypatch):
    import prover.prove

    damaged = bytearray(tiny.proof.read_bytes())
    damaged[-1] ^= 1
    proved = prover.prove.Proved(bytes(damaged), tiny.result.statement, None)
    monkeypatch.setattr(prover.prove, "prove_statement", lambda *args, **options: proved)
    with pytest.raises(api.CrossCheckFailed, match="fails its own verification"):
        prove(tiny, tmp_path / "proof.bin")
    assert not list(tmp_path.iterdir())


def test_commit_keeps_an_existing_secret(tiny, tmp_path):
    seen = []
    first = api.commit(tiny.dataset, tmp_path / "d.zkd", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (40, 40)
    secret = first.secret.read_bytes()
    for force in (False, True):
        with pytest.raises(UnusableInput, match="never replaced"):
            api.commit(tiny.dataset, tmp_path / "d.zkd", force=force)
    assert first.secret.read_bytes() == secret


@pytest.mark.slow
def test_demo_proves_verifies_and_rejects_forgeries(tmp_path):
    lines = []
    found = api.demo(tmp_path / "kept", say=lines.append)
    assert found.verdict.warnings == []
    assert len(found.rejected) == 3
    kept = {path.name for path in (tmp_path / "kept").iterdir()}
    assert kept == {"model.pt", "data.zkd", "data.root", "announce.json", "proof.bin"}
    with pytest.raises(UnusableInput, match="exists"):
        api.demo(tmp_path / "kept")


def test_commitments_shuffle_unless_told_otherwise(tiny, tmp_path):
    from zkcert.data.committed import CommittedDataset
    from zkcert.data.dataset import load_dataset

    y = load_dataset(str(tiny.dataset)).y
    for keep in (True, False):
        api.commit(tiny.dataset, tmp_path / f"{keep}.zkd", keep_order=keep)
    kept, mixed = (CommittedDataset.open(tmp_path / f"{keep}.zkd").images(range(len(y))) for keep in (True, False))
    assert (kept == load_dataset(str(tiny.dataset)).x).all()
    assert (mixed != kept).any()
    assert sorted(map(bytes, mixed)) == sorted(map(bytes, kept))
