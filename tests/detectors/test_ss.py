from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.detectors.planted import planted, victim_of
from tocsin.detectors.ss import SpectralSignatures, spectral_scores, top_of_each
from tocsin.errors import InputError


def judge(case, **settings):
    return SpectralSignatures(**settings).judge(case.victim())


def plain(x):
    """The paper's score: centre, full decomposition, squared projection."""
    away = x.astype(np.float64) - x.astype(np.float64).mean(0)
    return (away @ np.linalg.svd(away, full_matrices=False)[2][0]) ** 2


@pytest.mark.parametrize(("each", "width"), [(300, 80), (40, 80), (200, 6)])
def test_scores_are_those_of_a_full_svd(each, width):
    case = planted(each=each, width=width, share=0.1, offset=30)
    x = case.features[case.labels == 3]
    expected = plain(x)
    got, share = spectral_scores(x.copy())
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3 * expected.max())
    away = x - x.mean(0)
    assert share == pytest.approx(expected.sum() / (away**2).sum(), rel=1e-3)


def test_features_are_centred_before_they_are_projected():
    """The known mistake of a peer: uncentred features are projected, so that their mean's length is what is measured."""
    case = planted(share=0.05, offset=50)
    here = case.labels == 3
    x, poison = case.features[here], case.poison[here]
    direction = np.linalg.svd(x, full_matrices=False)[2][0]
    assert roc_auc_score(poison, (x @ direction) ** 2) < 0.9
    assert roc_auc_score(poison, judge(case).scores[here]) == 1.0


def test_the_order_within_a_class_is_the_papers():
    case = planted(share=0.05)
    findings = judge(case)
    for k in range(10):
        here, theirs = case.labels == k, case.reserve_labels == k
        expected = plain(np.concatenate([case.features[here], case.reserve_features[theirs]]))
        got = np.concatenate([findings.scores[here], findings.control[theirs]])
        assert np.corrcoef(np.argsort(np.argsort(got)), np.argsort(np.argsort(expected)))[0, 1] > 0.9999


@pytest.fixture(scope="module")
def cifar():
    """As many samples, classes and reserve samples as in the published comparison."""
    rng = np.random.default_rng(0)
    x, r = rng.normal(size=(50000, 4)).astype(np.float32), rng.normal(size=(2000, 4)).astype(np.float32)
    return victim_of(x, np.arange(50000) % 10, r, np.arange(2000) % 10, 10)


@pytest.mark.parametrize(
    ("rate", "each", "low", "high"), [(0.003, 225, 0.042, 0.0452), (0.02, 1500, 0.285, 0.3062), (0.05, 2500, 0.47, 0.527)]
)
def test_with_an_oracle_as_many_are_flagged_in_every_class_as_published(cifar, rate, each, low, high):
    findings = SpectralSignatures(oracle=rate).judge(cifar)
    assert findings.oracle
    assert {c.flagged for c in findings.classes} == {each}
    planted_rows = rate * 50000
    flagged = findings.flagged.sum()
    assert low <= (flagged - planted_rows) / (50000 - planted_rows)  # all poison found
    assert flagged / (50000 - planted_rows) <= high  # none found


def test_on_clean_data_the_published_rule_flags_fifteen_percent_and_ours_nothing(cifar):
    assert SpectralSignatures(oracle=0.0).judge(cifar).flagged.mean() == 0.15
    paper = SpectralSignatures.preset("paper").judge(cifar)
    assert paper.flagged.mean() == 0.15
    assert not paper.oracle
    assert paper.confidence < 0.95
    ours = SpectralSignatures().judge(cifar)
    assert not ours.found
    assert not ours.oracle


def test_top_of_each_takes_the_highest_and_never_most_of_a_class():
    scores, labels = np.array([1.0, 5, 3, 2, 9, 8, 7]), np.array([0, 0, 0, 0, 2, 2, 1])
    np.testing.assert_array_equal(top_of_each(scores, labels, 3, 1, 0.5), [0, 1, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(top_of_each(scores, labels, 3, 9, 0.5), [0, 1, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(top_of_each(scores, labels, 3, np.array([3, 1, 0]), 1.0), [0, 1, 1, 1, 0, 0, 1])


@pytest.mark.parametrize("settings", [{"oracle": -0.1}, {"oracle": 0.7}, {"share": 1.0}, {"alpha": 2.0}])
def test_impossible_settings_are_named(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        SpectralSignatures(**settings)
