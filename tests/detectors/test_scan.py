from __future__ import annotations

import math

import numpy as np
import pytest

from tests.detectors.planted import planted, victim_of
from tocsin.detectors.feature import Readings
from tocsin.detectors.scan import Scan, best_split, fewer_reserved, reserve_model, two_against_one
from tocsin.errors import InputError


@pytest.fixture(scope="module")
def case():
    return planted(share=0.15, width=12, reserve_each=60)


@pytest.mark.parametrize("null_mean", ["posterior", "shipped"])
def test_statistic_is_the_mean_over_samples_of_the_papers_difference(case, null_mean):
    """J of a class, sample by sample and with the inverses written out."""
    clean = reserve_model(Readings.of(case.victim()))
    su, se = clean.between, clean.within
    f = np.linalg.inv(se)
    everything = np.concatenate([case.features, case.reserve_features]).astype(np.float64)
    labels = np.concatenate([case.labels, case.reserve_labels])
    overall = everything.mean(0)
    for k in (0, 3):
        x = everything[labels == k] - overall
        n, own = len(x), x.mean(0)
        split = best_split((x - own).astype(np.float32), clean)
        u = split.centres[split.second.astype(int)] + own
        mu = se @ np.linalg.inv(n * su + se) @ (su @ np.linalg.inv(se) if null_mean == "posterior" else np.eye(len(own))) @ x.sum(0)
        expected = np.mean([(a - mu) @ f @ (a - mu) - (a - b) @ f @ (a - b) for a, b in zip(x, u, strict=True)])
        assert two_against_one(own, n, split, clean, null_mean) == pytest.approx(expected, rel=1e-4)


def test_the_split_stands_still_under_the_papers_rule(case):
    clean = reserve_model(Readings.of(case.victim()))
    f = np.linalg.inv(clean.within)
    here = case.labels == 3
    x = (case.features[here] - case.features[here].mean(0)).astype(np.float32)
    split = best_split(x, clean)
    u1, u2 = x[split.second].mean(0, dtype=np.float64), x[~split.second].mean(0, dtype=np.float64)
    np.testing.assert_array_equal(u1 @ f @ u1 - u2 @ f @ u2 - 2 * x @ f @ (u1 - u2) < 0, split.second)
    poison = case.poison[here]
    assert split.second[poison].mean() in (0.0, 1.0)
    assert (split.second[poison][0] == split.second[~poison]).mean() < 0.02
    ratio = x @ f @ (u1 - u2) - (u1 @ f @ u1 - u2 @ f @ u2) / 2  # log likelihood ratio of the two Gaussians
    np.testing.assert_allclose(split.side(x), ratio, atol=1e-2)


def edge(last_inspected, first_reserved):
    """A case whose poison is in front, and where only the rows on both sides of the border between D and R can be told apart."""
    case = planted(share=0.15, reserve_each=60)
    order = np.argsort(~case.poison, kind="stable")
    x, y = case.features[order].copy(), case.labels[order].copy()
    r, s = case.reserve_features.copy(), case.reserve_labels.copy()
    cluster, ordinary = x[0].copy(), x[np.flatnonzero(y == 3)[-1]].copy()
    x[-1], y[-1] = (cluster if last_inspected else ordinary), 3
    r[0], s[0] = (cluster if first_reserved else ordinary), 3
    return Scan().judge(victim_of(x, y, r, s, 10))


def test_the_border_between_inspected_and_reserved_is_where_it_is():
    """The official code counts the first reserve sample as an inspected one."""
    findings = edge(True, False)
    assert findings.flagged[-1]
    assert findings.control[0] < 0
    findings = edge(False, True)
    assert not findings.flagged[-1]
    assert findings.flagged.sum() == 30
    assert findings.control[0] > 0
    assert (len(findings.flagged), len(findings.control)) == (2000, 600)


def test_the_group_without_reserve_samples_is_flagged_even_if_it_is_the_larger():
    case = planted(share=0.6)
    findings = Scan().judge(case.victim())
    np.testing.assert_array_equal(findings.flagged, case.poison)


def test_fewer_reserved():
    yes, no = np.ones(3, bool), np.zeros(5, bool)
    assert fewer_reserved(np.append(yes, no[:2]), np.append(yes, no))  # 3 of 5 reserve samples are in the second group
    assert not fewer_reserved(np.append(yes[:2], no[:3]), np.append(yes, no))
    assert fewer_reserved(np.append(yes, no[:3]), np.append(np.ones(6, bool), no))  # a tie: the smaller is asked about


def test_a_class_that_two_means_explain_unusually_badly_is_no_finding():
    """The official index is two-sided and would name it."""
    case = planted()
    features = case.features.copy()
    here = case.labels == 5
    features[here] = features[here].mean(0) + 0.05 * (features[here] - features[here].mean(0))
    findings = Scan(decision="paper").judge(victim_of(features, case.labels, case.reserve_features, case.reserve_labels, 10))
    statistic = np.array([c.statistic for c in findings.classes])
    assert statistic.argmin() == 5
    assert statistic[5] < -math.e
    assert not findings.classes[5].suspect


def test_the_paper_preset():
    paper = Scan.preset("paper")
    assert (paper.limit, paper.null_mean, paper.decision) == (math.e, "shipped", "paper")
    assert Scan().null_mean == "posterior"


def test_a_reserve_that_cannot_be_modelled_is_refused():
    case = planted(classes=2)
    with pytest.raises(InputError, match="reserve: got 1 sample"):
        Scan().judge(victim_of(case.features, case.labels, case.reserve_features[:1], case.reserve_labels[:1], 2))
    with pytest.raises(InputError, match="limit"):
        Scan(limit=0)
