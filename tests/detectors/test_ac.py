from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from tests.detectors.planted import planted, victim_of
from tocsin.detectors.ac import ActivationClustering, small_side
from tocsin.errors import InputError


@pytest.mark.parametrize("share", [0.05, 0.2, 0.45])
def test_clusters_are_those_of_scikit_learn(share):
    case = planted(share=share)
    x = case.features[case.labels == 3]
    reduced = PCA(10, svd_solver="full").fit_transform(x.astype(np.float64))
    expected = KMeans(2, n_init=10, random_state=0).fit_predict(reduced)
    expected = expected == np.argmin(np.bincount(expected))
    np.testing.assert_array_equal(small_side(x.copy(), len(x), 10) > 0, expected)
    np.testing.assert_array_equal(expected, case.poison[case.labels == 3])


def test_midway_is_0_and_the_centres_are_at_half_a_unit():
    x = np.array([[0.0], [0.2], [-0.2], [10.0]], np.float32)
    np.testing.assert_allclose(small_side(x, 4, 10), [-0.5, -0.48, -0.52, 0.5], atol=1e-5)


def groups(share, reserve_share):
    """One class of two, in which a far group holds these shares of the inspected and of the reserve samples."""
    rng = np.random.default_rng(0)
    x, r = rng.normal(size=(400, 12)).astype(np.float32), rng.normal(size=(200, 12)).astype(np.float32)
    x[: round(200 * share), 0] += 20
    r[: round(100 * reserve_share), 0] += 20
    return victim_of(x, np.arange(400) // 200, r, np.arange(200) // 100, 2)


@pytest.mark.parametrize(("share", "flagged"), [(0.34, 68), (0.36, 0)])
def test_a_cluster_is_flagged_below_35_percent(share, flagged):
    for settings in ({}, {"decision": "paper"}):
        findings = ActivationClustering(**settings).judge(groups(share, 0.0))
        assert findings.flagged.sum() == flagged
        assert [c.suspect for c in findings.classes] == [flagged > 0, False]


def test_a_group_that_the_reserve_has_too_is_natural():
    victim = groups(0.2, 0.2)
    assert ActivationClustering.preset("paper").judge(victim).flagged.sum() == 40
    ours = ActivationClustering().judge(victim)
    assert not ours.found
    assert ours.classes[0].p_value == 1.0
    assert (ours.control[:20] > 0).all()


def test_what_is_flagged_scores_above_the_threshold():
    findings = ActivationClustering().judge(groups(0.1, 0.0))
    assert findings.threshold == 0.0
    np.testing.assert_array_equal(findings.flagged[:200], findings.scores[:200] > 0)


@pytest.mark.parametrize("settings", [{"dimensions": 0}, {"size": 0.7}, {"alpha": -1.0}])
def test_impossible_settings_are_named(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        ActivationClustering(**settings)
