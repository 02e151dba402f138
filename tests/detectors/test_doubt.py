"""Classes in which very many labels do not fit: told by their reserve, and named where what does not fit shares a texture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tocsin.detectors.decide import Scored, tail
from tocsin.detectors.doubt import SHARE, doubted, looks, trusted

CLASSES, EACH, RESERVE = 10, 600, 300
N = CLASSES * EACH
LABELS = np.concatenate([np.arange(N) % CLASSES, np.arange(CLASSES * RESERVE) % CLASSES])
NONE, DISTINCT = np.zeros(N, bool), np.full(CLASSES, RESERVE)
WRONG = np.flatnonzero(np.arange(N) % CLASSES == 3)[: EACH // 3]


def fits(seed: int, wrong: np.ndarray = WRONG[:0]) -> np.ndarray:
    """(n + m,) of clean samples, classes being more or less easy, but for the rows ``wrong``."""
    rng = np.random.default_rng(seed)
    fit = rng.normal(2 + LABELS % 3, 1.5 + LABELS % 2)
    fit[wrong] = rng.normal(-3, 1.5, len(wrong))
    return fit.astype(np.float32)


def test_a_class_with_many_wrong_labels_is_doubted_and_no_other() -> None:
    for seed in range(20):
        assert np.flatnonzero(doubted(fits(seed, WRONG), LABELS, NONE, DISTINCT, 0.01)).tolist() == [3]


def test_clean_classes_are_doubted_no_more_often_than_they_may_be() -> None:
    alpha = 0.5 / SHARE  # half of all sets, were the test exact
    assert np.mean([doubted(fits(seed), LABELS, NONE, DISTINCT, alpha).any() for seed in range(200)]) <= 0.5
    assert not any(doubted(fits(seed), LABELS, NONE, DISTINCT, 0.01).any() for seed in range(100))


def test_mistakes_everywhere_are_no_doubt_about_one_class() -> None:
    rng = np.random.default_rng(0)
    assert not doubted(fits(0, rng.choice(N, N // 4, replace=False)), LABELS, NONE, DISTINCT, 0.01).any()


def test_rows_that_take_no_part_and_small_or_repetitive_reserves_raise_no_doubt() -> None:
    fit, ignored = fits(0, WRONG), np.zeros(N, bool)
    ignored[WRONG] = True
    assert not doubted(fit, LABELS, ignored, DISTINCT, 0.01).any()
    assert not doubted(fit, LABELS, NONE, np.full(CLASSES, 60), 0.01).any()  # as many frames, but of few films
    without = np.concatenate([np.ones(N, bool), LABELS[N:] != 3])
    assert not doubted(fit[without], LABELS[without], NONE, DISTINCT, 0.01).any()


def test_what_fits_worst_of_a_doubted_class_is_not_trusted() -> None:
    fit = fits(0, WRONG)[:N]
    out = trusted(fit, LABELS[:N], np.arange(CLASSES) == 3)
    assert out[LABELS[:N] != 3].all()
    assert out[LABELS[:N] == 3].sum() == EACH // 2
    assert fit[~out].max() < fit[out & (LABELS[:N] == 3)].min()


@pytest.mark.parametrize("shared", [True, False])
def test_many_wrong_labels_name_a_class_where_they_share_a_texture(shared: bool) -> None:
    rng, fit = np.random.default_rng(1), fits(1, WRONG)
    textures = rng.normal(size=(len(LABELS), 24)).astype(np.float32)
    if shared:
        textures[WRONG] += rng.normal(0, 0.9, 24).astype(np.float32)
    which = np.arange(CLASSES) == 3
    series = looks(fit, LABELS, torch.from_numpy(textures), np.arange(N), NONE, DISTINCT, which, 0)
    quiet = [{"a": rng.normal(size=N)}, {"b": rng.normal(size=N)}]
    verdict = tail(Scored(quiet, LABELS[:N], tuple("abcdefghij"), NONE, further=[series.part(slice(N))]))
    assert verdict.evidence["named by"] == ({"d": ["many labels"]} if shared else {})
    assert verdict.flagged[WRONG].mean() >= (0.8 if shared else 0)
    assert verdict.flagged[np.setdiff1d(np.arange(N), WRONG)].mean() < 0.02
