from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm, sqrtm
from sklearn.metrics import roc_auc_score

from tests.detectors.planted import planted, victim_of
from tocsin.detectors.spectre import Spectre, spectre_scores
from tocsin.detectors.ss import SpectralSignatures
from tocsin.errors import InputError


def plain(x, budget):
    """The procedure step by step: centred PCA, trimmed covariance, QUE, and the dimension under which what goes stands out most."""
    n = len(x)
    away = x.astype(np.float64) - x.astype(np.float64).mean(0)
    z = away @ np.linalg.svd(away, full_matrices=False)[2].T
    white = lambda a, kept: (a - a[kept].mean(0)) @ np.linalg.inv(np.real(sqrtm(np.cov(a[kept].T).reshape(a.shape[1], -1))))  # noqa: E731

    def weights(y):
        s = np.cov(y.T).reshape(y.shape[1], -1)
        q = expm(4 * (s - np.eye(len(s))) / (np.linalg.norm(s, 2) - 1))
        return s, q / np.trace(q)

    found = []
    for k in (1, 4, 9):
        a, kept = z[:, :k], np.ones(n, bool)
        for turn in range(1, 6):
            length = (white(a, kept) ** 2).sum(1)
            kept = np.ones(n, bool)
            kept[np.argsort(-length)[: int(2 * budget) * turn // 5]] = False
        y = white(a, kept)
        q = (y @ weights(y)[1] * y).sum(1)
        kept = np.ones(n, bool)
        kept[np.argsort(-q)[: round(1.5 * budget)]] = False
        s, w = weights(white(z, kept))
        found.append((np.trace(s @ w), k, q))
    return max(found, key=lambda f: f[0])


@pytest.mark.parametrize("share", [0.0, 0.05, 0.15])
def test_scores_and_dimension_are_those_of_the_plain_procedure(share):
    case = planted(share=share, width=12, each=300)
    x = case.features[case.labels == 3]
    value, k, expected = plain(x, 40)
    got, dimensions, separation = spectre_scores(x.copy(), 40, "trimmed")
    assert dimensions == k
    assert separation == pytest.approx(value, rel=1e-3)
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=1e-4)


def test_poison_beside_a_louder_direction_is_seen_by_spectre_alone():
    """What the paper is for: the first principal component is something else."""
    case = planted(share=0.1, away=10)
    loud = np.random.default_rng(1)
    features, reserve = case.features.copy(), case.reserve_features.copy()
    features[:, 0], reserve[:, 0] = 60 * loud.normal(size=len(features)), 60 * loud.normal(size=len(reserve))
    victim = victim_of(features, case.labels, reserve, case.reserve_labels, 10)
    here = case.labels == 3
    assert roc_auc_score(case.poison[here], SpectralSignatures().judge(victim).scores[here]) < 0.7
    findings = Spectre().judge(victim)
    assert roc_auc_score(case.poison[here], findings.scores[here]) > 0.99
    assert [c.index for c in findings.classes if c.suspect] == [3]


def test_with_an_oracle_half_of_the_classes_lose_one_and_a_half_times_the_poison():
    rng = np.random.default_rng(0)
    x, r = rng.normal(size=(50000, 4)).astype(np.float32), rng.normal(size=(2000, 4)).astype(np.float32)
    findings = Spectre(oracle=0.003).judge(victim_of(x, np.arange(50000) % 10, r, np.arange(2000) % 10, 10))
    assert findings.oracle
    assert sorted(c.flagged for c in findings.classes) == [0] * 5 + [225] * 5
    assert (findings.flagged.sum() - 150) / 49850 >= 0.0195
    assert findings.flagged.sum() / 49850 <= 0.023
    above = [c.statistic for c in findings.classes if c.suspect]
    assert min(above) > max(c.statistic for c in findings.classes if not c.suspect)


def test_budgets_follow_the_published_bounds():
    sizes = np.array([5000, 1000, 400])
    np.testing.assert_allclose(Spectre(oracle=0.05).budgets(sizes), [320, 320, 40])
    np.testing.assert_allclose(Spectre(oracle=0.5).budgets(sizes), [1650, 330, 40])
    np.testing.assert_allclose(Spectre(oracle=0.0).budgets(sizes), [500, 100, 40])
    np.testing.assert_allclose(Spectre.preset("paper").budgets(sizes), [500, 100, 40])
    np.testing.assert_allclose(Spectre().budgets(sizes), [1250, 250, 100])


@pytest.mark.parametrize("share", [0.08, 0.35])
def test_without_an_oracle_rare_and_common_poison_are_found(share):
    case = planted(share=share)
    findings = Spectre().judge(case.victim())
    assert findings.flagged[case.poison].mean() > 0.95
    assert findings.flagged[~case.poison].mean() < 0.01


def test_the_published_filter_runs_too():
    case = planted(share=0.05)
    findings = Spectre.preset("paper").judge(case.victim())
    assert findings.classes[3].suspect
    assert findings.flagged[case.poison].all()
    assert findings.flagged[~case.poison].mean() < 0.1


@pytest.mark.parametrize("settings", [{"oracle": 0.6}, {"budget": 0.4}, {"share": -1.0}, {"alpha": 1.1}])
def test_impossible_settings_are_named(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        Spectre(**settings)
