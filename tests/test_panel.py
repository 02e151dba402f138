from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from tests.detectors.synthetic import pictures
from tocsin.auditing import audit
from tocsin.detectors import DETECTORS
from tocsin.detectors.base import ClassEvidence, Detector, Findings
from tocsin.detectors.reader import VictimReader
from tocsin.errors import InputError
from tocsin.report.page import render
from tocsin.report.tables import findings_csv, findings_dict
from tocsin.runtime import Runtime


def answer(name: str, train, reserve, rows, **more) -> Findings:
    flagged = np.zeros(len(train), bool)
    flagged[rows] = True
    scores = np.where(flagged, 5.0, 0.0).astype(np.float32) + np.linspace(0, 1, len(train), dtype=np.float32)
    classes = tuple(ClassEvidence(k, c, 1, 0, 0.0, 1.0, False) for k, c in enumerate(train.classes))
    return Findings(name, "fast", scores, flagged, classes, 0.5, control=np.linspace(0, 1, 99, dtype=np.float32), **more)


@dataclass(frozen=True)
class Lead(Detector):
    """Flags the first ten."""

    name: ClassVar[str] = "lead"
    kinds: ClassVar[frozenset[str]] = frozenset({"image"})
    count: int = 10
    """How many."""

    @classmethod
    def preset(cls, name, **changes):
        return cls(**changes)

    def inspect(self, train, reserve, runtime, *, canaries=None):
        return answer(self.name, train, reserve, np.arange(self.count))


@dataclass(frozen=True)
class Reader(VictimReader):
    """Flags rows 5 to 15 and looks at the victim."""

    name: ClassVar[str] = "reader"
    kinds: ClassVar[frozenset[str]] = frozenset({"image"})
    oracle: float | None = None
    """The truth."""

    def judge(self, victim):
        assert victim.features.shape[0] == len(victim.train)
        SEEN.append(victim)
        return answer(self.name, victim.train, victim.reserve, np.arange(5, 15), oracle=self.oracle is not None)


class Other(Reader):
    """The same under another name."""

    name: ClassVar[str] = "other"


SEEN: list[object] = []


@pytest.fixture
def panel(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    for cls in (Lead, Reader, Other):
        monkeypatch.setitem(DETECTORS, cls.name, cls)


DATA = pictures(300, seed=1), pictures(240, seed=2)
CPU = Runtime(device="cpu")


def test_the_first_decides_and_the_others_share_one_victim(panel):
    report = audit(*DATA, detector="lead, reader,other", canaries=False, runtime=CPU)
    assert report.flagged.sum() == 10
    assert [f.detector for f in report.panel] == ["reader", "other"]
    assert len(SEEN) == 2
    assert SEEN[0] is SEEN[1]


def test_a_passive_lead_shares_its_victim_too(panel):
    audit(*DATA, detector="reader,other", runtime=CPU)
    assert SEEN[0] is SEEN[1]


def test_a_detector_that_names_a_network_of_its_own_reads_that(panel, monkeypatch):
    monkeypatch.setattr(Other, "own_network", property(lambda self: True))
    audit(*DATA, detector="reader,other", runtime=CPU)
    assert SEEN[0] is not SEEN[1]


def test_no_network_is_trained_where_none_is_asked_for(panel, monkeypatch):
    def refuse(*given):
        raise AssertionError("a network was trained")

    monkeypatch.setattr("tocsin.detectors.victim.Victim.trained", refuse)
    monkeypatch.setattr(Other, "asks_network", property(lambda self: False))
    monkeypatch.setattr(Other, "judge", lambda self, victim: answer(self.name, victim.train, victim.reserve, [0]))
    audit(*DATA, detector="other", runtime=CPU)
    audit(*DATA, detector="lead,other", canaries=False, runtime=CPU)
    with pytest.raises(AssertionError, match="was trained"):
        audit(*DATA, detector="lead,reader", canaries=False, runtime=CPU)


def test_canaries_stay_away_from_those_who_cannot_take_them(panel):
    report = audit(*DATA, detector=["lead", "reader"], runtime=CPU)
    assert report.canaries
    assert len(report.panel[0].scores) == 300
    assert audit(*DATA, detector="reader", runtime=CPU).canaries == ()


def test_agreement_is_in_every_form_of_the_report(panel, tmp_path):
    report = audit(*DATA, detector="lead,reader", params={"count": 8, "reader.oracle": 0.1}, canaries=False, runtime=CPU)
    rows = list(csv.DictReader(io.StringIO("".join(findings_csv(report)))))
    votes = {row["id"]: int(row["votes"]) for row in rows}
    assert [votes[str(i)] for i in report.train.ids[[0, 6, 12, 20]]] == [1, 2, 1, 0]
    assert min(float(row["p_reader"]) for row in rows) == pytest.approx(0.01)
    assert sum(row["flagged_reader"] == "true" for row in rows) == 10
    (heard,) = json.loads(json.dumps(findings_dict(report)["panel"], default=str))
    assert (heard["flagged"], heard["flagged_by_both"], heard["oracle"]) == (10, 3, True)
    page = render(report)
    assert "Where other detectors agree" in page
    assert "3 (30 %)" in page
    assert "Where other detectors agree" not in render(replace(report, panel=()))


def test_without_a_panel_the_table_is_as_before(panel):
    report = audit(*DATA, detector="lead", canaries=False, runtime=CPU)
    assert "".join(findings_csv(report)).splitlines()[0] == "rank,id,label,score,flagged"


@pytest.mark.parametrize(
    ("detector", "params", "word"),
    [
        ("lead,raeder", {}, "did you mean 'reader'"),
        ("lead,lead", {}, "more than once"),
        ("", {}, "allowed"),
        ((), {}, "none is named"),
        ("lead", {"reader.oracle": 1}, "not among those that run"),
        ("lead,reader", {"reader.orakle": 1}, "oracle"),
        ("lead", {"oracle": 1}, "unknown setting"),
    ],
)
def test_mistakes_are_named(panel, detector, params, word):
    with pytest.raises(InputError, match=word):
        audit(*DATA, detector=detector, params=params, runtime=CPU)
