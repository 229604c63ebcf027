"""The probe's configuration: exact rationals, bounds, one canonical form."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.doubts import differences
from zkcert.errors import UnusableInput
from zkcert.public.config import MAX_DIVISOR, ProbeConfig, canonical_json


def test_defaults_are_the_documented_ones():
    config = ProbeConfig()
    assert config.canonical() == {
        "steps": 10,
        "batch_size": 16,
        "rho": "1/20",
        "lr": "1/10000",
        "eps": "1/100000000",
        "variant": "asam-all",
        "ddof": 0,
    }
    assert config.divisor == 160_000


@pytest.mark.parametrize("rho", ["0.05", "5e-2", "1/20", 0.05, Decimal("0.05"), Fraction(1, 20)])
def test_decimals_are_read_as_written(rho):
    assert ProbeConfig(rho=rho).rho == Fraction(1, 20)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 1},
        {"steps": 5.0},
        {"steps": True},
        {"steps": 1 << 17},
        {"batch_size": 0},
        {"rho": 0},
        {"rho": 8},
        {"rho": "-0.1"},
        {"rho": Fraction(1, 1 << 20)},
        {"rho": Fraction((1 << 20) + 1, 1 << 19)},
        {"rho": "nan"},
        {"rho": "inf"},
        {"rho": "1e999999999"},
        {"rho": "1/0"},
        {"rho": " 1"},
        {"rho": True},
        {"rho": None},
        {"lr": 0},
        {"lr": -0.1},
        {"lr": "0.0003"},
        {"lr": 17},
        {"lr": "1e-6"},
        {"lr": Fraction(1, 10**400)},
        {"eps": 1},
        {"eps": "-1e-8"},
        {"eps": Fraction(1, 1 << 40)},
        {"variant": "asam"},
        {"variant": ["sam"]},
        {"ddof": 10},
        {"ddof": -1},
        {"ddof": "1"},
        {"ddof": False},
        {"ddof": 1, "statistic": "rms"},
        {"ddof": 1, "statistic": "max"},
        {"steps": 2, "ddof": 2},
        {"statistic": "mean-sharpness"},
        {"statistic": None},
        {"statistic": ["rms"]},
        {"eta": "1/100"},
        {"variant": "sam", "eta": 0.01},
        {"variant": "asam-samsung", "eta": 0},
        {"variant": "asam-samsung", "eta": 8},
        {"variant": "asam-shifted", "eta": Fraction(1, 1 << 20)},
        {"variant": "asam-shifted", "eta": "-1/2"},
        {"variant": "asam-shifted", "eta": "nan"},
    ],
)
def test_unusable_values_are_refused(change):
    with pytest.raises(UnusableInput):
        ProbeConfig(**change)


def test_a_learning_rate_that_does_not_divide_the_batch_says_what_to_use():
    with pytest.raises(UnusableInput, match="change lr to 16/53333"):
        ProbeConfig(lr="0.0003")
    assert ProbeConfig(lr="16/53333").divisor == 53333


@given(
    st.integers(2, 50),
    st.integers(1, 64),
    st.fractions(min_value=Fraction(1, 1000), max_value=Fraction(799, 100), max_denominator=1000),
    st.integers(1, MAX_DIVISOR),
    st.fractions(min_value=0, max_value=Fraction(99, 100), max_denominator=10**6),
    st.sampled_from(["asam-all", "sam"]),
)
def test_canonical_form_round_trips(steps, batch_size, rho, divisor, eps, variant):
    config = ProbeConfig(steps, batch_size, rho, Fraction(batch_size, divisor), eps, variant)
    again = ProbeConfig.from_canonical(json.loads(canonical_json(config.canonical())))
    assert again == config and again.digest == config.digest and len(config.digest) == 32
    assert again.divisor == divisor


def test_every_field_changes_the_digest():
    changes = [
        {},
        {"steps": 5},
        {"batch_size": 8},
        {"rho": "0.1"},
        {"lr": "1e-3"},
        {"eps": 0},
        {"variant": "sam"},
        {"ddof": 1},
        {"ddof": 1, "statistic": "std"},
        *({"statistic": name} for name in ("std", "rms", "max")),
        {"variant": "asam-samsung"},
        {"variant": "asam-shifted"},
        {"variant": "asam-shifted", "eta": "1/3"},
    ]
    assert len({ProbeConfig(**change).digest for change in changes}) == len(changes)


@pytest.mark.parametrize(
    "change",
    [
        {"rho": "0.05"},
        {"rho": "2/40"},
        {"rho": 0.05},
        {"steps": "10"},
        {"steps": 10.0},
        {"ddof": False},
        {"ddof": "1"},
        {"statistic": "std-log-ratio"},
        {"eta": "1/100"},
        {"variant": "asam-shifted"},
        {"variant": "asam-shifted", "eta": "0.01"},
        {"variant": "asam-shifted", "eta": None},
        {"extra": 1},
        {"eps": None},
    ],
)
def test_only_the_canonical_form_is_read_back(change):
    with pytest.raises(UnusableInput):
        ProbeConfig.from_canonical({**ProbeConfig().canonical(), **change})


def test_configurations_of_old_have_the_bytes_they_had():
    """What says nothing new is not written, and its digest is that of a configuration without it."""
    config = ProbeConfig()
    assert not {"statistic", "eta"} & set(config.canonical())
    assert canonical_json(config.canonical()) == (
        '{"batch_size":16,"ddof":0,"eps":"1/100000000","lr":"1/10000","rho":"1/20","steps":10,"variant":"asam-all"}'
    )
    for more in ({"statistic": "rms"}, {"variant": "asam-samsung"}, {"ddof": 9}, {"statistic": "std", "ddof": 1}):
        given = ProbeConfig(**more)
        assert ProbeConfig.from_canonical(json.loads(canonical_json(given.canonical()))) == given
    assert ProbeConfig(variant="asam-samsung").canonical()["eta"] == "1/100"


def test_differences_are_named_whatever_keys_either_has():
    usual, other = ProbeConfig(), ProbeConfig(statistic="rms", variant="asam-shifted", eta="1/3", eps=0)
    assert other.differing(usual) == usual.differing(other) == ["eps", "variant", "statistic", "eta"]
    said = "; ".join(differences(other, usual))
    assert said == (
        "eps is 0, not 1/100000000; variant is asam-shifted, not asam-all; statistic is rms, not std-log-ratio; "
        "eta is 1/3, not none"
    )


def test_a_missing_key_or_another_type_is_refused():
    value = ProbeConfig().canonical()
    del value["ddof"]
    for other in (value, [], None, "{}"):
        with pytest.raises(UnusableInput):
            ProbeConfig.from_canonical(other)
