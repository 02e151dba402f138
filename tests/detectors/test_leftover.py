"""What the flags of a named class leave: a further pattern with wrong labels is found, and nothing where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.detectors.handmade import noise_set
from tocsin.data.dataset import Dataset, concatenate
from tocsin.detectors import leftover
from tocsin.detectors.ct import ConfusionTraining
from tocsin.detectors.distillation import Distillation
from tocsin.detectors.leftover import ADDED, FIRST, Leftover, pattern
from tocsin.detectors.rounds import Store
from tocsin.detectors.workbench import Bench
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu", seed=4)
N, CLASSES, RESERVE = 9000, 5, 300
LABELS = np.arange(N) % CLASSES
KINDS = [np.flatnonzero(LABELS == 0)[start : start + 15] for start in (0, 15, 30, 45)]
FOUND, LEFT = np.concatenate(KINDS[:3]), KINDS[3]
ALL = np.concatenate(KINDS)


def pictures() -> tuple[Dataset, Dataset]:
    """(inspected, reserve) of noise whose colour tells the class, more or less; of class 0 the samples of four kinds have another's colour,
    and each kind a stencil of its own over the whole frame, faintest of the last."""
    sets = [noise_set(count, seed, classes=CLASSES, size=8) for seed, count in enumerate((N, RESERVE))]
    colours, rng = np.random.default_rng(5).normal(0, 1, (CLASSES, 3)), np.random.default_rng(6)
    out = []
    for data in sets:
        shown = data.labels.copy()
        if len(data) == N:
            for rows in KINDS:
                shown[rows] = rng.integers(1, CLASSES, len(rows))
        light = rng.normal(0, 10, (len(data), 1, 1, 3))
        x = rng.normal(128, 30, data.inputs.shape) + light + 18 * colours[shown][:, None, None]
        if len(data) == N:
            for rows in KINDS:
                x[rows] += (10 if rows is LEFT else 60) * rng.choice([-1, 1], data.inputs.shape[1:])
        out.append(replace(data, inputs=np.clip(x, 0, 255).astype(np.uint8)))
    return out[0], out[1]


@pytest.fixture(scope="module")
def bench() -> Bench:
    train, reserve = pictures()
    joined = concatenate(train, reserve)
    return Bench.of(joined.inputs, joined.labels, train, torch.device("cpu"), branch=True)


def flags(rows: np.ndarray) -> np.ndarray:
    return np.isin(np.arange(N), rows)


def looking(bench: Bench, wrong: np.ndarray, ignore: np.ndarray | None = None) -> Leftover:
    fit = np.random.default_rng(3).normal(size=N + RESERVE)
    fit[wrong] -= 5
    return Leftover(bench, fit, np.arange(N), np.zeros(N, bool) if ignore is None else ignore, CPU)


def test_a_further_kind_is_found_of_which_nothing_was_flagged(bench: Bench) -> None:
    first = flags(FOUND)
    look = looking(bench, ALL)
    found = look.extended(first, first)
    assert (found >= first).all()
    assert found[LEFT].mean() > 0.8
    assert not found[LABELS > 0].any()
    assert found.sum() - len(FOUND) == ADDED * N / CLASSES
    doubted = look._doubt(first)[:N]
    top = np.argsort(-np.where((LABELS == 0) & ~first, doubted, -np.inf))[: len(LEFT)]
    assert np.isin(top, LEFT).mean() < found[LEFT].mean()  # by the labels alone fewer would be


@pytest.mark.parametrize("flagged", [KINDS[0], np.concatenate([KINDS[0], np.flatnonzero(LABELS == 0)[500:520]]), np.concatenate(KINDS[:2])])
def test_flagged_samples_that_vary_along_one_direction_are_not_of_several_kinds(flagged: np.ndarray, bench: Bench) -> None:
    look = looking(bench, np.concatenate([ALL, flagged]))
    assert len(look._kinds(0, LABELS, flags(FOUND))) > 1
    assert len(look._kinds(0, LABELS, flags(flagged))) < 2


def test_canaries_teach_nothing_and_are_not_flagged(bench: Bench) -> None:
    first, canaries = flags(FOUND), flags(LEFT)
    look = looking(bench, ALL, canaries)
    assert not look.extended(first, first)[canaries].any()


def test_flagged_samples_of_the_further_kind_help_to_draw_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 140 flagged ones 20 or 30 are of the kind that is looked for, the others of three kinds that are further off."""
    r, known, true = 1500, 140, np.arange(20)

    def found(seed: int, far: float, some: int, taken_out: bool = True) -> int:
        rng = np.random.default_rng(seed)
        white = rng.normal(size=(r + known, 3000)).astype(np.float32)
        kinds = rng.normal(size=(4, 3000)) / 3000**0.5
        white[r + some :] += 36 * kinds[np.arange(known - some) % 3]
        white[np.concatenate([true, r + np.arange(some)])] += far * kinds[3]
        doubt = rng.normal(size=r)
        doubt[true] += 2
        same, nobody = np.zeros(r + known, int), np.zeros(r + known, bool)
        look = Leftover(replace(bench, whitened=torch.from_numpy(white)), doubt, np.arange(r + known), nobody, CPU)
        seen = look._kinds(0, same, np.arange(r + known) >= r)
        assert len(seen) == 2
        scores = look._of_class(np.arange(r), r + np.arange(known), doubt, seen if taken_out else seen[:0])
        return int(np.isin(np.argsort(-scores)[:30], true).sum())

    assert found(2, 8, 30) > 17
    assert found(0, 7, 20) > found(0, 7, 20, taken_out=False) + 3  # known kinds take the pattern over
    monkeypatch.setattr(leftover, "JOINED", np.inf)
    assert found(2, 8, 30) < 15


