"""Estimates: exact sizes, fitted rates, memory that is refused before anything is computed, and the time left."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from prover import resources
from prover.resources import WORK, Estimate, Rates, available_memory, fit, fit_rates, multiproof_bytes, sizes_of
from tests.toys import certified, tiny_model
from zkcert import api
from zkcert.api.phases import Phases, PhaseTime
from zkcert.cli.display import PhaseDisplay
from zkcert.core.tree import MerkleTree
from zkcert.errors import UnusableInput
from zkcert.progress import RemainingTime, duration

# ---------------------------------------------------------------------------------------------------- sizes


def test_proof_size_is_predicted():
    proved = certified().proved
    found = sizes_of(proved.statement, tiny_model())
    assert found.proof_bytes == pytest.approx(len(proved.data), rel=0.01)
    assert (found.steps, found.batch_size) == (2, 3)
    assert found.parameters == tiny_model().param_count


def test_estimate_needs_no_data(tiny):
    found = api.estimate(tiny.model, config=tiny.config)
    exact = api.estimate(tiny.model, config=tiny.config, data_root=tiny.root)
    assert found.sizes.proof_bytes == pytest.approx(tiny.result.size, rel=0.01)
    assert exact.sizes.proof_bytes == pytest.approx(tiny.result.size, rel=0.01)
    assert found.sizes.digits == exact.sizes.digits
    assert set(found.phases) <= set(WORK)
    assert found.to_dict()["peak_bytes"] == found.peak_bytes > 0


def test_sizes_grow_with_steps_and_batches(tiny):
    base, steps, batch = (
        api.estimate(tiny.model, config=replace(tiny.config, **c)).sizes for c in ({}, {"steps": 4}, {"batch_size": 4})
    )
    for size in ("digits", "multiplications", "table_cells"):
        assert getattr(base, size) < min(getattr(steps, size), getattr(batch, size)), size


def test_multiproof_size_is_the_expected_one():
    rng = np.random.default_rng(0)
    tree = MerkleTree(rng.integers(0, 256, (1 << 10, 32), np.uint8), b"test")
    sizes = [len(tree.multiproof(rng.choice(1 << 10, 60, replace=False).tolist())) for _ in range(50)]
    assert multiproof_bytes(10, 60) == pytest.approx(np.mean(sizes), rel=0.02)


# ---------------------------------------------------------------------------------------------------- rates


def sized(**changes: int) -> resources.Sizes:
    return replace(sizes_of(certified().statement, tiny_model()), **changes)


def test_fit_finds_costs_and_none_below_zero():
    runs = [
        (sized(digits=d, multiplications=m), 2 + 3e-8 * d + 0 * m)
        for d, m in ((10**6, 5), (10**7, 10**8), (10**8, 7), (10**9, 10**9))
    ]
    costs = fit(runs, ("digits", "multiplications"))
    assert costs["fixed"] == pytest.approx(2)
    assert costs["digits"] == pytest.approx(3e-8)
    assert costs["multiplications"] == pytest.approx(0, abs=1e-12)
    falling = fit([(s, 10 / (1 + i)) for i, (s, _) in enumerate(runs)], ("digits",))
    assert min(falling.values()) >= 0


def test_fitted_rates_predict_what_they_were_fitted_to(tmp_path):
    def phases(s):
        return [{"name": n, "seconds": 1 + 1e-7 * s.digits, "peak_rss_bytes": 1e8 + 40 * s.entries} for n in WORK]

    subjects = [sized(digits=d, entries=d + 5 * 10**6) for d in (10**6, 10**7, 10**8)]
    fit_rates([(s, phases(s)) for s in subjects]).save(tmp_path / "rates.json")
    rates = Rates.load(tmp_path / "rates.json")
    large = sized(digits=10**9, entries=10**9, multiplications=subjects[0].multiplications)
    assert rates.predict(large)["range checks"] == pytest.approx(101)
    assert rates.predict(large, 2.0)["range checks"] == pytest.approx(202)
    assert rates.peak_bytes(large) == pytest.approx(40.1e9)


def test_rates_of_the_machine_come_before_those_shipped(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shipped = Rates.load()
    replace(shipped, probe=77.0).save(resources.own_rates())
    assert Rates.load().probe == 77.0
    with pytest.raises(UnusableInput, match="no measured rates"):
        Rates.load(Path(__file__))


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"seconds": 1}', b"[" * 100_000, b'{"seconds":1,"memory":2,"probe":3,"threads":4}']
)
def test_files_without_rates_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rates.json").write_bytes(content)
    with pytest.raises(UnusableInput, match="no measured rates"):
        Rates.load(tmp_path / "rates.json")


def test_rates_are_read_from_regular_files_of_bounded_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "endless", "wb") as file:
        file.truncate(1 << 40)
    for name, why in (("pipe", "pipe"), ("endless", "more than"), ("missing", "No such file")):
        with pytest.raises(UnusableInput, match=why):
            Rates.load(tmp_path / name)


def test_machine_with_fewer_cores_is_slower():
    rates = Rates({}, {}, resources.probe_seconds(), 2)
    with mock.patch.object(resources, "threads", lambda: 2):
        assert rates.slowdown() == pytest.approx(1)
    with mock.patch.object(resources, "threads", lambda: 1):
        assert rates.slowdown() == pytest.approx(1.9)


# --------------------------------------------------------------------------------------------------- memory


def files(root: Path, **content: str) -> Path:
    for name, text in content.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_available_memory_is_the_least_of_system_and_groups(tmp_path):
    assert available_memory(tmp_path) is None
    files(tmp_path, proc__meminfo="MemTotal: 99 kB\nMemAvailable: 8000 kB\n")
    assert available_memory(tmp_path) == 8000 * 1024
    files(
        tmp_path,
        proc__self__cgroup="0::/user/job\n",
        sys__fs__cgroup__user__job__memory_DOT_max="max\n",
        sys__fs__cgroup__user__job__memory_DOT_current="1000\n",
        sys__fs__cgroup__user__memory_DOT_max="5000000\n",
        sys__fs__cgroup__user__memory_DOT_current="4000000\n",
        sys__fs__cgroup__user__memory_DOT_stat="anon 7\ninactive_file 500000\n",
    )
    assert available_memory(tmp_path) == 1_500_000
    files(
        tmp_path,
        proc__self__cgroup="5:cpu:/\n4:memory:/job\n0::/\n",
        sys__fs__cgroup__memory__job__memory_DOT_limit_in_bytes="300\n",
        sys__fs__cgroup__memory__job__memory_DOT_usage_in_bytes="200\n",
    )
    assert available_memory(tmp_path) == 100


def test_too_large_a_proof_is_refused_before_anything_is_computed(tiny, tmp_path):
    options = {"announcement": tiny.announcement, "beacon": tiny.beacon}
    seen: list[str] = []
    with mock.patch.object(resources, "available_memory", lambda: 1 << 20):
        with pytest.raises(UnusableInput, match=r"needs about .* fewer steps \(now 2\).*--force"):
            api.prove(tiny.model, tiny.data, tmp_path / "p", **options, progress=lambda name, done: seen.append(name))
        assert set(seen) == {"load"}
        api.prove(tiny.model, tiny.data, tmp_path / "p", **options, force=True)
    estimate = Estimate(sized(), {}, 10, 5, None)
    estimate.require_memory()
    replace(estimate, available=10).require_memory()


def test_a_scratch_file_is_advised_where_it_helps():
    estimate = Estimate(sized(entries=10**9), {}, 10 * 10**9, 5 * 10**9, 5 * 10**9)
    estimate.require_memory(scratch=True)
    with pytest.raises(UnusableInput, match=r"10\.0 GB of memory.*give --scratch DIR \(4\.0 GB of disk\), take fewer"):
        estimate.require_memory()
    for scratch in (False, True):
        with pytest.raises(UnusableInput, match="available: take fewer steps"):
            replace(estimate, available=4 * 10**9).require_memory(scratch)


def test_memory_with_a_scratch_file_is_that_without_the_digits():
    costs = {"load": {"fixed": 2e9}, "commit": {"fixed": 1e9, "entries": 5.0}, "batch": {"fixed": 3e9, "entries": 3.0}}
    rates, sizes = Rates({}, costs, 1.0, 2), sized(entries=10**9)
    assert (rates.peak_bytes(sizes), rates.peak_bytes(sizes, scratch=True)) == (6e9, 3e9)
    assert rates.peak_bytes(sized(entries=10**6), scratch=True) == 3e9
    assert rates.peak_bytes(sized(entries=10**10), scratch=True) == 11e9
    assert rates.peak_bytes(sized(entries=0), scratch=True) == 3e9


# ----------------------------------------------------------------------------------------------- time that is left


def test_remaining_time_follows_what_happens():
    left = RemainingTime({"load": 1.0, "commit": 10.0, "trees": 20.0, "pads": 9.0})
    assert left.seconds() == pytest.approx(40)
    left.start("commit")  # load was not reported, so it is over
    assert left.seconds() == pytest.approx(39)
    assert left.seconds(4) == pytest.approx(35)
    left.finish("commit", 20.0)  # twice as slow as thought
    assert 29 * 1.6 < left.seconds() < 29 * 2
    left.start("trees")
    assert left.seconds(100) > 100 / 9 + 9 * 3  # far beyond its time: neither done nor to be believed
    left.finish("trees", 40.0)
    left.start("pads")
    left.finish("pads", 18.0)
    assert left.seconds() == 0


def test_remaining_time_without_a_plan_is_nothing():
    left = RemainingTime({})
    left.start("commit")
    assert left.seconds(5) == 0
    left.finish("commit", 5)
    assert left.seconds() == 0


def test_compiling_says_nothing_about_later_phases(capsys):
    """A phase of 2 s of which 1.5 are compiling is one of half a second."""
    shown = []
    for phase in (PhaseTime("witness", 2.0, 1, 1.5), PhaseTime("witness", 0.5, 1)):
        display = PhaseDisplay()
        display._remaining = RemainingTime({"witness": 0.5, "commit": 100.0})
        display("witness", None)
        display("witness", phase)
        shown.append(display.left())
    assert shown[0] == shown[1] == "about 1 min 40 s left"


def test_compile_clock_adds_up_what_any_thread_waits_for(monkeypatch):
    from prover.kernels import compiling

    now = [0.0]
    monkeypatch.setattr(compiling.time, "perf_counter", lambda: now[0])
    clock = compiling.CompileClock()
    for call, until in ((clock.on_start, 1), (clock.on_start, 3), (clock.on_end, 6), (clock.on_end, 10)):
        now[0] = until
        call(None)
    assert clock.seconds() == 9  # from 1 to 10, once
    now[0] = 20
    clock.on_start(None)
    now[0] = 22
    assert clock.seconds() == 11


def test_compile_clock_runs_while_numba_compiles():
    from numba import njit

    from prover.kernels.compiling import compile_clock

    phases, add = Phases(None), njit(lambda x: x + 1)
    with compile_clock() as clock:
        phases.compiling = clock.seconds
        for name in ("first", "second"):
            with phases(name):
                add(1)
    first, second = phases.done
    assert 0 < first.compiling <= first.seconds and second.compiling == 0


def test_unplanned_phases_do_not_count():
    left = RemainingTime({"witness": 10.0})
    left.start("compiling")
    left.finish("compiling", 60.0)
    assert left.seconds() == pytest.approx(10)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (200, "3 min 20 s"), (3900, "1 h 05 min")]
)
def test_durations_for_people(seconds, text):
    assert duration(seconds) == text
