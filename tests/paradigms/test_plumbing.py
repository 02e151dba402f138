"""Learning settings: how they are named, what is defined in them, and that the supervised one changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from tests.detectors.synthetic import pictures
from tests.test_panel import Lead, Reader
from tocsin.auditing import audit
from tocsin.detectors import DETECTORS
from tocsin.detectors.victim import Victim
from tocsin.errors import InputError
from tocsin.panel import configured, defined_in
from tocsin.paradigms import PARADIGMS, Paradigm, Supervised, paradigm_of
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu")
DATA = pictures(300, seed=1), pictures(240, seed=2)


@dataclass(frozen=True)
class Blind(Paradigm):
    """A setting without labels whose model has learned nothing."""

    name: ClassVar[str] = "blind"
    labelled: ClassVar[bool] = False
    kinds: ClassVar[frozenset[str]] = frozenset({"image"})
    detector: ClassVar[str | None] = "reader"
    depth: int = 1
    """A value of its own."""

    def victim(self, train, reserve, runtime):
        SEEN.append((self, train, reserve))
        return Victim.untrained(train, reserve, runtime)


SEEN: list[tuple[Blind, object, object]] = []


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    monkeypatch.setitem(PARADIGMS, "blind", Blind)
    monkeypatch.setitem(DETECTORS, "reader", Reader)
    monkeypatch.setitem(DETECTORS, "lead", Lead)
    monkeypatch.setattr(Lead, "not_defined", {"blind": "it leads"})


def test_supervised_is_the_default_and_says_nothing_of_itself(blind):
    plain, named = (audit(*DATA, detector="reader", runtime=CPU, **more) for more in ({}, {"setting": "supervised"}))
    assert np.array_equal(plain.findings.scores, named.findings.scores)
    assert plain.settings == named.settings
    assert "setting" not in plain.settings
    assert plain.train.labelled


def test_a_setting_gives_the_model_its_values_and_its_default_detector(blind):
    report = audit(*DATA, setting="blind", params={"blind.depth": "3"}, runtime=CPU)
    assert report.findings.detector == "reader"
    assert report.settings["setting"] == {"name": "blind", "depth": 3}
    ((paradigm, train, reserve),) = SEEN
    assert paradigm == Blind(depth=3)
    assert not train.labelled
    assert not reserve.labelled
    assert report.canaries == ()
    assert audit(*DATA, setting=Blind(depth=4), runtime=CPU).settings["setting"]["depth"] == 4


def test_where_no_labels_are_known_none_reach_a_detector_or_the_report(blind):
    train, reserve = DATA
    shuffled = type(train).of_arrays(train.inputs, np.roll(train.labels, 7), train.classes)
    one, other = (audit(data, reserve, setting="blind", runtime=CPU) for data in (train, shuffled))
    assert one.train.fingerprint == other.train.fingerprint
    assert np.array_equal(one.findings.scores, other.findings.scores)


def test_a_detector_that_is_not_defined_is_refused_with_its_reason(blind):
    with pytest.raises(InputError, match=r"detector lead is not defined here, because it leads; defined are .*asset"):
        audit(*DATA, setting="blind", detector="reader,lead", runtime=CPU)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"setting": "supervized"}, "did you mean 'supervised'"),
        ({"setting": "blind", "params": {"blind.deep": 1}}, "unknown setting 'deep'"),
        ({"setting": Blind(), "params": {"blind.depth": 1}}, "given whole"),
        ({"params": {"blind.depth": 1}}, "not among those that run"),
        ({"setting": "supervised", "params": {"supervised.epochs": 1}}, "unknown setting 'epochs'"),
    ],
)
def test_mistakes_are_named(blind, more, word):
    with pytest.raises(InputError, match=word):
        audit(*DATA, runtime=CPU, **more)


def test_data_without_labels_and_kinds_that_cannot_be_learned_from_are_refused(blind):
    train, reserve = DATA
    with pytest.raises(InputError, match="have no labels, which the setting supervised needs"):
        audit(train.unlabelled(), reserve.unlabelled(), runtime=CPU)
    with pytest.raises(InputError, match="setting blind works on image data, got table"):
        Blind().check("table")


@pytest.mark.parametrize("name", list(DETECTORS))
def test_every_detector_says_of_every_setting_whether_it_is_defined_and_why_not(name):
    method = DETECTORS[name]
    assert set(method.by_setting) <= set(PARADIGMS)
    for setting, why in method.not_defined.items():
        assert len(why) > 20
        if setting in PARADIGMS:
            with pytest.raises(InputError, match=f"detector {name} is not defined here, because"):
                configured((name,), "fast", {}, next(iter(method.kinds)), setting)
    for setting in set(PARADIGMS) - set(method.not_defined):
        for kind in method.kinds & PARADIGMS[setting].kinds:
            assert configured((name,), "fast", {}, kind, setting)


def test_in_every_setting_something_is_defined_and_supervised_everything():
    assert defined_in("supervised") == list(DETECTORS)
    for name, cls in PARADIGMS.items():
        assert cls.name == name
        assert "asset" in defined_in(name)
        assert cls.detector is None or cls.detector in defined_in(name)


def test_params_are_parted():
    paradigm, rest = paradigm_of("supervised", {"share": 1, "ss.oracle": 2})
    assert paradigm == Supervised()
    assert rest == {"share": 1, "ss.oracle": 2}
