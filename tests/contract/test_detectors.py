"""One table of expectations over every detector. A new detector adds its row to `TABLE`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.detectors import coloured
from tests.detectors.planted import planted, victim_of
from tests.detectors.rows import stamped, table
from tests.detectors.synthetic import pictures
from tocsin.attacks import BadNet
from tocsin.data.dataset import Dataset
from tocsin.detectors import DETECTORS, Detector, Findings
from tocsin.detectors.reader import VictimReader
from tocsin.detectors.victim import Victim
from tocsin.errors import InputError
from tocsin.poisoning import poison
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class Case:
    """What a detector is tried on. Detectors that read a victim get ``victim``; the others only the data."""

    train: Dataset
    reserve: Dataset
    truth: np.ndarray
    """(N,) bool."""
    victim: Victim | None = None


def features(seed: int, share: float) -> Case:
    """Ten classes of features; a share of class 3 is planted. No network is trained. Every other clean set is as behind a ReLU."""
    data = planted(seed=seed, share=share, rectified=not share and seed % 2 == 1)
    victim = data.victim()
    return Case(victim.train, victim.reserve, data.poison, victim)


def small_pictures(seed: int, share: float) -> Case:
    clean = pictures(300, seed=seed)
    reserve = pictures(120, seed=1000 + seed)
    if not share:
        return Case(clean, reserve, np.zeros(300, bool))
    poisoned = poison(clean, BadNet(rate=share / 6, target=3), seed)
    return Case(poisoned.dataset, reserve, np.isin(np.arange(300), poisoned.planted))


def read_pictures(seed: int, share: float) -> Case:
    """Pictures with a victim that has only its first weights: for detectors that look at pixels or ask the network again."""
    case = small_pictures(seed, share)
    return replace(case, victim=Victim.untrained(case.train, case.reserve, Runtime(device="cpu", seed=1)))


def speech(seed: int, share: float) -> Case:
    """Made-up words; a share of class 3 carries one and the same equaliser."""
    clean, reserve = coloured.spoken(480, seed=seed), coloured.spoken(240, seed=1000 + seed)
    train, truth = coloured.planted(clean, share, seed=seed) if share else (clean, np.zeros(len(clean), bool))
    return Case(train, reserve, truth)


def few_words(seed: int, share: float) -> Case:
    """As `speech`, with fewer clips: for detectors that train networks on them."""
    case = speech(seed, share)
    return Case(case.train[:120], case.reserve[:80], case.truth[:120])


def small_table(seed: int, share: float) -> Case:
    """Two classes; a share of class 0 is poison."""
    clean, reserve = table(400, seed), table(200, 1000 + seed)
    if not share:
        return Case(clean, reserve, np.zeros(400, bool))
    data, truth = stamped(clean, round(share * 200), seed)
    return Case(data, reserve, truth)


@dataclass(frozen=True)
class Row:
    """What is expected of one detector. ``make(seed, share)`` gives its data: ``share`` of class 3 is poison, 0 none."""

    make: Callable[[int, float], Case] = features
    params: dict[str, Any] = field(default_factory=dict)
    """Settings that keep the tests short."""
    share: float = 0.15
    tpr: float | None = 0.95
    """Floor of the share of poison that is flagged, and of the area under the curve; None: measured in the detector's own tests."""
    fpr: float = 0.01
    """Most clean samples that may be flagged beside it."""
    clean_seeds: int = 6
    """Ceiling: at most one of so many clean sets may be called poisoned. 0: measured in the detector's own tests."""


