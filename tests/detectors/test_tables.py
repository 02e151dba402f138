"""The detectors of tables: floors on planted stamps, silence on clean rows, and what they share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.detectors.rows import split_classes, stamped, table
from tocsin import boosting
from tocsin.auditing import audit
from tocsin.boosting import WIDE, Growth
from tocsin.data import rows as rows_module
from tocsin.data.dataset import Column, Dataset
from tocsin.data.rows import Rows
from tocsin.detectors import DETECTORS, usual_detector
from tocsin.detectors.base import class_evidence
from tocsin.detectors.boosting import Boosting, halves
from tocsin.detectors.confusion import confuse, shift, wrong_labels
from tocsin.detectors.control import TOLERANCE, against_control
from tocsin.detectors.ct import ConfusionTraining
from tocsin.detectors.decide import Scored, Verdict, cut, judged_apart
from tocsin.detectors.rounds import combine
from tocsin.detectors.rules import finished
from tocsin.detectors.tabular import Tabular
from tocsin.detectors.value_shift import ValueShift
from tocsin.errors import InputError
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu", seed=1)
SHORT = {
    "keep": (0.1,),
    "pretrain_epochs": (1.0, 1.0),
    "pretrain_steps": (150, 75),
    "confusion_steps": (75, 75),
    "confusion_lr": (0.01, 0.01),
    "confusion_momentum": (0.7, 0.7),
    "reserve_weight": (6.0, 6.0),
    "mix_every": (1, 1),
    "class_weights": (True, True),
}
QUICK = Boosting(trees=20, keep=(0.2,))


@pytest.fixture(scope="module")
def reserve() -> Dataset:
    return table(600, 2)


@pytest.fixture(scope="module")
def planted() -> tuple[Dataset, np.ndarray]:
    return stamped(table(2000, 1), 50, 1)


def scored(scores: np.ndarray, labels: np.ndarray, control: np.ndarray, control_labels: np.ndarray) -> Scored:
    ignore = np.zeros(len(labels), bool)
    return Scored([{"v": scores}], labels, ("a", "b"), ignore, control=[{"v": control}], control_labels=control_labels)


def test_with_two_classes_the_wrong_label_is_always_the_other() -> None:
    assert {shift(step, 2) for step in range(7)} == {1}


def test_confusion_training_ranks_the_planted_rows_highest(planted: tuple[Dataset, np.ndarray], reserve: Dataset) -> None:
    data, truth = planted
    found = ConfusionTraining.preset_for("table", "fast", **SHORT).inspect(data, reserve, CPU)
    mine = data.labels == 0
    assert roc_auc_score(truth[mine], found.scores[mine]) > 0.95
    assert len(found.control) == len(reserve)  # every reserve row is control for the network that it did not confuse
    assert found.evidence["settings"]["network"] == "shortcut"


def test_confusion_training_completes_what_it_flags_by_the_shared_rule(
    planted: tuple[Dataset, np.ndarray], reserve: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, truth = planted
    rows = np.flatnonzero(truth)
    part, canaries = np.zeros(len(data), bool), np.full(len(data), -1, np.int8)
    part[rows[:20]], canaries[rows[-5:]] = True, 0
    one, zero = np.array([1.0, 0.0]), np.zeros(2)
    verdict = Verdict(part, class_evidence(data.classes, data.labels, part, one, zero, one > 0), 0.9, 1.0)
    monkeypatch.setattr("tocsin.detectors.decide.judged_apart", lambda *args: verdict)
    found = ConfusionTraining.preset_for("table", "fast", **SHORT).inspect(data, reserve, CPU, canaries=canaries)
    np.testing.assert_array_equal(np.flatnonzero(found.flagged), rows[:-5])  # canaries are no rows of the person's
    assert [c.flagged for c in found.classes] == [45, 0]
    assert {pair["column"] for pair in found.evidence["rules"]["benign"]} == {f"version {k}" for k in range(2, 8)}
    found = ConfusionTraining.preset_for("table", "fast", **SHORT, finish=False).inspect(data, reserve, CPU, canaries=canaries)
    np.testing.assert_array_equal(found.flagged, part)


def test_the_other_presets_take_tables_too(reserve: Dataset) -> None:
    assert ConfusionTraining.preset_for("table", "fast").preset_name == "table"
    assert ConfusionTraining.preset_for("image", "fast") == ConfusionTraining()
    assert ConfusionTraining.preset_for("table", "thorough").members > ConfusionTraining.preset_for("table", "fast").members
    paper = ConfusionTraining.preset_for("table", "paper")
    assert (paper.network, paper.decision, paper.rotate) == ("mlp", "likelihood", False)
    with pytest.raises(InputError, match="preset: got 'quick'"):
        ConfusionTraining.preset_for("table", "quick")
    with pytest.raises(InputError, match="rotate: needs cross_fit"):
        ConfusionTraining.preset_for("table", "fast", cross_fit=False, members=1)
    with pytest.raises(InputError, match="pretrain_steps: got 1 entries"):
        ConfusionTraining(pretrain_steps=(3,))


def test_the_first_round_can_be_left_out_of_the_mean() -> None:
    first, second = np.array([0.0, 2, 4, 6]), np.array([1.0, -1, 1, -1])
    ignore = np.zeros(4, bool)
    np.testing.assert_allclose(combine([first, second], 4, ignore, 0.0), second)
    np.testing.assert_allclose(combine([first], 4, ignore, 0.0), first / first.std(), rtol=1e-6)


@pytest.mark.parametrize("detector", [QUICK, ValueShift()], ids=lambda d: d.name)
def test_a_stamp_is_found_and_its_class_named(
    detector: Boosting | ValueShift, planted: tuple[Dataset, np.ndarray], reserve: Dataset
) -> None:
    data, truth = planted
    found = detector.inspect(data, reserve, CPU)
    assert [c.index for c in found.classes if c.suspect] == [0]
    assert found.flagged[truth].mean() >= 0.95
    assert found.flagged[~truth].mean() <= 0.01
    assert np.median(found.scores[truth]) > np.quantile(found.control, 0.99)


@pytest.mark.parametrize("detector", [QUICK, ValueShift()], ids=lambda d: d.name)
def test_clean_tables_stay_silent(detector: Boosting | ValueShift) -> None:
    loud = [seed for seed in range(3) if detector.inspect(table(1000, seed), table(400, 50 + seed), CPU).found]
    assert loud == []


def test_a_stamp_is_found_among_four_classes() -> None:
    data, truth = stamped(split_classes(table(3000, 1)), 50, 1, target=2)
    reserve = split_classes(table(900, 2))
    for detector in (QUICK, ValueShift()):
        found = detector.inspect(data, reserve, CPU)
        assert [c.index for c in found.classes if c.suspect] == [2]
        assert found.flagged[truth].mean() >= 0.95
        assert found.flagged[~truth].mean() <= 0.01
    found = ConfusionTraining.preset_for("table", "fast", **SHORT).inspect(data, reserve, CPU)
    mine = data.labels == 2
    assert roc_auc_score(truth[mine], found.scores[mine]) > 0.95


def test_the_rule_of_a_stamp_is_said(planted: tuple[Dataset, np.ndarray], reserve: Dataset) -> None:
    found = ValueShift().inspect(planted[0], reserve, CPU)
    (stamp,) = found.evidence["stamps"]["benign"]
    assert {pair["column"] for pair in stamp["pairs"]} == {f"version {k}" for k in range(2, 8)}
    assert stamp["rows"] == 50


def test_the_verdict_of_all_is_the_default_for_tables(
    planted: tuple[Dataset, np.ndarray], reserve: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, truth = planted
    assert (usual_detector("table"), usual_detector("image"), usual_detector("speech")) == ("tabular", "proactive", "audible")
    monkeypatch.setattr("tocsin.detectors.boosting.PRESETS", {"fast": QUICK})
    report = audit(data, reserve, params={"members": "boosting,value-shift"}, runtime=CPU)
    assert report.settings["detector"] == "tabular"
    assert report.flagged[truth].all()
    assert report.flagged[~truth].mean() <= 0.01
    assert len(report.findings.scores) == len(data)
    assert report.canaries[0].planted > 0
    assert report.findings.evidence["rules"]["benign"]


def test_a_mapped_table_gets_the_same_verdict(
    planted: tuple[Dataset, np.ndarray], reserve: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _ = planted
    data.inputs.tofile(tmp_path / "x")
    mapped = replace(data, inputs=np.memmap(tmp_path / "x", np.float32, "r", shape=data.inputs.shape))
    expected = audit(data, reserve, detector="value-shift", runtime=CPU)
    steps = {**SHORT, "pretrain_steps": (5, 5), "confusion_steps": (5, 5)}
    short = (ConfusionTraining.preset_for("table", "fast", **steps), Boosting(trees=3, keep=()))
    in_memory = [detector.inspect(data, reserve, CPU) for detector in short]
    monkeypatch.setattr(rows_module, "LARGE", 1)
    got = audit(mapped, reserve, detector="value-shift", runtime=CPU)
    assert expected.flagged.any()
    np.testing.assert_array_equal(got.flagged, expected.flagged)
    view = replace(mapped, inputs=rows_module.stacked([mapped.inputs]))
    assert isinstance(view.inputs, Rows)
    for detector, same in zip(short, in_memory, strict=True):
        np.testing.assert_array_equal(detector.inspect(view, reserve, CPU).scores, same.scores)


OWN = ("tabular", "boosting", "value-shift", "ct")


@pytest.mark.parametrize("name", [name for name, cls in DETECTORS.items() if "table" in cls.kinds and name not in OWN])
def test_the_others_read_tables(name: str) -> None:
    """Tables of four classes. Without a floor: what they find of a stamp is in docs/tables-detection.md."""
    few = {"shortcut_passes": 0.1, "scout_steps": 10, "steps_least": 4, "passes": 0.1, "batch": 64, "runs": 1} if name == "asset" else {}
    data, reserve = split_classes(table(400, 1)), split_classes(table(200, 2))
    found = DETECTORS[name].preset_for("table", "fast", **few).inspect(data, reserve, CPU)
    assert np.isfinite(found.scores).all()
    assert found.scores.shape == (400,)


@pytest.mark.filterwarnings("error")
def test_columns_that_never_vary_or_are_empty_break_nothing(planted: tuple[Dataset, np.ndarray], reserve: Dataset) -> None:
    data, truth = planted
    steps = {**SHORT, "pretrain_steps": (10, 10), "confusion_steps": (10, 10)}
    detectors = (ConfusionTraining.preset_for("table", "fast", **steps), QUICK, ValueShift())

    def widened(rows: Dataset) -> Dataset:
        more = np.tile(np.array([7, np.nan, 0], np.float32), (len(rows), 1))
        columns = (*(rows.columns or ()), Column("same"), Column("empty"), Column("level", ("only",)))
        return replace(rows, inputs=np.column_stack([rows.inputs, more]), columns=columns)

    def all_alike(rows: Dataset) -> Dataset:
        return replace(rows, inputs=np.ones_like(rows.inputs))

    for detector in detectors:
        found = detector.inspect(widened(data), widened(reserve), CPU)
        assert np.isfinite(found.scores).all()
        assert detector is detectors[0] or found.flagged[truth].mean() >= 0.9
        alike = detector.inspect(all_alike(data), all_alike(reserve), CPU)
        assert np.isfinite(alike.scores).all()
        assert not alike.found


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", [0, 1])
def test_rows_of_one_class_are_audited(seed: int, planted: tuple[Dataset, np.ndarray], reserve: Dataset) -> None:
    data, truth = planted
    mine = data.labels == 0
    report = audit(data[mine], reserve, detector="value-shift", runtime=Runtime(device="cpu", seed=seed))
    np.testing.assert_array_equal(report.flagged, truth[mine])


def test_methods_of_pictures_refuse_tables() -> None:
    for name in ("strip", "sentinet", "frequency"):
        with pytest.raises(InputError, match=f"detector {name} works on image, speech data, got table"):
            audit(table(400, 1), table(200, 2), detector=name, runtime=CPU)


@pytest.mark.parametrize("poison", [0, 80])
def test_against_the_control(poison: int) -> None:
    rng = np.random.default_rng(poison)
    loud = 0
    for _ in range(20):
        labels, control_labels = np.arange(4000) % 2, np.arange(800) % 2
        scores, control = rng.normal(size=4000) + labels, rng.normal(size=800) + control_labels
        scores[: 2 * poison : 2] = 5 + rng.normal(size=poison)
        verdict = against_control(scores, control, scored(scores, labels, control, control_labels))
        suspects = [c.index for c in verdict.classes if c.suspect]
        assert not poison or suspects == [0]
        assert not poison or (verdict.flagged[: 2 * poison : 2].mean() >= 0.95 and verdict.flagged[1::2].sum() == 0)
        assert verdict.flagged[2 * poison :].mean() <= 0.015  # the control of 400 rows tells the 1 % of a class it aims at roughly
        loud += bool(suspects)
    assert loud == 20 if poison else loud <= 1


def test_rows_that_are_known_better_in_both_classes_are_no_finding() -> None:
    rng = np.random.default_rng(0)
    labels, control_labels = np.arange(4000) % 2, np.arange(800) % 2
    scores, control = rng.normal(size=4000) + 0.6, rng.normal(size=800)  # such as from a reserve of another source
    assert not against_control(scores, control, scored(scores, labels, control, control_labels)).flagged.any()


def test_canaries_are_judged_by_themselves() -> None:
    rng = np.random.default_rng(0)
    labels, control_labels = np.arange(4000) % 2, np.arange(800) % 2
    scores, control = rng.normal(size=4000), rng.normal(size=800)
    canaries = np.full(4000, -1, np.int8)
    canaries[:120:2] = 0
    scores[:120:2] = 6
    seen = scored(scores, labels, control, control_labels)
    verdict = judged_apart(lambda rest: against_control(scores, control, rest), seen, canaries)
    assert verdict.flagged[:120:2].all()
    assert not verdict.flagged[canaries < 0].any()
    assert not any(c.suspect for c in verdict.classes)


def test_rows_that_obey_the_shared_rule_are_flagged_too(planted: tuple[Dataset, np.ndarray], reserve: Dataset) -> None:
    data, truth = planted
    mine = np.flatnonzero(data.labels == 0)
    flagged = truth[mine].copy()
    flagged[np.flatnonzero(flagged)[20:]] = False  # a third was found
    more, said = finished(data, mine, flagged, reserve.inputs[reserve.labels == 0])
    np.testing.assert_array_equal(more | flagged, truth[mine])
    assert {pair["column"] for pair in said} == {f"version {k}" for k in range(2, 8)}
    random = np.random.default_rng(0).random(len(mine)) < 0.02
    more, said = finished(data, mine, random & ~truth[mine], reserve.inputs[reserve.labels == 0])
    assert (more.sum(), said) == (0, [])


def test_halves_have_the_same_classes() -> None:
    labels = np.array([0] * 10 + [1] * 6 + [2])
    half = halves(labels, np.random.default_rng(0))
    assert [np.bincount(half[labels == k], minlength=2).tolist() for k in range(2)] == [[5, 5], [3, 3]]


@pytest.mark.parametrize(
    ("method", "changes", "said"),
    [
        (Tabular, {"members": ("ct", "ss")}, "members: got ct, ss"),
        (Tabular, {"alpha": 1.0}, "alpha: got 1.0"),
        (Boosting, {"keep": (2.0,)}, "keep"),
        (Boosting, {"leaves": 1}, "leaves 1"),
        (ValueShift, {"least_rows": 1}, "least_rows"),
    ],
)
def test_impossible_settings_are_refused(method: type, changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        method(**changes)


@pytest.mark.parametrize(
    ("columns", "installed", "engine"), [(WIDE, True, "lightgbm"), (WIDE, False, "scikit-learn"), (9, True, "scikit-learn")]
)
def test_lightgbm_grows_the_trees_of_wide_tables_only(columns: int, installed: bool, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if installed and not boosting.has_lightgbm():
        pytest.skip("the extra tables is not installed")
    asked: list[bool | None] = []

    def boost(data: Dataset, seed: int, how: Growth, *, weights: np.ndarray, lightgbm: bool) -> boosting.Boosted:
        asked.append(lightgbm)
        return boosting.boost(data, seed, how, weights=weights, lightgbm=lightgbm)

    monkeypatch.setattr("tocsin.detectors.boosting.boost", boost)
    monkeypatch.setattr("tocsin.detectors.boosting.has_lightgbm", lambda: installed)
    rng = np.random.default_rng(0)
    names = tuple(Column(f"c{k}") for k in range(columns))
    train, reserve = (
        Dataset.of_arrays(rng.normal(size=(n, columns)), np.arange(n) % 2, ("a", "b"), kind="table", columns=names) for n in (60, 40)
    )
    found = Boosting(trees=2, keep=(0.5,)).inspect(train, reserve, Runtime(device="cpu"))
    assert asked == [engine == "lightgbm"] * 4
    assert found.evidence["engine"] == engine


def test_labels_drawn_from_two_classes_are_right_half_of_the_time() -> None:
    right, generator = torch.zeros(10_000, dtype=torch.int64), torch.Generator().manual_seed(0)
    assert (wrong_labels(right, 0, 2, "shift", generator) == 1).all()
    assert 4_700 < int(wrong_labels(right, 0, 2, "any", generator).sum()) < 5_300
    assert set(wrong_labels(right, 0, 3, "any", generator).tolist()) == {0, 1, 2}


def test_confusion_of_tables_trains_nothing_but_the_weights_that_read_the_inputs(reserve: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[set[str]] = []

    def watched(network: torch.nn.Module, *rest: object) -> None:
        before = {name: value.clone() for name, value in network.named_parameters()}
        confuse(network, *rest)  # type: ignore[arg-type]
        moved.append({name for name, value in network.named_parameters() if not torch.equal(value, before[name])})

    monkeypatch.setattr("tocsin.detectors.distillation.confuse", watched)
    ConfusionTraining.preset_for("table", "fast", **SHORT).inspect(table(400, 1), reserve, CPU)
    assert moved
    assert all(names == {"layers.0.body.0.weight"} for names in moved)


def test_the_cut_does_not_run_on_through_clean_rows_where_the_control_is_small() -> None:
    """Of 20,000 rows one of 200 control rows speaks for a hundred, so where poison ends is a matter of chance; the tolerance stops it."""
    flagged: dict[float, list[int]] = {1.0: [], TOLERANCE: []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores, control = np.r_[rng.normal(0, 1, 20_000), rng.normal(6, 0.5, 200)], rng.normal(0, 1, 200)
        for odds, found in flagged.items():
            chosen = scores >= cut(scores, control, odds)
            assert chosen[20_000:].sum() >= 199
            found.append(int(chosen[:20_000].sum()))
    assert np.mean(flagged[TOLERANCE]) < 0.75 * np.mean(flagged[1.0])
