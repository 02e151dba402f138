from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.detectors.synthetic import pictures
from tocsin.attacks import BadNet
from tocsin.auditing import audit
from tocsin.data.dataset import Dataset, concatenate
from tocsin.detectors.asset import Asset
from tocsin.detectors.ct import hold_out
from tocsin.detectors.offset import OffsetSettings, offset, recalibrate, score, spread
from tocsin.detectors.scout import ScoutSettings, of_batch, standardised, whole_set
from tocsin.detectors.victim import Victim
from tocsin.detectors.workbench import Bench
from tocsin.errors import InputError
from tocsin.poisoning import poison
from tocsin.runtime import Runtime

CPU = torch.device("cpu")
QUICK = {"steps_least": 60, "scout_steps": 200}


def poisoned(seed: int, count: int = 1500, rate: float = 0.03) -> tuple[Dataset, np.ndarray]:
    made = poison(pictures(count, seed=seed), BadNet(rate=rate, target=3), seed)
    truth = np.zeros(count, bool)
    truth[made.planted] = True
    return made.dataset, truth


def test_a_patch_is_found():
    train, truth = poisoned(0)
    found = Asset.preset("fast", **QUICK).inspect(train, pictures(600, seed=1000), Runtime(device="cpu", seed=1))
    assert [c.index for c in found.classes if c.suspect] == [3]
    assert found.flagged[truth].mean() > 0.95
    assert found.flagged[~truth].mean() < 0.01
    assert roc_auc_score(truth, found.scores) > 0.99
    assert abs(len(found.control) - 300) <= 3


@pytest.mark.parametrize(("reserve", "concentrated", "needed"), [(600, 100, 3.68), (1200, 15, 2.17), (200, 15, 3.68)])
def test_clean_data_are_left_alone_and_small_ones_with_more_caution(reserve, concentrated, needed, monkeypatch):
    """1,500 pictures, of which 15 are concentrated, half of each class of the reserve being held out."""
    monkeypatch.setattr("tocsin.detectors.asset_verdict._CONCENTRATED", concentrated)
    found = Asset.preset("fast", **QUICK).inspect(pictures(1500, seed=0), pictures(reserve, seed=1000), Runtime(device="cpu", seed=1))
    assert not found.found
    assert found.confidence > 0.5
    assert found.evidence["gap needed"] == pytest.approx(needed, abs=0.01)


def test_the_published_procedure_runs_and_its_thresholds_differ():
    train, _ = poisoned(0, count=400, rate=0.1)
    short = {"victim_network": "small", "victim_epochs": 2, "network": "small", "batch": 100, "scout_steps": 5, "lr": 1e-3}
    reserve, runtime = pictures(200, seed=1000), Runtime(device="cpu", seed=1)
    found = Asset.preset("paper", **short).inspect(train, reserve, runtime)
    assert found.preset == "paper"
    assert len(found.control) == 0
    assert found.evidence["base"] == 200
    (run,) = found.evidence["runs"]
    assert run["folds"][0]["steps"] == 4
    limits = {found.threshold}
    for decision in ("intended", "scale-free"):
        again = Asset.preset("paper", **short, decision=decision).inspect(train, reserve, runtime)
        np.testing.assert_array_equal(again.scores, found.scores)
        limits.add(again.threshold)
    assert len(limits) == 3


def test_an_audit_reads_the_network_that_is_named(monkeypatch):
    """Not the one that detectors share: `paper` means a ResNet-18, and whoever asks for more passes is to get them."""
    asked, trained = [], Victim.trained

    def noted(*given, **how):
        asked.append(how)
        return trained(*given, **how)

    monkeypatch.setattr(Victim, "trained", noted)
    train, _ = poisoned(0, count=400, rate=0.1)
    how = {"features": "victim", "network": "small", "runs": 1, "passes": 0.1, "steps_least": 1, "scout_steps": 1}
    common = {"detector": "asset", "canaries": False, "runtime": Runtime(device="cpu", seed=1)}
    audit(train, pictures(200, seed=1000), params={**how, "victim_network": "small-narrow", "victim_epochs": 1}, **common)
    assert asked == [{"network": "small-narrow", "epochs": 1}]
    asked.clear()
    audit(train, pictures(200, seed=1000), params=how, **common)
    assert asked == [{}]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"runs": 0}, "runs 0"),
        ({"share": 1.5}, "share 1.5"),
        ({"control_share": 0.0}, "control_share"),
        ({"network": "small"}, "features=victim"),
    ],
)
def test_settings_that_cannot_be(changes, word):
    with pytest.raises(InputError, match=word):
        Asset.preset("fast", **changes)


def test_a_reserve_of_two_is_refused():
    with pytest.raises(InputError, match="reserve"):
        Asset.preset("fast", **QUICK).inspect(pictures(50, seed=0), pictures(2, seed=1), Runtime(device="cpu"))


def test_held_out_samples_are_of_every_class():
    labels = np.repeat([0, 1, 2], [40, 2, 1])
    held = hold_out(labels, 3, 0.5, seed=0)
    assert np.bincount(labels[held], minlength=3).tolist() == [20, 1, 0]
    assert not hold_out(labels, 3, 0.0, seed=0).any()


# The scouts.

HOW = ScoutSettings((32,), 150, 1e-2, "bce", 64)