TABLE = {
    # Confusion Training needs its full length to say anything; its floor and ceiling are in tests/detectors/test_ct.py.
    "ct": Row(
        small_pictures,
        {"members": 2, "keep": (), "pretrain_epochs": (1.0,), "pretrain_least": 4, "confusion_steps": (4,), "confusion_lr": (0.02,),
         "confusion_momentum": (0.9,), "reserve_weight": (20.0,), "mix_every": (1,), "class_weights": (True,)},
        tpr=None,
        clean_seeds=0,
    ),
    "ss": Row(),
    "ac": Row(),
    "scan": Row(),
    "spectre": Row(),
    "beatrix": Row(share=0.2, tpr=0.7),
    # These need a network that has learned, or a network of their own; floor and ceiling are in their tests.
    "strip": Row(read_pictures, {"overlays": 4}, tpr=None, clean_seeds=0),
    "sentinet": Row(read_pictures, {"images": 2, "fit": 20}, tpr=None, clean_seeds=0),
    "asset": Row(
        read_pictures,
        {"shortcut_passes": 0.1, "scout_steps": 10, "steps_least": 4, "passes": 0.1, "batch": 64, "runs": 1},
        tpr=None,
        clean_seeds=0,
    ),
    # Floors and ceilings on tables are in tests/detectors/test_tables.py.
    "boosting": Row(small_table, {"trees": 4, "keep": (0.2,)}, tpr=None, clean_seeds=0),
    "value-shift": Row(small_table, tpr=None, clean_seeds=0),
    "tabular": Row(small_table, {"members": ("boosting", "value-shift")}, tpr=None, clean_seeds=0),
    "abl": Row(read_pictures, {"epochs": 1}, tpr=None, clean_seeds=0),
    # The verdict is tests/detectors/test_combined.py's, its auditors' power tests/detectors/test_audio_stego.py's.
    "audible": Row(few_words, {"members": ("audio-stego",)}, share=0.35, tpr=None, clean_seeds=0),
    # Its auditors have rows of their own; how they are merged is tests/detectors/test_combined.py's.
    "proactive": Row(small_pictures, {"members": ("asset",)}, tpr=None, clean_seeds=0),
    "frequency": Row(read_pictures, {"draws": 1, "steps": 4, "width": 4}, tpr=None, clean_seeds=0),
    # Its network needs more clips and steps than fit here; floor and ceiling are in tests/detectors/test_steganalyser.py.
    "steganalyser": Row(few_words, {"folds": 2, "copies": 1, "steps": 4}, tpr=None, clean_seeds=0),
    "audio-stego": Row(speech, {"judge_epochs": 0, "folds": 3, "voices": 4}, share=0.35, tpr=0.9),
}  # fmt: skip
names = pytest.mark.parametrize("name", list(DETECTORS))
measured = pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.tpr is not None])
readers = pytest.mark.parametrize("name", [name for name, cls in DETECTORS.items() if issubclass(cls, VictimReader)])
on_features = pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.make is features])


def of(name: str, **changes: Any) -> Detector:
    return DETECTORS[name].preset("fast", **{**TABLE[name].params, **changes})


def inspect(detector: Detector, case: Case, runtime: Runtime | None = None) -> Findings:
    runtime = runtime or Runtime(device="cpu", seed=1)
    more = {"victim": case.victim} if isinstance(detector, VictimReader) else {}
    return detector.inspect(case.train, case.reserve, runtime, **more)


@cache
def poisoned(name: str) -> tuple[Case, Findings]:
    case = TABLE[name].make(0, TABLE[name].share)
    return case, inspect(of(name), case)


def test_every_detector_has_a_row() -> None:
    assert set(TABLE) == set(DETECTORS)


@names
def test_forms_of_the_answer(name: str) -> None:
    case, found = poisoned(name)
    n = len(case.train)
    assert (found.detector, found.preset, found.oracle) == (name, "fast", False)
    assert (found.scores.dtype, found.scores.shape) == (np.float32, (n,))
    assert (found.flagged.dtype, found.flagged.shape) == (np.bool_, (n,))
    assert (found.control.dtype, found.control.ndim) == (np.float32, 1)
    assert 0 < len(found.control) <= len(case.reserve)
    assert np.isfinite(found.scores).all()
    assert np.isfinite(found.control).all()
    assert 0 <= found.confidence <= 1
    assert [(c.index, c.name, c.size) for c in found.classes] == [
        (k, case.train.classes[k], size) for k, size in enumerate(case.train.class_counts)
    ]
    assert [c.flagged for c in found.classes] == np.bincount(case.train.labels[found.flagged], minlength=len(found.classes)).tolist()
    assert all(0 <= c.p_value <= 1 and np.isfinite(c.statistic) for c in found.classes)
    assert all(c.suspect for c in found.classes if c.flagged)
    json.dumps(dict(found.evidence), allow_nan=False)
    assert found.timings
    assert all(seconds >= 0 for seconds in found.timings.values())


