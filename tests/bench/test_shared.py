"""What cells share and what one cell measures, against the same work done plainly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench.dummies import Corner, noted
from tocsin.attacks import Attack
from tocsin.bench import shared as shared_module
from tocsin.bench.cell import Task, compare, perform
from tocsin.bench.choices import AttackChoice, Cell, DataChoice, DetectorChoice, VictimChoice
from tocsin.bench.shared import Shared
from tocsin.bench.splits import Split, load_split
from tocsin.detectors.base import Findings
from tocsin.detectors.victim import Victim
from tocsin.errors import InputError
from tocsin.learning import FitSettings
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime
from tocsin.victim import Measured, train_victim

DATA = DataChoice("digits", 240, 60, 80, "digits")
VICTIM = VictimChoice(fit=FitSettings(epochs=1))
CPU = Runtime(device="cpu", seed=4)


@pytest.fixture(scope="module")
def split() -> Split:
    return load_split(DATA, 4, CPU)


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    return Shared(tmp_path / "shared", CPU)


def cell(split: Split, attack: AttackChoice, detector: DetectorChoice, retrain: bool = False) -> Cell:
    return Cell(DATA, split.fingerprint, attack, detector, VICTIM, 4, retrain)


def line_of(cell: Cell, folder: Path) -> dict[str, Any]:
    line = perform(Task(cell, folder / "shared", "cpu", "a command"))
    assert line is not None
    assert json.loads(json.dumps(line)) == line
    return line


@pytest.mark.parametrize(
    "attack",
    [build("badnet", rate=0.05), build("sig", rate=0.05), build("tact", rate=0.05, cover_rate=0.05), build("none")],
    ids=lambda a: a.name,
)
def test_a_poisoned_set_comes_back_as_it_was_made(split: Split, shared: Shared, attack: Attack) -> None:
    made, first, again = poison(split.train, attack, 4), shared.poisoned(split, attack, 4), shared.poisoned(split, attack, 4)
    for found in (first, again):
        assert found.poisoned.dataset.fingerprint == made.dataset.fingerprint
        np.testing.assert_array_equal(found.poisoned.planted, made.planted)
        np.testing.assert_array_equal(found.poisoned.covers, made.covers)
        assert found.poisoned.recipe == json.loads(json.dumps(made.recipe))
    assert (first.trial is None) == (attack.name == "none")
    if again.trial is not None:
        rows = np.flatnonzero(attack.victims(split.test.labels))
        np.testing.assert_array_equal(again.trial.rows, rows)
        np.testing.assert_array_equal(again.trial.inputs, attack.trigger(split.test.inputs[rows]))
        np.testing.assert_array_equal(again.trial.goal, attack.goal(split.test.labels[rows]))


def test_the_gate_is_what_train_victim_measures(split: Split, shared: Shared) -> None:
    attack = build("badnet", rate=0.1, target=3)
    gate = shared.gate(split, shared.poisoned(split, attack, 4), VICTIM, 4)
    plain = train_victim(poison(split.train, attack, 4).dataset, split.test, attack, settings=VICTIM.fit, runtime=CPU)
    control = train_victim(split.train, split.test, attack, settings=VICTIM.fit, runtime=CPU)
    assert (gate["acc"], gate["asr"], gate["victims"]) == (plain.acc, plain.asr, plain.victims)
    assert (gate["control_acc"], gate["control_asr"]) == (control.acc, control.asr)
    assert plain.asr is not None
    assert control.asr is not None
    assert gate["works"] == (plain.asr - control.asr >= 0.5)


def test_an_attack_works_50_points_above_its_control(split: Split, shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = shared.poisoned(split, build("badnet", rate=0.1), 4)
    for asr, control, works in [(0.9, 0.4, True), (0.9, 0.41, False), (0.95, 0.9, False), (1.0, 0.0, True)]:
        answers = iter([Measured(0.9, asr, 0.1, 5), Measured(0.9, control, 0.1, 5)])
        monkeypatch.setattr(shared_module, "measure", lambda *_, answers=answers: next(answers))
        assert shared.gate(split, planted, VICTIM, 4)["works"] is works
        (stored,) = shared.folder.glob("gate-*.npz")
        stored.unlink()


def test_the_shared_victim_is_the_victim(split: Split, shared: Shared) -> None:
    attack = build("blend", rate=0.1)
    planted = shared.poisoned(split, attack, 4)
    plain = Victim.trained(planted.poisoned.dataset, split.reserve, CPU, epochs=1)
    for found in (shared.read(split, planted, VICTIM, 4), shared.read(split, planted, VICTIM, 4)):
        np.testing.assert_array_equal(found.features, plain.features)
        np.testing.assert_array_equal(found.reserve_features, plain.reserve_features)
        np.testing.assert_array_equal(found.logits, plain.logits)
        np.testing.assert_array_equal(found.losses, plain.losses)


def test_training_again(split: Split, shared: Shared, log: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    attack = build("badnet", rate=0.1)
    planted = shared.poisoned(split, attack, 4)
    flagged = np.zeros(len(split.train), bool)
    gate = shared.gate(split, planted, VICTIM, 4)
    assert shared.retrained(split, planted, VICTIM, 4, flagged) == {"samples": 240, "acc": gate["acc"], "asr": gate["asr"]}
    flagged[planted.poisoned.planted] = True
    monkeypatch.setattr(shared_module, "fit", noted(shared_module.fit))
    found = [shared.retrained(split, planted, VICTIM, 4, flagged) for _ in range(2)]
    plain = train_victim(planted.poisoned.dataset[~flagged], split.test, attack, settings=VICTIM.fit, runtime=CPU)
    assert found == [{"samples": 216, "acc": plain.acc, "asr": plain.asr}] * 2
    assert len(log("fit")) == 1  # what keeps the same samples shares the network
    everything = np.ones(len(split.train), bool)
    assert shared.retrained(split, planted, VICTIM, 4, everything) == {"samples": 0, "acc": None, "asr": None}


def test_shared_files_are_read_without_pickle(split: Split, shared: Shared) -> None:
    planted = shared.poisoned(split, build("badnet", rate=0.1), 4)
    shared.read(split, planted, VICTIM, 4)
    shared.gate(split, planted, VICTIM, 4)
    files = sorted(shared.folder.glob("*.npz"))
    assert {f.name.partition("-")[0] for f in files} == {"poisoned", "network", "features", "gate"}
    for file in files:
        with np.load(file, allow_pickle=False) as stored:
            assert all(stored[name].dtype != object for name in stored)


def findings(flagged: list[int], scores: list[float]) -> Findings:
    flags = np.zeros(len(scores), bool)
    flags[flagged] = True
    return Findings("x", "fast", np.array(scores, np.float32), flags, (), 0.7)


def test_the_comparison_with_the_truth_by_hand(split: Split) -> None:
    """Ten samples: 0..3 planted, 4 and 5 covers. Flagged: three planted, one cover, one clean."""
    made = poison(split.train[:10], build("none"))
    truth = replace(made, planted=np.arange(4), covers=np.array([4, 5]))
    found = compare(findings([0, 1, 2, 4, 9], [9, 8, 7, 1, 6, 2, 3, 0, 4, 5]), truth)
    # planted score 9 8 7 1: the first three beat all six others, the last one beats one of six (0)
    expected = {"tpr": 3 / 4, "fpr": 2 / 6, "auc": (3 * 6 + 1) / 24, "f1": 2 * 3 / (5 + 4), "covers_flagged": 1 / 2}
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert (found["verdict"], found["flagged"], found["confidence"]) == ("found", 5, 0.7)
    clean = compare(findings([], [0.0] * 10), made)
    assert (clean["tpr"], clean["auc"], clean["f1"], clean["covers_flagged"]) == (None, None, None, None)
    assert (clean["fpr"], clean["verdict"], clean["flagged"]) == (0.0, "nothing found", 0)
    assert compare(findings([], [float("nan")] * 10), truth)["auc"] is None


def test_one_cell_from_end_to_end(split: Split, tmp_path: Path) -> None:
    line = line_of(cell(split, AttackChoice("badnet", {"rate": 0.05}), DetectorChoice("corner"), retrain=True), tmp_path)
    assert (line["samples"], line["planted"], line["covers"], line["oracle"]) == (240, 12, 0, False)
    assert (line["result"]["tpr"], line["result"]["fpr"], line["result"]["auc"], line["result"]["flagged"]) == (1.0, 0.0, 1.0, 12)
    assert line["after"]["samples"] == 228
    assert set(line["gate"]) >= {"asr", "control_asr", "acc", "control_acc", "works"}
    assert line["result"]["seconds"] > 0
    assert line["result"]["peak_rss_mb"] > 50
    known = line["provenance"]
    assert {"commit", "dirty", "tocsin", "torch", "numpy", "python", "cpu", "cores", "device", "when"} <= set(known)
    assert (known["device"], known["command"]) == ("cpu", "a command")


def test_canaries_are_planted_as_in_an_audit_and_left_out_of_the_answer(split: Split, tmp_path: Path) -> None:
    """With them the working copy is larger; either way the answer is about the 240 samples."""
    seen: list[tuple[int, int]] = []
    whole = Corner.inspect

    def inspect(self: Corner, train: Any, reserve: Any, runtime: Any, *, canaries: Any = None) -> Findings:
        seen.append((len(train), 0 if canaries is None else int((canaries >= 0).sum())))
        return whole(self, train, reserve, runtime)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Corner, "inspect", inspect)
        for canaries in (True, False):
            choice = DetectorChoice("corner", settings={"threshold": 300.0}, canaries=canaries)
            line = line_of(cell(split, AttackChoice("none"), choice), tmp_path)
            assert (line["samples"], line["result"]["flagged"]) == (240, 0)
    (with_them, planted), without = seen
    assert with_them == 240 + planted > 240
    assert without == (240, 0)


def test_an_oracle_row_is_told_the_truth_and_says_so(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[float | None] = []
    whole = Corner.inspect
    monkeypatch.setattr(Corner, "inspect", lambda self, *a, **k: (heard.append(self.oracle), whole(self, *a, **k))[1])
    attack = AttackChoice("badnet", {"rate": 0.05, "target": 6})
    given = {"truth.rate": 0.05, "truth.count": 12.0, "truth.target": 6.0, 0.3: 0.3}
    for word in given:
        line = line_of(cell(split, attack, DetectorChoice("corner", settings={"oracle": word})), tmp_path)
        assert line["oracle"] is True
        assert line["detector"]["settings"]["oracle"] == word
    assert heard == list(given.values())
    assert line_of(cell(split, attack, DetectorChoice("corner")), tmp_path)["oracle"] is False


def test_a_cell_that_fails_is_a_line_with_its_error(split: Split, tmp_path: Path) -> None:
    for fails, kind, said in [("input", "InputError", "did not like"), ("bug", "ZeroDivisionError", "a bug")]:
        line = line_of(cell(split, AttackChoice("none"), DetectorChoice("corner", settings={"fails": fails})), tmp_path)
        assert line["error"]["type"] == kind
        assert said in line["error"]["message"]
        assert line["error"]["where"][-1].startswith("dummies.py:")
        assert "result" not in line
        assert line["provenance"]["when"]


def test_data_from_files_drawn_and_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (500, 8, 8, 1), dtype=np.uint8), np.arange(500) % 3
    np.savez(tmp_path / "train.npz", x=x, y=y)
    data = DataChoice("mine", tmp_path / "train.npz", 210, 60)
    first, same, other = (load_split(data, seed, CPU) for seed in (0, 0, 1))
    assert [len(part) for part in (first.train, first.reserve, first.test)] == [230, 210, 60]
    ids = [set(part.ids.tolist()) for part in (first.train, first.reserve, first.test)]
    assert len(set.union(*ids)) == 500
    assert first.fingerprint == same.fingerprint != other.fingerprint
    assert first.reserve.class_counts.tolist() == [70, 70, 70]
    with pytest.raises(InputError, match=r"data mine: test: 500 samples cannot be drawn from 500"):
        load_split(replace(data, test=500), 0, CPU)
    np.savez(tmp_path / "test.npz", x=x[:9], y=y[:9] + 5)
    with pytest.raises(InputError, match="data mine: test set: its classes"):
        load_split(replace(data, test=tmp_path / "test.npz"), 0, CPU)
