"""One verdict of several auditors: how what they say is merged, on findings made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.detectors.coloured import planted, spoken
from tocsin.auditing import audit
from tocsin.canaries import TRIGGERS
from tocsin.data.dataset import Dataset
from tocsin.detectors import audio_stego
from tocsin.detectors.audible import Audible
from tocsin.detectors.audio_stego import AudioStego
from tocsin.detectors.base import Findings, class_evidence, found_beside
from tocsin.detectors.combined import best_rank, reordered
from tocsin.detectors.ct import ConfusionTraining
from tocsin.detectors.proactive import Proactive
from tocsin.errors import InputError
from tocsin.runtime import Runtime

LABELS = np.arange(12) % 3
NAMES = ("a", "b", "c")
CPU = Runtime(device="cpu")
DATA = Dataset.of_arrays(np.zeros((12, 100), np.int16), LABELS, NAMES, kind="speech", rate=8000)


def said(name: str, flagged: list[int], p: list[float], scores: np.ndarray, confidence: float, alpha: float = 0.01) -> Findings:
    """What an auditor could have found in `DATA`."""
    flags, p_values = np.isin(np.arange(12), flagged), np.array(p)
    classes = class_evidence(NAMES, LABELS, flags, -np.log10(p_values), p_values, p_values <= alpha)
    return Findings(name, "fast", scores.astype(np.float32), flags, classes, confidence, control=scores[:3], timings={"total": 2.0})


def test_what_any_member_flags_is_flagged_and_each_p_counts_by_the_members_part() -> None:
    rise = np.arange(12.0)
    pictures = Dataset.of_arrays(np.zeros((12, 8, 8, 3), np.uint8), LABELS, NAMES)
    found = Proactive().merged(
        [said("ct", [0, 3], [0.009, 0.5, 1.0], rise, 0.99), said("asset", [5], [0.5, 1.0, 0.004], -rise, 0.97)], pictures, pictures[:3], CPU
    )
    assert np.flatnonzero(found.flagged).tolist() == [0, 3, 5]
    assert [c.p_value for c in found.classes] == pytest.approx([0.01, 0.5 / 0.9, 0.04])
    assert [c.suspect for c in found.classes] == [True, False, True]
    assert [c.flagged for c in found.classes] == [2, 0, 1]
    assert found.confidence == 0.99
    np.testing.assert_allclose(found.scores[[0, 11, 5]], -np.log10([1 / 13, 1 / 13, 6 / 13]), rtol=1e-6)
    assert found.evidence["members"]["asset"]["flagged"] == 1
    assert found.timings["total"] == pytest.approx(4, abs=1)


def test_in_a_class_of_speech_that_is_named_what_both_say_is_added_up() -> None:
    rng, labels = np.random.default_rng(0), np.arange(3000) % 3
    data = Dataset.of_arrays(np.zeros((3000, 10), np.int16), labels, NAMES, kind="speech", rate=8000)
    truth = (labels == 0) & (np.arange(3000) < 600)  # a fifth of class a
    canaries = np.where(np.arange(3000) >= 2940, 0, -1).astype(np.int8)
    found = []
    for name in ("audio-stego", "ct"):
        scores = rng.normal(size=3000) + 3 * truth
        flagged = ((scores > 2) & (labels == 0)) | (canaries == 0)
        p = np.array([1e-4, 1.0, 1.0])
        lifted = scores + 20 * flagged if name == "audio-stego" else scores
        classes = class_evidence(NAMES, labels, flagged, -np.log10(p), p, p < 0.01)
        found.append(Findings(name, "fast", lifted.astype(np.float32), flagged, classes, 0.9, control=scores[:3], timings={"total": 1.0}))
    merged = Audible(second_hearing=False).merged(found, data, data[:3], CPU, canaries)
    either = found[0].flagged | found[1].flagged
    real = canaries < 0
    assert merged.flagged[truth].mean() > 0.94 > max(one.flagged[truth].mean() for one in found)
    assert merged.flagged[real & ~truth].sum() < 0.75 * either[real & ~truth].sum()
    assert (merged.flagged | ~found[0].flagged).all()  # audio-stego's flags stay
    assert not merged.flagged[real & (labels != 0)].any()
    assert merged.flagged[~real].all()  # canaries are what any member says of them
    assert list(merged.evidence["together"]) == ["a"]
    # One that is not sure enough to name the class still knows which of its clips are odd; alone it has no say.
    for silent in (0, 1):
        unsure = replace(
            found[silent],
            scores=found[silent].scores - 20 * found[silent].flagged if silent == 0 else found[silent].scores,
            flagged=canaries == 0,
            classes=tuple(replace(c, suspect=False) for c in found[silent].classes),
        )
        loud = found[1 - silent]
        both = Audible(second_hearing=False).merged([unsure, loud] if silent == 0 else [loud, unsure], data, data[:3], CPU, canaries)
        assert (both.flagged | ~loud.flagged).all()
        assert both.flagged[truth].mean() > 0.94 > loud.flagged[truth].mean()
        assert both.flagged[real & ~truth].sum() < loud.flagged[real & ~truth].sum() + 0.01 * 1000
        alone = Audible(members=(loud.detector,), second_hearing=False)
        np.testing.assert_array_equal(alone.merged([loud], data, data[:3], CPU, canaries).flagged, loud.flagged)


def test_silence_is_as_sure_as_the_least_sure_member() -> None:
    flat = np.zeros(12)
    found = Audible().merged([said("audio-stego", [], [1.0] * 3, flat, 0.4), said("ct", [], [1.0] * 3, flat, 0.8)], DATA, DATA[:3], CPU)
    assert not found.found
    assert found.confidence == 0.4


def test_canaries_are_flagged_but_count_for_nothing() -> None:
    kinds = np.where(np.arange(12) >= 9, 0, -1).astype(np.int8)
    one = said("audio-stego", [9, 10, 11], [1.0] * 3, np.arange(12.0), 0.4)
    found = Audible(members=("audio-stego",)).merged([one], DATA, DATA[:3], CPU, kinds)
    assert found.flagged[9:].all()
    assert [(c.size, c.flagged) for c in found.classes] == [(3, 0)] * 3
    assert found.confidence == 0.4


def test_members_have_their_parts_of_the_error_and_the_presets_they_know() -> None:
    stego, ct = Audible.preset("thorough").built()
    assert isinstance(stego, AudioStego)
    assert isinstance(ct, ConfusionTraining)
    assert (stego.alpha, ct.alpha) == pytest.approx((0.045, 0.005))
    assert (stego.preset_name, ct.preset_name) == ("fast", "thorough")
    assert Audible(members=("ct",)).built()[0].alpha == 0.05  # type: ignore[attr-defined]


@pytest.mark.parametrize("members", [(), ("ct", "ct"), ("ss",)])
def test_members_that_cannot_be_are_refused(members: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"members: got .*audio-stego"):
        Audible(members=members)


def test_the_best_rank_wins() -> None:
    sure, blank = np.array([0.0, 1, 2, 3]), np.zeros(4)
    scores, control = best_rank([(sure, np.array([2.5])), (blank, np.array([0.0]))])
    np.testing.assert_allclose(scores, -np.log10([2.5 / 5, 2.5 / 5, 2 / 5, 1 / 5]), rtol=1e-6)
    np.testing.assert_allclose(control, -np.log10([1.5 / 5]), rtol=1e-6)


def test_rows_of_a_class_hand_out_their_places_anew() -> None:
    order = np.array([np.nan, 5.0, 7.0, np.nan, 6.0, 1.0])
    scores = reordered(np.array([9.0, 3.0, 1.0, 8.0, 2.0, 4.0]), np.array([0, 0, 0, 0, 0, 1]), order)
    assert scores.tolist() == [9.0, 1.0, 3.0, 8.0, 2.0, 4.0]


def test_canaries_are_judged_beside_what_was_not_flagged() -> None:
    asked = []

    def find(rows: np.ndarray) -> Findings:
        asked.append(rows)
        scores = np.flatnonzero(rows).astype(np.float32)
        return Findings("loud", "fast", scores, scores >= 4, (), 0.5)

    kinds = np.array([-1, -1, -1, 0, -1, 1, 1], np.int8)
    found = found_beside(find, kinds, 7)
    assert [np.flatnonzero(rows).tolist() for rows in asked] == [[0, 1, 2, 4], [0, 1, 2, 3], [0, 1, 2, 5, 6]]
    assert found.flagged.tolist() == [False, False, False, False, True, True, True]
    assert found.scores.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert found_beside(find, None, 7).flagged.sum() == 3


def test_the_default_for_speech_finds_canaries_and_they_move_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without judges, which are trained on all clips, the verdict is exactly that without canaries."""
    monkeypatch.setattr(audio_stego, "PRESETS", {"fast": AudioStego(judge_epochs=0, folds=3, voices=4)})
    (train, truth), reserve, runtime = planted(spoken(480, seed=0), 0.35, seed=0), spoken(240, seed=1000), Runtime(device="cpu", seed=1)
    params = {"members": "audio-stego"}
    report, plain = (audit(train, reserve, params=params, canaries=on, runtime=runtime) for on in (True, False))
    assert report.settings["detector"] == "audible"
    assert report.flagged[truth].mean() > 0.9
    np.testing.assert_array_equal(report.flagged, plain.flagged)
    assert report.findings.classes == plain.findings.classes
    assert [c.trigger for c in report.canaries] == list(TRIGGERS["speech"])
    assert [c.planted for c in report.canaries] == [40] * 3
    assert {c.trigger: c.found for c in report.canaries}["colour"] > 20
