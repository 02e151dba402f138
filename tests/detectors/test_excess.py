"""The class test behind STRIP, SentiNet and Frequency, against scipy and simulations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import fisher_exact, nchypergeom_fisher

from tests.detectors.handmade import linear_victim, noise_set
from tocsin.data.dataset import Dataset
from tocsin.detectors.excess import chance_of_clean, class_test, excess_p, split
from tocsin.detectors.sentinet import SentiNet
from tocsin.detectors.strip import Strip
from tocsin.errors import InputError


@pytest.mark.parametrize(
    ("x", "n", "c", "m"), [(7, 20, 1, 10), (0, 5, 0, 3), (300, 4000, 2, 60), (5, 5, 0, 4), (0, 9, 4, 4), (2, 30, 9, 30)]
)
def test_excess_p_is_fishers_exact_test(x: int, n: int, c: int, m: int) -> None:
    assert excess_p(x, n, c, m, 1.0) == pytest.approx(fisher_exact([[x, n - x], [c, m - c]], alternative="greater")[1], rel=1e-6)
    wanted = nchypergeom_fisher(n + m, x + c, m, 1 / 2.5).cdf(c)  # odds of a control sample to be among the x + c are 1 / 2.5
    assert excess_p(x, n, c, m, 2.5) == pytest.approx(wanted, rel=1e-6)


def simulated(rng: np.random.Generator, *, classes: int = 10, n: int = 500, m: int = 60) -> tuple[np.ndarray, ...]:
    """Clean scores of classes with places and spreads of their own: scores, labels, control, control labels."""
    place, spread = rng.normal(0, 1, classes), rng.uniform(0.5, 2, classes)
    labels, control_labels = np.repeat(np.arange(classes), n), np.repeat(np.arange(classes), m)
    draw = [place[y] + spread[y] * rng.standard_normal(len(y)) for y in (labels, control_labels)]
    return draw[0], labels, draw[1], control_labels


def test_clean_classes_are_rarely_named_even_if_each_has_its_own_law() -> None:
    rng = np.random.default_rng(0)
    smallest = [class_test(*simulated(rng, n=300, m=40), 10, share=0.1, tolerance=1.0).p.min() * 10 for _ in range(60)]
    assert np.mean(np.array(smallest) <= 0.05) <= 0.1  # 5 % were expected of an exact test without a margin
    assert np.min(smallest) > 1e-4


@pytest.mark.parametrize("classes", [2, 10])
def test_a_poisoned_class_is_named_alone(classes: int) -> None:
    rng = np.random.default_rng(1)
    scores, labels, control, control_labels = simulated(rng, classes=classes)
    scores[:100] = scores.max() + rng.random(100)  # a fifth of class 0
    test = class_test(scores, labels, control, control_labels, classes, share=0.1, tolerance=1.5)
    assert test.p[0] < 0.01 / classes
    assert test.p[1:].min() > 0.01
    assert (scores[100:500] > test.cuts[0]).mean() == pytest.approx(0.1, abs=0.08)


def test_what_all_classes_have_in_common_is_no_evidence() -> None:
    """A network knows what it was trained on; a reserve from another camera looks different throughout."""
    scores, labels, control, control_labels = simulated(np.random.default_rng(2))
    assert class_test(scores + 0.7, labels, control, control_labels, 10, share=0.1, tolerance=1.5).p.min() > 0.01


def test_classes_without_control_or_samples_are_never_named() -> None:
    scores, labels, control, control_labels = simulated(np.random.default_rng(3), classes=3)
    keep, keep_control = labels != 1, control_labels != 2
    test = class_test(
        scores[keep] + 9 * (labels[keep] == 2),
        labels[keep],
        control[keep_control],
        control_labels[keep_control],
        4,
        share=0.1,
        tolerance=1.5,
    )
    assert (test.p[1:] == 1).all()
    assert np.isinf(test.cuts[[2, 3]]).all()


def test_chance_of_clean_has_the_published_values() -> None:
    """Sellke, Bayarri, Berger 2001: p = 0.05 leaves at least 29 % for the null hypothesis, 0.01 at least 11 %."""
    assert [round(chance_of_clean(p), 3) for p in (0.05, 0.01, 0.001, 0.5, 1.0, 0.0)] == [0.289, 0.111, 0.018, 0.5, 0.5, 0.0]


def test_parts_of_the_reserve_are_disjoint_and_never_empty() -> None:
    reserve = noise_set(20, 0)
    for size in range(3, 20):
        parts = split(reserve[:size], (5, 400), np.random.default_rng(0), "x")
        assert sorted(np.concatenate([p.ids for p in parts]).tolist(), key=int) == [str(i) for i in range(size)]
        assert min(map(len, parts)) >= 1
        assert len(parts[0]) <= 5
    with pytest.raises(InputError, match="reserve: got 2 samples, x needs at least 3"):
        split(reserve[:2], (5, 400), np.random.default_rng(0), "x")


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.0}, {"alpha": 0.0}, {"tolerance": 0.9}, {"tolerance": float("nan")}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="share"):
        Strip(**wrong)


def test_presets() -> None:
    assert (Strip.preset("paper").overlays, Strip.preset("paper").decision, Strip.preset("paper").preset_name) == (100, "every", "paper")
    assert Strip.preset("paper", overlays=7).overlays == 7
    assert Strip.preset("fast") == Strip()
    with pytest.raises(InputError, match="preset"):
        Strip.preset("thorough")


def constant_set(count: int) -> Dataset:
    return Dataset.of_arrays(np.full((count, 8, 8, 1), 7, np.uint8), np.arange(count) % 3)


def one_sample_in_a_class() -> tuple[Dataset, Dataset]:
    train = noise_set(60, 0)
    return train[(train.labels != 2) | (np.arange(60) == 2)], noise_set(30, 1)


def class_without_reserve() -> tuple[Dataset, Dataset]:
    train, reserve = noise_set(60, 0), noise_set(30, 1)
    return train[train.labels != 2], reserve[reserve.labels != 1]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", [Strip(overlays=4), SentiNet(images=4, fit=10)], ids=lambda method: method.name)
@pytest.mark.parametrize(
    "sets",
    [
        lambda: (constant_set(60), constant_set(30)),
        one_sample_in_a_class,
        class_without_reserve,
        lambda: (noise_set(60, 0, classes=2), noise_set(30, 1, classes=2)),
        lambda: (noise_set(60, 0, classes=1), noise_set(30, 1, classes=1)),
        lambda: (noise_set(1000, 0, classes=1000, size=2), noise_set(1000, 1, classes=1000, size=2)),
        lambda: (noise_set(60, 0, size=1), noise_set(30, 1, size=1)),
    ],
    ids=["constant", "one sample in a class", "class without reserve", "two classes", "one class", "1,000 classes", "one pixel"],
)
def test_degenerate_data_neither_break_it_nor_are_a_finding(method: Strip | SentiNet, sets: Callable[[], tuple[Dataset, Dataset]]) -> None:
    victim, _ = linear_victim(*sets())
    found = method.inspect(victim.train, victim.reserve, victim.runtime, victim=victim)
    assert found.scores.shape == (len(victim.train),)
    assert np.isfinite(found.scores).all()
    assert not found.found


@pytest.mark.parametrize("method", [Strip(overlays=4), SentiNet(images=4, fit=10)], ids=lambda method: method.name)
def test_a_network_that_diverged_is_named(method: Strip | SentiNet) -> None:
    victim, _ = linear_victim(noise_set(60, 0), noise_set(30, 1))
    victim.network.head.weight.data[0, 0] = float("nan")
    with pytest.raises(InputError, match="diverged"):
        method.inspect(victim.train, victim.reserve, victim.runtime, victim=victim)
