from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tocsin.stats.shared_pattern import AXES, centred, centred_within, common_shift, cross_fitted, leading, whitener
from tocsin.stats.voices import voices


def clips(seed: int, share: float, length: float = 6.0, n: int = 240, m: int = 30) -> tuple[np.ndarray, ...]:
    """(x, voice, reserve, truth): four voices at places of their own, unit noise, and a share of the inspected moved by one vector."""
    rng = np.random.default_rng(seed)
    voice, reserve = rng.integers(0, 4, n + m), np.arange(n + m) >= n
    truth = np.zeros(n + m, bool)
    truth[rng.choice(n, round(share * n), replace=False)] = True
    shift = rng.normal(size=12)
    x = rng.normal(0, 5, (4, 12))[voice] + rng.normal(size=(n + m, 12)) + truth[:, None] * length * shift / np.linalg.norm(shift)
    return x, voice, reserve, truth


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8, 1.0])
def test_a_shift_common_to_all_voices_is_found_whatever_its_share(share: float) -> None:
    x, voice, reserve, truth = clips(0, share)
    found = common_shift(x, voice, reserve)
    assert found.share == pytest.approx(share, abs=0.05)
    assert found.length == pytest.approx(6, abs=0.7)
    assert (found.odds > 0)[truth].mean() > 0.97
    assert (found.odds > 0)[~truth].mean() < 0.1


def test_voices_are_no_shift() -> None:
    """Without voices the largest of the natural groups would be the shift."""
    x, voice, reserve, _ = clips(1, 0.0)
    told, untold = common_shift(x, voice, reserve), common_shift(x, np.zeros_like(voice), reserve)
    assert told.gain < 0.2 < 2 < untold.gain


def test_the_gain_is_the_mean_difference_of_the_two_log_likelihoods() -> None:
    x, voice, reserve, truth = clips(2, 0.3)
    found = common_shift(x, voice, reserve)
    p = np.where(reserve, 0.0, truth)
    design = np.concatenate([np.eye(4)[voice], p[:, None]], axis=1)
    with_shift, alone = (np.linalg.lstsq(d, x, rcond=None)[0] for d in (design, design[:, :4]))
    a, d = with_shift[:4][voice], with_shift[4]
    plain, moved = (-0.5 * np.square(x - at).sum(1) for at in (a, a + d))
    share = truth[~reserve].mean()
    mixed = np.where(reserve, plain, np.logaddexp(np.log(1 - share) + plain, np.log(share) + moved))
    wanted = (mixed + 0.5 * np.square(x - alone[voice]).sum(1)).mean()
    assert found.gain == pytest.approx(wanted, rel=0.03)


def test_a_held_out_reserve_sample_is_treated_as_an_inspected_one_is() -> None:
    """With poison that sits in the reserve, held-out rows must come out as shifted, though all fits but one are told they are clean."""
    x, voice, reserve, truth = clips(3, 0.4)
    bad = np.flatnonzero(reserve)[:2]
    x[bad] += 6 * (x[truth].mean(0) - x[~truth & ~reserve].mean(0)) / np.linalg.norm(x[truth].mean(0) - x[~truth & ~reserve].mean(0))
    fold = np.zeros(len(x), np.int64)
    fold[reserve] = np.arange(reserve.sum()) % 5
    found = cross_fitted(x, voice, reserve, fold)
    assert (found.odds[bad] > 0).all()
    assert (found.odds[reserve] > 0).sum() == 2


def test_clean_samples_are_called_shifted_no_oftener_than_the_reserve() -> None:
    """Nothing is learned from who is reserve."""
    mine, theirs = [], []
    for seed in range(12):
        x, voice, reserve, _ = clips(100 + seed, 0.0)
        x = np.where(np.arange(12) == 0, np.sign(x) * np.abs(x) ** 1.3, x)  # heavy tails in one direction
        fold = np.arange(len(x)) % 5
        side = cross_fitted(x, voice, reserve, fold).odds > 0
        mine.append(side[~reserve].mean())
        theirs.append(side[reserve].mean())
    assert abs(np.mean(mine) - np.mean(theirs)) < 0.05


def test_nothing_to_split() -> None:
    x = np.zeros((3, 2))
    assert common_shift(x, np.zeros(3, int), np.zeros(3, bool)).gain == 0
    same = np.ones((40, 3))
    found = common_shift(same, np.zeros(40, int), np.arange(40) < 10)
    assert np.isfinite(found.odds).all()
    assert not (found.odds > 0).any()


def test_centres_are_medians_of_classes_and_means_of_cells() -> None:
    x, labels = np.array([[1.0], [2.0], [9.0], [5.0], [7.0]]), np.array([0, 0, 0, 1, 1])
    np.testing.assert_allclose(centred(x, labels)[:, 0], [-1, 0, 7, -1, 1])
    np.testing.assert_allclose(centred_within(x, labels)[:, 0], [-3, -2, 5, -1, 1])


def test_whitened_samples_have_unit_covariance_and_few_axes_keep_the_largest() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 5)) @ rng.normal(size=(5, 5))
    white = x @ whitener(x, 0.0)
    np.testing.assert_allclose(white.T @ white / 500, np.eye(5), atol=1e-4)
    voice = rng.integers(0, 3, 500)
    wide = np.concatenate([white, 30 * np.eye(3)[voice], 4 * rng.normal(size=(500, 1)), 0.1 * rng.normal(size=(500, 20))], axis=1)
    kept = leading(wide, voice)
    assert kept.shape == (500, AXES)
    assert abs(np.corrcoef(kept[:, 0], wide[:, 8])[0, 1]) > 0.99  # spread between voices does not count


def test_a_column_of_speakers_that_names_nobody_is_none() -> None:
    rng = np.random.default_rng(0)
    sound, labels = rng.normal(size=(40, 3)), np.arange(40) % 4
    nobody, unsaid = (voices(sound, labels, 4, 2, np.random.default_rng(1), speakers) for speakers in (np.full(40, -1), None))
    np.testing.assert_array_equal(nobody, unsaid)


def test_a_class_makes_no_voice_of_its_own_and_speakers_stay_whole() -> None:
    rng = np.random.default_rng(4)
    speaker, labels = rng.integers(0, 3, 600), rng.integers(0, 5, 600)
    sound = np.array([[0.0, 0], [6, 0], [0, 6]])[speaker] + rng.normal(size=(600, 2))
    poison = (labels == 2) & (rng.random(600) < 0.5)
    sound[poison] += 40  # far away, but only in class 2
    found = voices(sound, labels, 3, 3, np.random.default_rng(0))[2]
    assert all(np.bincount(found[(labels != 2) & (speaker == s)]).max() > 0.95 * ((labels != 2) & (speaker == s)).sum() for s in range(3))
    assert len(np.unique(found[labels != 2])) == 3
    told = voices(sound, labels, 3, 3, np.random.default_rng(0), speakers=np.where(speaker == 1, -1, speaker))[2]
    assert len(np.unique(told[speaker == 0])) == 1  # poison too: a speaker is where the other classes say
    assert roc_auc_score(speaker == 1, told == np.bincount(told[(speaker == 1) & ~poison]).argmax()) > 0.9