@names
def test_same_input_same_answer_and_nothing_is_changed(name: str) -> None:
    _, first = poisoned(name)
    case = TABLE[name].make(0, TABLE[name].share)
    arrays = [case.train.inputs, case.train.labels, case.reserve.inputs, case.reserve.labels]
    if case.victim is not None:
        arrays += [a for a in vars(case.victim).values() if isinstance(a, np.ndarray)]
    before = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False  # as a memory map opened for reading would be
    again = inspect(of(name), case)
    np.testing.assert_array_equal(again.scores, first.scores)
    np.testing.assert_array_equal(again.control, first.control)
    np.testing.assert_array_equal(again.flagged, first.flagged)
    assert again.classes == first.classes
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


@measured
def test_floor_and_direction(name: str) -> None:
    row = TABLE[name]
    for seed in range(2):
        case = row.make(seed, row.share)
        found = inspect(of(name), case)
        assert row.tpr is not None
        assert found.flagged[case.truth].mean() >= row.tpr
        assert found.flagged[~case.truth].mean() <= row.fpr
        assert [c.index for c in found.classes if c.suspect] == [3]
        assert roc_auc_score(case.truth, found.scores) >= row.tpr  # an inverted score would be near 0
        assert np.median(found.scores[case.truth]) > np.quantile(found.control, 0.95)


@measured
def test_ceiling_on_clean_data(name: str) -> None:
    row = TABLE[name]
    loud = [seed for seed in range(row.clean_seeds) if inspect(of(name), row.make(100 + seed, 0.0)).found]
    assert len(loud) <= 1


@names
def test_progress_goes_from_nothing_to_all(name: str) -> None:
    steps: list[tuple[str, float]] = []
    case = TABLE[name].make(0, TABLE[name].share)
    runtime = Runtime(device="cpu", seed=1, progress=lambda stage, fraction: steps.append((stage, fraction)))
    if case.victim is not None:
        object.__setattr__(case.victim, "runtime", runtime)
    inspect(of(name), case, runtime)
    assert steps
    for stage in {stage for stage, _ in steps}:
        fractions = [f for s, f in steps if s == stage]
        assert 0 <= min(fractions) <= max(fractions) <= 1
        assert fractions[-1] == pytest.approx(1)


@names
def test_presets(name: str) -> None:
    cls = DETECTORS[name]
    assert cls.preset("fast", **TABLE[name].params) == of(name)
    assert cls.preset("paper") != cls.preset("fast")
    with pytest.raises(InputError, match="preset: got 'quick'"):
        cls.preset("quick")


@names
def test_every_setting_has_its_sentence_and_a_plain_type(name: str) -> None:
    """The command line's options come from the fields."""
    from tocsin.params import parse_fields, settings_of

    cls = DETECTORS[name]
    said = {f.name: "none" if getattr(cls(), f.name) is None else getattr(cls(), f.name) for f in settings_of(cls)}
    assert cls(**parse_fields(cls, {k: ",".join(map(str, v)) if isinstance(v, tuple) else str(v) for k, v in said.items()})) == cls()


@readers
def test_canaries_are_refused(name: str) -> None:
    case = TABLE[name].make(0, TABLE[name].share)
    canaries = np.full(len(case.train), -1, np.int8)
    canaries[0] = 0
    with pytest.raises(InputError, match=f"canaries: {name} cannot take them"):
        of(name).inspect(case.train, case.reserve, Runtime(device="cpu"), canaries=canaries)


