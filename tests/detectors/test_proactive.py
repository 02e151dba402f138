"""The default for pictures: who is asked, and how that is said. What two members' findings make together: test_combined.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.detectors.synthetic import pictures
from tests.detectors.test_combined import LABELS, NAMES, said
from tocsin.auditing import audit
from tocsin.data.dataset import Dataset
from tocsin.detectors.asset import Asset
from tocsin.detectors.asset_verdict import why_unsure
from tocsin.detectors.base import Findings
from tocsin.detectors.ct import ConfusionTraining
from tocsin.detectors.proactive import Proactive
from tocsin.errors import InputError
from tocsin.report.words import reasons
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu")
PICTURES = Dataset.of_arrays(np.zeros((12, 8, 8, 3), np.uint8), LABELS, NAMES)  # of three classes
KINDS = np.where(np.arange(12) >= 9, 0, -1).astype(np.int8)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, float]]:
    """Member -> (rows that it saw, its part of alpha), of what was asked since. CT flags row 0 and two canaries, ASSET row 4."""
    seen: dict[str, tuple[int, float]] = {}

    def ct(self: ConfusionTraining, train: Dataset, reserve: Dataset, runtime: Runtime, *, canaries: np.ndarray) -> Findings:
        seen["ct"] = len(train), self.alpha
        return replace(said("ct", [0, 9, 10], [0.001, 1.0, 1.0], np.arange(12.0), 0.99), threshold=8.5)

    def asset(self: Asset, train: Dataset, reserve: Dataset, runtime: Runtime) -> Findings:
        seen["asset"] = len(train), self.alpha
        whole = said("asset", [4], [1.0, 0.0005, 1.0], -np.arange(12.0), 0.9)
        return replace(whole, scores=whole.scores[: len(train)], flagged=whole.flagged[: len(train)])

    monkeypatch.setattr(ConfusionTraining, "inspect", ct)
    monkeypatch.setattr(Asset, "inspect", asset)
    return seen


def test_of_a_large_set_both_are_asked_and_asset_sees_no_canary(
    asked: dict[str, tuple[int, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    monkeypatch.setattr("tocsin.detectors.asset_verdict.why_unsure", lambda how, samples, *rest: rows.append(samples))
    found = Proactive().inspect(PICTURES, PICTURES[:3], CPU, canaries=KINDS)
    assert rows == [9]
    assert asked == {"ct": (12, pytest.approx(0.009)), "asset": (9, pytest.approx(0.001))}
    assert np.flatnonzero(found.flagged).tolist() == [0, 4, 9, 10]  # of canaries, what ct says
    assert [c.suspect for c in found.classes] == [True, True, False]
    assert [c.p_value for c in found.classes] == pytest.approx([0.001 / 0.9, 0.005, 1.0])
    assert found.scores.argmax() in (0, 11)
    assert "not asked" not in found.evidence


def test_of_a_small_set_ct_has_the_word_and_all_of_alpha(asked: dict[str, tuple[int, float]]) -> None:
    found = Proactive().inspect(PICTURES, PICTURES[:3], CPU, canaries=KINDS)
    assert asked == {"ct": (12, pytest.approx(0.01))}
    assert np.flatnonzero(found.flagged).tolist() == [0, 9, 10]
    np.testing.assert_array_equal(found.scores, np.arange(12, dtype=np.float32))  # ct's own, to its own threshold
    assert found.threshold == 8.5
    assert (found.detector, found.evidence["settings"]["members"]) == ("proactive", ("ct", "asset"))
    assert found.evidence["not asked"]["asset"].startswith("4 classes")


def test_who_names_asset_alone_is_answered_by_it_whatever_the_size(asked: dict[str, tuple[int, float]]) -> None:
    found = Proactive(members=("asset",)).inspect(PICTURES, PICTURES[:3], CPU)
    assert asked == {"asset": (12, pytest.approx(0.01))}
    assert "not asked" not in found.evidence


def test_a_set_is_large_by_its_samples_and_by_distinct_ones_in_the_usual_class_of_the_reserve() -> None:
    how, reserve = Asset(share=0.25), pictures(640, seed=1, classes=4)
    assert why_unsure(how, 400, reserve, CPU) is None
    assert str(why_unsure(how, 390, reserve, CPU)).startswith("398 samples")
    few = reserve[np.arange(80)]
    assert "no near duplicates" in str(why_unsure(how, 400, few, CPU))
    repeated = few[np.tile(np.arange(80), 8)]
    assert len(repeated) == len(reserve)
    assert "no near duplicates" in str(why_unsure(how, 400, repeated, CPU))
    three = pictures(640, seed=1, classes=3)
    assert "4 classes or more" in str(why_unsure(how, 400, three, CPU))
    assert why_unsure(Asset(share=0.25, decision="shipped", control_share=0.0), 400, three, CPU) is None  # another rule was asked for


def test_the_report_says_who_was_asked_and_of_whom_the_canaries_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    train, reserve = pictures(400, seed=0), pictures(240, seed=1)

    def found(detector: ConfusionTraining | Asset, train: Dataset, reserve: Dataset, runtime: Runtime, **more: np.ndarray) -> Findings:
        flagged = (np.arange(len(train)) < 3) & (detector.name == "ct")
        p = np.where(np.arange(6) == 2, 1e-4 if detector.name == "ct" else 1.0, 1.0)
        classes = tuple(replace(c, p_value=float(v), suspect=v < 0.01) for c, v in zip(BLANK, p, strict=True))
        scores = np.linspace(1, 0, len(train), dtype=np.float32)
        evidence = {"named by": {"kind 2": ["labels"]}, "likeness": {"kind 2": 2}} if detector.name == "ct" else {}
        return Findings(detector.name, "fast", scores, flagged, classes, 0.9, control=scores[:3], evidence=evidence, timings={"total": 1.0})

    BLANK = [c for c in said("ct", [], [1.0] * 3, np.arange(12.0), 0.5).classes for _ in range(2)]
    monkeypatch.setattr(ConfusionTraining, "inspect", found)
    monkeypatch.setattr(Asset, "inspect", found)
    small = reasons(audit(train, reserve, runtime=CPU))
    assert any("asset was not asked: it needs 9,950 samples" in line for line in small)
    assert not any("Several methods" in line for line in small)
    monkeypatch.setattr("tocsin.detectors.asset_verdict.why_unsure", lambda *given: None)
    report = audit(train, reserve, runtime=CPU)
    assert (report.settings["detector"], report.findings.detector) == ("proactive", "proactive")
    lines = reasons(report)
    assert any(line == "Several methods were asked; by itself, ct flags 3 and asset finds nothing." for line in lines)
    assert any("shown to ct alone" in line for line in lines)
    assert lines[0].startswith("Class 'kind 2': named because labels")  # what a member says of a class is heard
    assert any("look like the other suspects of their class" in line for line in lines)
    assert not any("shown to" in line for line in reasons(audit(train, reserve, canaries=False, runtime=CPU)))


def test_the_published_procedure_is_cts() -> None:
    (only,) = Proactive.preset("paper").built()
    assert isinstance(only, ConfusionTraining)
    assert only.preset_name == "paper"
    assert len(Proactive.preset("paper", members=("ct", "asset")).built()) == 2


def test_settings_of_members_are_addressed_by_their_names() -> None:
    from tocsin.panel import configured

    (made,) = configured(["proactive"], "fast", {"ct.texture": "true", "asset.runs": "3", "asset.alpha": 0.5, "alpha": "0.02"}, "image")
    assert isinstance(made, Proactive)
    ct, asset = made.built()
    assert isinstance(ct, ConfusionTraining)
    assert isinstance(asset, Asset)
    assert (ct.texture, ct.alpha, asset.runs, asset.alpha) == (True, pytest.approx(0.018), 3, 0.5)
    beside, lead = configured(["ss", "proactive"], "fast", {"proactive.alpha": 0.02, "ct.texture": True}, "image")
    assert beside.name == "ss"
    assert isinstance(lead, Proactive)
    assert lead.changed == (("ct", "texture", True),)
    (short,) = configured(["proactive"], "fast", {"texture": True, "hear-scouts": "no"}, "image")  # only one member has such
    assert isinstance(short, Proactive)
    assert short.changed == (("ct", "texture", True), ("asset", "hear_scouts", False))
    own, both = configured(["ct", "proactive"], "fast", {"ct.texture": True}, "image")  # ct itself is asked too
    assert isinstance(own, ConfusionTraining)
    assert isinstance(both, Proactive)
    assert own.texture
    assert not both.changed
    both, own = configured(["proactive", "ct"], "fast", {"texture": True}, "image")  # of the first, so of its member
    assert isinstance(own, ConfusionTraining)
    assert isinstance(both, Proactive)
    assert both.changed == (("ct", "texture", True),)
    assert not own.texture


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"batch": 64, "control_share": 0.2}, "say whose it is: ct.control_share or asset.control_share"),
        ({"ss.oracle": 0.1}, "'ss' is not among those that run"),
        ({"ct.nonsense": 1}, "unknown setting 'nonsense'"),
        ({"asset.runs": 0}, "runs 0"),
        ({"asset.runs": "many"}, "runs: got 'many'"),
    ],
)
def test_settings_that_nobody_has_are_refused(params: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        audit(PICTURES, PICTURES[:3], params=params)


@pytest.mark.parametrize("setting", ["self-supervised", "transfer"])
def test_the_joint_verdict_says_where_it_is_not_defined(setting: str) -> None:
    with pytest.raises(InputError, match="proactive is not defined here, because"):
        audit(PICTURES, PICTURES[:3], detector="proactive", setting=setting)