def marked(rng: np.random.Generator, n: int, base: int, poison: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of which the last ``poison`` are moved, of the base set, and of samples held out."""
    x = rng.normal(size=(n, 10)).astype(np.float32)
    x[n - poison :, :3] += 2.5
    return x, rng.normal(size=(base, 10)).astype(np.float32), rng.normal(size=(200, 10)).astype(np.float32)


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_scouts_concentrate_what_the_base_set_lacks(loss):
    x, base, rest = marked(np.random.default_rng(0), 800, 400, 40)
    truth = np.arange(800) >= 760
    how = replace(HOW, loss=loss)
    logits, aside = whole_set(x, base, rest, np.arange(800) % 5, how, 0, CPU, lambda: None)
    assert roc_auc_score(truth, logits) > 0.92
    assert abs(roc_auc_score(np.arange(960) >= 760, np.concatenate([logits[~truth], aside])) - 0.5) < 0.1  # clean and held out: alike
    rows = np.r_[0:90, 760:770]
    alone = of_batch(torch.from_numpy(x[rows]), torch.from_numpy(base[:100]), how, torch.Generator().manual_seed(0))
    assert roc_auc_score(truth[rows], alone) > 0.9


def test_no_sample_shapes_the_scout_that_judges_it():
    """Nothing distinguishes the two sides: a scout that had seen the sample would still have learned its mark by heart."""
    rng = np.random.default_rng(1)
    x, base, rest = (rng.normal(size=(size, 60)).astype(np.float32) for size in (300, 60, 300))
    logits, aside = whole_set(x, base, rest, np.arange(300) % 5, replace(HOW, steps=400), 0, CPU, lambda: None)
    assert abs(roc_auc_score(np.arange(600) < 300, np.concatenate([logits, aside])) - 0.5) < 0.1
    one, _ = whole_set(x, base, rest, np.zeros(300, int), HOW, 0, CPU, lambda: None)
    assert (one == 0).all()  # a single fold leaves nothing to learn from


def test_standardised_by_the_base_set_without_a_division_by_nothing():
    rng = np.random.default_rng(2)
    base = np.column_stack([rng.normal(5, 3, 100), np.full(100, 7.0)])
    out = standardised(np.concatenate([base, base + 1]), base)
    assert np.isfinite(out).all()
    assert out[:100, 0].mean() == pytest.approx(0, abs=1e-5)
    assert out[:100, 0].std() == pytest.approx(1, abs=1e-5)


# The offset loop.


def bench_of(train: Dataset, reserve: Dataset) -> Bench:
    joined = concatenate(train, reserve)
    return Bench.of(joined.inputs, joined.labels, train, CPU, branch=True)


SETTINGS = OffsetSettings(passes=1, least_steps=60, batch=64, lr=1e-3, labelled=True, whole_batch=True, least=2, ceiling=50.0)


def loop(bench, chosen, how=SETTINGS, n=600):
    network = bench.network("shortcut", 1.0, 0)
    generator = torch.Generator().manual_seed(0)
    rows, base = torch.arange(n), torch.arange(n, len(bench.labels))
    history = offset(network, bench, rows, base, lambda ours, theirs, _: chosen[ours], how, generator, lambda: None)
    recalibrate(network, bench, rows)
    return network, history


def test_spread_is_the_variance_over_the_logits():
    assert spread(torch.tensor([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]])).tolist() == pytest.approx([2 / 3, 0])


def test_concentrated_poison_is_driven_away_from_clean_samples():
    train, truth = poisoned(2, count=600, rate=0.1)
    bench = bench_of(train, pictures(300, seed=1002))
    network, history = loop(bench, torch.from_numpy(truth))
    values = score(network, bench, torch.arange(600), True, lambda: None)
    assert np.median(values[truth]) > 3 * np.median(values[~truth])
    assert np.median(values[truth]) > np.quantile(values[~truth], 0.99)
    assert history.steps == 60
    assert history.skipped == 0
    assert history.ascended > 2
    without = score(network, bench, torch.arange(600), False, lambda: None)
    assert roc_auc_score(truth, without) > 0.95  # the unlabelled score tells them too


def test_without_concentrated_samples_only_the_min_step_is_taken():
    """And the health check of specification 2.2: cross entropy ln K for clean samples, whatever their label."""
    bench = bench_of(pictures(600, seed=3), pictures(300, seed=1003))
    network, history = loop(bench, torch.zeros(600, dtype=torch.bool))
    assert (history.skipped, history.concentrated) == (60, 0)
    assert history.ascended is None
    values = score(network, bench, torch.arange(600), True, lambda: None)
    assert np.isfinite(values).all()
    assert values.mean() == pytest.approx(math.log(6), abs=0.3)


def test_ascent_stops_at_its_ceiling():
    train, truth = poisoned(4, count=600, rate=0.1)
    bench = bench_of(train, pictures(300, seed=1004))
    low = loop(bench, torch.from_numpy(truth), replace(SETTINGS, ceiling=3.0, least_steps=150))[1].ascended
    high = loop(bench, torch.from_numpy(truth), replace(SETTINGS, least_steps=150))[1].ascended
    assert low < 6 < high


def test_recalibration_takes_the_given_rows_alone_and_leaves_the_momentum():
    bench = bench_of(pictures(200, seed=5), pictures(60, seed=1005))
    network = bench.network("shortcut", 1.0, 0)
    norm = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    momentum = norm.momentum
    recalibrate(network, bench, torch.arange(100))
    first = norm.running_mean.clone()
    recalibrate(network, bench, torch.arange(100))
    assert torch.equal(first, norm.running_mean)
    assert norm.momentum == momentum
    recalibrate(network, bench, torch.arange(100, 200))
    assert not torch.equal(first, norm.running_mean)