@pytest.mark.parametrize("name", [name for name, cls in DETECTORS.items() if "oracle" in {f.name for f in fields(cls)}])
def test_an_oracle_is_said(name: str) -> None:
    case, without = poisoned(name)
    kind = str(DETECTORS[name].__dataclass_fields__["oracle"].type)
    oracle: Any = 0.02 if "float" in kind else tuple(np.flatnonzero(~case.truth).tolist())
    assert not without.oracle
    assert inspect(of(name, oracle=oracle), case).oracle


# What follows is about detectors that read a victim's features and logits alone: any features can be given to them.


@on_features
def test_rows_in_another_order_get_the_same_scores(name: str) -> None:
    data = planted(share=TABLE[name].share)
    order = np.random.default_rng(5).permutation(len(data.labels))
    moved = victim_of(data.features[order], data.labels[order], data.reserve_features, data.reserve_labels, 10)
    expected, got = (of(name).inspect(v.train, v.reserve, v.runtime, victim=v) for v in (data.victim(), moved))
    np.testing.assert_allclose(got.scores, expected.scores[order], rtol=1e-2, atol=1e-2)
    np.testing.assert_array_equal(got.flagged, expected.flagged[order])


@on_features
def test_features_that_are_no_numbers_are_refused(name: str) -> None:
    data = planted(classes=2)
    data.features[3, 0] = np.nan
    with pytest.raises(InputError, match="features: 1 of 400 rows hold NaN"):
        of(name).inspect(data.victim().train, data.victim().reserve, Runtime(device="cpu"), victim=data.victim())


def constant() -> Victim:
    y, s = np.arange(60) % 3, np.arange(30) % 3
    return victim_of(np.full((60, 5), 2.5, np.float32), y, np.full((30, 5), 2.5, np.float32), s, 3)


def mostly_zero() -> Victim:
    rng = np.random.default_rng(0)
    x, r = (rng.random((n, 8)) * (rng.random((n, 8)) < 0.05) for n in (300, 90))
    return victim_of(x.astype(np.float32), np.arange(300) % 3, r.astype(np.float32), np.arange(90) % 3, 3)


def one_sample_in_a_class() -> Victim:
    data = planted(classes=4)
    keep = (data.labels != 2) | (np.arange(len(data.labels)) == np.flatnonzero(data.labels == 2)[0])
    return victim_of(data.features[keep], data.labels[keep], data.reserve_features, data.reserve_labels, 4)


def empty_class() -> Victim:
    data = planted(classes=4)
    mine, theirs = data.labels != 2, data.reserve_labels != 1
    return victim_of(data.features[mine], data.labels[mine], data.reserve_features[theirs], data.reserve_labels[theirs], 4)


def two_classes() -> Victim:
    return planted(classes=2).victim()


def one_class() -> Victim:
    return planted(classes=1, target=0).victim()


def thousand_classes() -> Victim:
    return planted(classes=1000, each=3, reserve_each=1, width=4).victim()


def wider_than_long() -> Victim:
    return planted(classes=3, each=20, reserve_each=10, width=120).victim()


def one_feature() -> Victim:
    return planted(classes=3, width=1).victim()


def tiny() -> Victim:
    return planted(classes=2, each=2, reserve_each=1, width=3).victim()


@on_features
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "make",
    [
        constant,
        mostly_zero,
        one_sample_in_a_class,
        empty_class,
        two_classes,
        one_class,
        thousand_classes,
        wider_than_long,
        one_feature,
        tiny,
    ],
)
def test_degenerate_data_neither_break_it_nor_are_a_finding(name: str, make: Callable[[], Victim]) -> None:
    victim = make()
    for preset in ("fast",) if make is thousand_classes else ("fast", "paper"):
        found = DETECTORS[name].preset(preset).inspect(victim.train, victim.reserve, victim.runtime, victim=victim)
        assert np.isfinite(found.scores).all()
        assert np.isfinite(found.control).all()
        assert found.scores.shape == (len(victim.train),)
        assert found.control.shape == (len(victim.reserve),)
        assert len(found.classes) == len(victim.train.classes)
        json.dumps(dict(found.evidence), allow_nan=False)
        assert preset == "paper" or not found.found
