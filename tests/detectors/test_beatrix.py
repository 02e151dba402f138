from __future__ import annotations

import math

import numpy as np
import pytest

from tests.detectors.planted import planted, victim_of
from tocsin.detectors.beatrix import Beatrix, class_deviations, deviations, gram_bounds, widest
from tocsin.errors import InputError
from tocsin.stats.blocks import Group


def grams(x, order):
    """(n, pairs): upper triangle of F^p (F^p)' with the signed p-th root, as published."""
    powers = x.astype(np.float64) ** order
    i, j = np.triu_indices(x.shape[1])
    g = powers[:, i] * powers[:, j]
    return np.sign(g) * np.abs(g) ** (1 / order)


def plain(x, clean, width):
    """Orders 1 to 8, one after the other; medians as in the official code (the lower one)."""
    lower = lambda a: np.sort(a, axis=0)[(len(a) - 1) // 2]  # noqa: E731
    out = np.zeros(len(x))
    for order in range(1, 9):
        g = grams(clean, order)
        middle = lower(g)
        mad = lower(np.abs(g - middle))
        low, high = middle - width * mad, middle + width * mad
        size = lambda bound: np.maximum(np.abs(bound), 0.01 * np.abs(bound).mean())  # noqa: E731
        got = grams(x, order)
        out += (np.maximum(low - got, 0) / size(low) + np.maximum(got - high, 0) / size(high)).mean(1)
    return out / 8


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("m", [20, 21])
def test_two_orders_are_the_published_eight(positive, m):
    rng = np.random.default_rng(0)
    clean, x = rng.normal(size=(m, 7)), 3 * rng.normal(size=(600, 7))
    x[:300] *= 2
    if positive:
        clean, x = np.abs(clean), np.abs(x)
    clean, x = clean.astype(np.float32), x.astype(np.float32)
    expected = plain(x, clean, 2.0)
    assert (expected > 0).mean() > 0.9
    np.testing.assert_allclose(deviations(x, *gram_bounds(clean, 2.0)), expected, rtol=1e-3, atol=1e-6)


def test_positive_samples_against_bounds_of_mixed_signs():
    rng = np.random.default_rng(1)
    clean, x = rng.normal(size=(15, 5)).astype(np.float32), 4 * np.abs(rng.normal(size=(30, 5))).astype(np.float32)
    np.testing.assert_allclose(deviations(x, *gram_bounds(clean, 1.0)), plain(x, clean, 1.0), rtol=1e-3, atol=1e-6)


def test_products_below_their_bounds_count_too():
    rng = np.random.default_rng(2)
    clean = (10 + rng.normal(size=(30, 4))).astype(np.float32)
    x = np.full((1, 4), 0.1, np.float32)
    np.testing.assert_allclose(deviations(x, *gram_bounds(clean, 3.0)), plain(x, clean, 3.0), rtol=1e-3)
    assert deviations(x, *gram_bounds(clean, 3.0))[0] > 0.5


def test_the_unit_of_features_does_not_matter():
    rng = np.random.default_rng(3)
    clean, x = rng.normal(size=(15, 5)).astype(np.float32), 5 * rng.normal(size=(30, 5)).astype(np.float32)
    np.testing.assert_allclose(
        deviations(1000 * x, *gram_bounds(1000 * clean, 4.0)), deviations(x, *gram_bounds(clean, 4.0)), rtol=1e-3, atol=1e-6
    )


def group(x, n):
    return Group(0, np.arange(n), np.arange(len(x) - n), x.astype(np.float32))


def test_reserve_samples_are_measured_by_the_others_bounds():
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal(size=(30, 6)), rng.normal(size=(10, 6))])
    clean = x[30:].astype(np.float32)
    got, limit = class_deviations(group(x, 30), np.arange(6), 3.0, 0.2)
    np.testing.assert_allclose(got[:30], deviations(x[:30].astype(np.float32), *gram_bounds(clean, 3.0)))
    fold = np.arange(10) % 5
    for i in range(10):
        np.testing.assert_allclose(got[30 + i], deviations(clean[i : i + 1], *gram_bounds(clean[fold != fold[i]], 3.0))[0])
    assert limit == np.sort(got[30:])[-2]


def test_few_clean_samples_say_nothing():
    got, limit = class_deviations(group(np.random.default_rng(0).normal(size=(13, 6)), 10), np.arange(6), 3.0, 0.1)
    assert limit == math.inf
    assert not got.any()


def test_classes_are_what_the_network_says_and_flags_follow_the_label():
    case = planted(share=0.3, each=300, reserve_each=60)
    plain_findings = Beatrix().judge(case.victim())
    assert plain_findings.flagged[case.poison].mean() > 0.9
    victim = case.victim()
    logits = victim.logits.copy()
    seen_elsewhere = np.flatnonzero(case.poison)[:10]
    logits[seen_elsewhere] = np.eye(10)[7]
    victim.__dict__["logits"] = logits
    findings = Beatrix().judge(victim)
    assert not findings.flagged[seen_elsewhere].any()
    assert findings.flagged[case.poison].mean() > 0.8


def test_paper_preset_flags_five_percent_of_a_clean_class_at_most_and_names_it_by_mmd():
    case = planted(share=0.3, each=300, reserve_each=60)
    findings = Beatrix.preset("paper").judge(case.victim())
    assert findings.classes[3].suspect
    assert findings.classes[3].statistic > math.e**2
    assert set(findings.evidence["mmd"]) == {f"kind {k}" for k in range(10)}


def test_wide_features_are_thinned_to_those_that_vary_most():
    reserve = np.random.default_rng(0).normal(size=(50, 5)) * [1, 9, 2, 8, 3]
    np.testing.assert_array_equal(widest(reserve, 2), [1, 3])
    np.testing.assert_array_equal(widest(reserve, 9), np.arange(5))
    case = planted(share=0.3)
    assert Beatrix(most_features=10).judge(case.victim()).evidence["features"] == 10


def test_a_class_without_reserve_is_never_named():
    case = planted(share=0.3, each=300, reserve_each=60)
    left = case.reserve_labels != 3
    victim = victim_of(case.features, case.labels, case.reserve_features[left], case.reserve_labels[left], 10)
    findings = Beatrix().judge(victim)
    assert not findings.classes[3].suspect
    assert not findings.scores[case.labels == 3].any()


@pytest.mark.parametrize("settings", [{"width": 0.0}, {"limit": -1.0}, {"most_features": 0}, {"share": 0.9}])
def test_impossible_settings_are_named(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        Beatrix(**settings)
