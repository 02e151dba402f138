"""The main job: a data set and a reserve go in, a Report comes out."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tocsin import __version__
from tocsin.canaries import TRIGGERS, Planted, plant
from tocsin.data.dataset import Dataset
from tocsin.data.pairing import match
from tocsin.data.rows import stacked
from tocsin.detectors.base import Detector, Findings
from tocsin.errors import InputError
from tocsin.panel import configured, hear, names_of
from tocsin.paradigms import PARADIGMS, Paradigm, Supervised, paradigm_of
from tocsin.report.model import CanaryResult, Report
from tocsin.runtime import Runtime


def audit(
    train: Dataset,
    reserve: Dataset,
    *,
    preset: str = "fast",
    detector: str | Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
    setting: str | Paradigm = Supervised.name,
    seed: int = 0,
    device: str = "auto",
    canaries: bool = True,
    runtime: Runtime | None = None,
) -> Report:
    """Which samples of ``train`` plant a backdoor?

    ``reserve``: clean samples of the same classes, none of them in ``train``; the answer is only as good as the reserve is clean.
    ``detector``: one name or several (``"ct,ss,scan"``; None: ``proactive`` for pictures, ``audible`` for speech, ``tabular`` for
    tables); the first decides, and the report shows where the others agree (`tocsin.panel`). ``params`` overrides single settings of the
    preset, of the first detector or, as ``"ss.oracle"``, of the one that is named, also of a member of it. ``setting``: how a model is
    made of ``train`` (`tocsin.paradigms`); in others than supervised fewer detectors are defined, and ASSET decides where none is named.
    Its own values are in ``params`` too, as ``"NAME.field"``, or it is given whole. Where it knows no labels, those of the data are left
    aside. ``canaries`` plants samples with known triggers in the working copy to measure what would have been found (`tocsin.canaries`);
    they are in no score, flag or count of the report, and there are none without labels. ``runtime`` replaces ``seed`` and ``device``.
    Raises `InputError` where data or settings cannot be used, `AuditIncomplete` where the audit cannot finish.
    """
    began = time.monotonic()
    runtime = runtime if runtime is not None else Runtime(device=device, seed=seed)
    paradigm, values = paradigm_of(setting, params or {})
    paradigm.check(train.kind)
    _check_labels(train, paradigm)
    names = names_of(paradigm.detector if detector is None else detector, train.kind)
    settings, *others = configured(names, preset, values, train.kind, paradigm.name)
    train, reserve = paradigm.seen(train), paradigm.seen(reserve)
    whole, (train, reserve, notes) = train, match(replace(train, inputs=stacked([train.inputs])), reserve)
    recovered: tuple[CanaryResult, ...] = ()
    if canaries and settings.takes_canaries and paradigm.labelled:  # a canary's label is what gives it away
        findings, recovered = controlled(settings, train, reserve, runtime)
        panel = hear(others, train, reserve, runtime, paradigm)
    else:
        heard = hear([settings, *others], train, reserve, runtime, paradigm)
        findings, panel = heard[0], heard[1:]
    return Report(
        train=whole,
        reserve=reserve,
        findings=findings,
        canaries=recovered,
        panel=panel,
        settings={
            "preset": preset,
            "detector": ", ".join(names),
            **({} if isinstance(paradigm, Supervised) else {"setting": {"name": paradigm.name, **asdict(paradigm)}}),
            **({"changed": dict(params)} if params else {}),
            **_where(runtime),
        },
        notes=tuple(dict.fromkeys((*train.notes, *reserve.notes, *notes))),
        seconds=time.monotonic() - began,
    )


def _check_labels(train: Dataset, paradigm: Paradigm) -> None:
    if paradigm.labelled and not train.labelled:
        known = ", ".join(name for name, other in PARADIGMS.items() if not other.labelled)
        raise InputError(f"training data: have no labels, which the setting {paradigm.name} needs; without labels: setting={known}")


def controlled(detector: Detector, train: Dataset, reserve: Dataset, runtime: Runtime) -> tuple[Findings, tuple[CanaryResult, ...]]:
    """What ``detector`` finds in ``train`` beside planted canaries: findings without the canaries, and how many it recovered."""
    working = plant(train, np.random.default_rng([runtime.seed, 0xCA]))
    findings = detector.inspect(working.dataset, reserve, runtime, canaries=working.trigger)
    real = ~working.mask
    return replace(findings, scores=findings.scores[real], flagged=findings.flagged[real]), _recovered(working, findings)


def _recovered(working: Planted, findings: Findings) -> tuple[CanaryResult, ...]:
    """How many canaries of each kind would have been flagged, were the kind the only attack."""
    real = np.sort(findings.scores[~working.mask])
    out = []
    for index, name in enumerate(TRIGGERS[working.dataset.kind]):
        mine = working.trigger == index
        rank = np.searchsorted(real, findings.scores[mine]) / len(real)
        mean = float(rank.mean()) if mine.any() else 0.0  # rows of one class alone get none
        out.append(CanaryResult(name, int(mine.sum()), int(findings.flagged[mine].sum()), float(mine.mean()), mean))
    return tuple(out)


def _where(runtime: Runtime) -> dict[str, Any]:
    import torch

    return {
        "seed": runtime.seed,
        "device": str(runtime.torch_device()),
        "tocsin": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