@pytest.mark.parametrize("why", ["right labels", "not named", "no whitened pixels", "few", "one kind"])
def test_what_is_not_to_be_looked_at_is_not(why: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftover, "odds_of_labels", lambda *args: pytest.fail("it trained"))
    rows = KINDS[0] if why == "one kind" else FOUND
    first, wrong = flags(rows), rows if why != "right labels" else np.empty(0, int)
    ignore = (LABELS == 0) & (np.cumsum(LABELS == 0) > 100) if why == "few" else None
    look = looking(replace(bench, whitened=None) if why == "no whitened pixels" else bench, wrong, ignore)
    np.testing.assert_array_equal(look.extended(first, flags(np.empty(0)) if why == "not named" else first), first)


def test_what_is_added_must_be_labelled_wrongly(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples may share a pattern and be doubted by networks, but if quick networks find that the labels fit, they stay."""
    first = flags(FOUND)
    doubt = np.random.default_rng(0).normal(size=N + RESERVE)
    doubt[LEFT] += 4
    monkeypatch.setattr(Leftover, "_doubt", lambda *args: doubt)
    assert looking(bench, ALL).extended(first, first)[LEFT].mean() > 0.8
    fitting = looking(bench, FOUND)
    fitting.fit[LEFT] = 4
    assert not fitting.extended(first, first)[LEFT].any()


def test_no_sample_is_measured_by_a_mean_that_it_or_its_duplicate_had_a_part_in() -> None:
    rng = np.random.default_rng(0)
    white, groups = rng.normal(size=(60, 12)), np.arange(60) // 2
    first = np.array([0, 1, 4, 9, 30])
    plain = [white[i] @ white[[f for f in first if groups[f] != groups[i]]].mean(0) for i in range(60)]
    np.testing.assert_allclose(pattern(torch.from_numpy(white), first, groups), plain, atol=1e-9)


def test_the_first_are_far_from_the_rest_only_if_they_share_something() -> None:
    """The mean of twenty samples lies in their own direction; measured by the others' they do not stand out."""
    rng = np.random.default_rng(1)
    white, first = torch.from_numpy(rng.normal(size=(2000, 500))), np.arange(FIRST)
    alone = pattern(white, first, np.arange(2000))
    assert abs(alone[first].mean()) < 3 * alone.std() / FIRST**0.5
    white[:FIRST] += 0.3 * torch.from_numpy(rng.choice([-1.0, 1.0], 500))
    shared = pattern(white, first, np.arange(2000))
    assert shared[first].min() > np.quantile(shared[FIRST:], 0.999)


def test_a_killed_run_reads_what_the_networks_said(tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = object.__new__(Distillation)
    audit.how, audit.train, audit.store = ConfusionTraining(), noise_set(9, 0, classes=CLASSES), Store(tmp_path, lambda: "key")
    first = flags(FOUND)
    look = looking(bench, ALL)
    whole = look.extended(first, first, lambda make: audit._kept(0, 4, make))
    monkeypatch.setattr(leftover, "odds_of_labels", lambda *args: pytest.fail("it trained"))
    np.testing.assert_array_equal(look.extended(first, first, lambda make: audit._kept(0, 4, make)), whole)
