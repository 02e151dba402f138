"""The report's sentences: the verdict, its reach, and what to do next. Pure functions on a Report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tocsin.data.tables import LABEL_COLUMNS

if TYPE_CHECKING:
    from tocsin.data.dataset import Dataset
    from tocsin.report.model import CanaryResult, Report

_TRIGGER_WORDS = {"patch": "patch", "blend": "blended", "warp": "warped", "tone": "beep", "hiss": "hissing", "colour": "coloured"}
LOW_POWER = 0.8
"""Share of a canary kind below which the audit is called weak against it."""
SURE = 0.9
"""Confidence in "nothing found" below which the class that came nearest is named."""
HARDENING = {
    "speech": "Whatever was found, take from each clip its own mean of every log-mel band before the network reads it "
    "(tocsin train --normalise clip): triggers that colour a whole clip alike lose nearly all effect, for a point of accuracy or so."
}
"""Kind of data -> what makes any network trained on it harder to plant a backdoor in."""
_SMALL_RESERVE = 1000
_SMALL_RESERVE_CLASS = 10


def shown(name: str, limit: int = 60) -> str:
    """A name from the data, safe in a sentence or a terminal: no control or invisible characters, not too long."""
    clean = "".join(c if c.isprintable() else "�" for c in name)
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"


def percent(share: float) -> str:
    """``0.9931`` -> ``99.3 %``. Rounded down at the top, so that only certainty reads as 100 %."""
    value = 100 * share
    if 99 <= value < 100:
        value = np.floor(value * 10) / 10
    return f"{value:.3g} %" if value < 99.95 or value >= 100 else "99.9 %"


def listed(parts: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def weak_canaries(report: Report) -> list[CanaryResult]:
    """The planted kinds of which fewer than `LOW_POWER` were found."""
    return [c for c in report.canaries if c.planted and c.found < LOW_POWER * c.planted]


def trigger_word(trigger: str) -> str:
    """The adjective for a kind of canary."""
    return _TRIGGER_WORDS.get(trigger, trigger)


def canaries(report: Report) -> str:
    """``of 150 planted patch samples (0.3 %) we found 150, of 150 blended ones 92``; empty without canaries."""
    planted = [c for c in report.canaries if c.planted]
    parts = []
    for place, c in enumerate(planted):
        # The rate is said once, and again only where it changes.
        rate = f" ({percent(c.rate)})" if place == 0 or c.rate != planted[0].rate else ""
        what = f"planted {trigger_word(c.trigger)} samples{rate} we found" if place == 0 else f"{trigger_word(c.trigger)} ones{rate}"
        parts.append(f"of {c.planted:,} {what} {c.found:,}")
    return ", ".join(parts)


def sentence(report: Report) -> str:
    """The verdict in one plain sentence."""
    confidence = f"(confidence {percent(report.findings.confidence)})"
    if not report.flagged.any():
        power = canaries(report)
        if not power:
            return "Nothing found; no test samples were planted, so how much this audit would have found is not known."
        return f"Nothing found {confidence}; {power}."
    count, total = int(report.flagged.sum()), len(report.train)
    look = "look" if count > 1 else "looks"
    return f"{count:,} of {total:,} samples {look} poisoned{_pull(report, count)} {confidence}."


def _pull(report: Report, count: int) -> str:
    names = [f"'{shown(c.name)}'" for c in sorted(report.findings.classes, key=lambda c: -c.flagged) if c.suspect]
    if not names:
        return ""
    pull = "they pull" if count > 1 else "it pulls"
    if len(names) > 3:
        return f"; {pull} towards {len(names)} classes, most of them towards {names[0]}"
    return f"; {pull} towards class{'es' if len(names) > 1 else ''} {listed(names)}"


_NAMED_BY = {
    "labels": (
        "named because labels that do not fit what their samples show have something in common; Confusion Training itself keeps none of "
        "them apart. Look whether it is a trigger: mistakes that are all of one kind, such as one class given the label of another, would "
        "show the same."
    ),
    "all labels": (
        "named because labels that do not fit, of all classes together, have something in common; by itself no class stands out. Look "
        "whether it is a trigger that sends each class to another."
    ),
    "many labels": (
        "named because many more labels do not fit what their samples show than in the reserve of the same class, and these samples share "
        "a texture, as a warp or a blur leaves it; Confusion Training itself keeps none of them apart. Look whether it is a trigger: "
        "mistakes in pictures that come from another source than the rest would show the same. Of the class's clean samples one in twelve "
        "may be flagged too."
    ),
    "scouts": (
        "named because small networks that read the features of the trained model tell its suspects from the reserve; ASSET's separators, "
        "which see the pictures themselves, keep none of them apart."
    ),
    "encoder": (
        "named because many more labels than in the reserve of the same class do not fit what the encoder saw in their samples before it "
        "was tuned to them. Look whether it is a trigger: mistakes of one kind would show the same. Up to one in seven of the flagged may "
        "be clean."
    ),
    "detail": (
        "named because small networks that see nothing but fine detail, as a warp or a blur changes it, tell its suspects from the "
        "reserve; ASSET's separators, which see the pictures themselves, keep none of them apart. Look whether it is a trigger: pictures "
        "that come from another source than the rest would show the same. Of the class's clean samples one in twelve may be flagged too."
    ),
}
"""Question by which classes were named, and none before it -> what a person should know of that."""


def reasons(report: Report) -> tuple[str, ...]:
    """What a person should know of how the suspects were chosen, one sentence each: which classes were named for labels that do not fit,
    by nothing that was trained against the reserve, and of which samples were flagged for their likeness to others."""
    evidence = report.findings.evidence
    told = [evidence, *(one for _, one in _of_classes(evidence.get("members")))]  # where several methods were asked, what each says
    alike, left = (
        [f"{count:,} in '{shown(name)}'" for one in told for name, count in _of_classes(one.get(of))] for of in ("likeness", "leftover")
    )
    by_class: dict[str, list[str]] = {}
    for one in told:
        for name, questions in _of_classes(one.get("named by")):
            by_class.setdefault(name, []).extend(questions)
    named: dict[str, list[str]] = {}
    for name, questions in by_class.items():
        if not {"rounds", "texture"} & set(questions):  # by what the method itself rests on
            named.setdefault(questions[0], []).append(f"'{shown(name)}'")
    out = [f"{_classes(named[question])}: {why}" for question, why in _NAMED_BY.items() if question in named]
    if alike:
        out.append(
            f"Flagged only because they look like the other suspects of their class and their labels fit as badly: {listed(alike[:4])}."
        )
    if left:
        out.append(
            "Flagged only because the other suspects of their class show several patterns, networks doubt the labels of these too, and "
            f"they have something in common: {listed(left[:4])}. More than half of these may be clean."
        )
    return (*out, *_heard_again(evidence.get("second hearing")), *_asked(report))


def _asked(report: Report) -> list[str]:
    """Of a verdict that rests on several methods: what each says by itself, who was not asked, and of whom the planted samples speak."""
    members = dict(_of_classes(report.findings.evidence.get("members")))
    said = [f"{name} flags {one['flagged']:,}" if one["flagged"] else f"{name} finds nothing" for name, one in members.items()]
    out = [f"Several methods were asked; by itself, {listed(said)}."] if len(said) > 1 else []
    out += [f"{name} was not asked: it needs {why}." for name, why in _of_classes(report.findings.evidence.get("not asked"))]
    shut = [name for name in members if not _takes_canaries(name)]
    if shut and any(c.planted for c in report.canaries):
        who = listed([name for name in members if name not in shut])
        out.append(f"The planted samples were shown to {who} alone; what {listed(shut)} would have found of them is not known.")
    return out


def _heard_again(told: object) -> list[str]:
    """Of sounds: what the second hearing did, and of which classes it could say nothing."""
    heard = _of_classes(told)
    agreed = [
        f"of {one['before']:,} in '{shown(name)}' {one['kept']:,} were kept, and {one['added']:,} added"
        for name, one in heard
        if one["believed"]
    ]
    unlike = [f"'{shown(name)}'" for name, one in heard if not one["believed"]]
    out = [f"Heard again by networks that were taught with the first suspects: {'; '.join(agreed[:4])}."] if agreed else []
    out += [
        f"Hardly any of class '{shown(name)}' is clean (by estimate {percent(one['clean'])}), so all of it is flagged."
        for name, one in heard[:4]
        if one["spoilt"]
    ]
    if unlike:
        out.append(
            f"{_classes(unlike)}: networks could not learn what the suspects have in common. Listen to these with doubt: a trigger is "
            "usually easy to learn."
        )
    return out


def _classes(names: list[str]) -> str:
    return f"Class{'es' if len(names) > 1 else ''} {listed(names[:3])}{' and others' if len(names) > 3 else ''}"


def _of_classes(told: object) -> list[tuple[str, Any]]:
    return list(told.items()) if isinstance(told, dict) else []


def agreement(report: Report) -> list[tuple[str, str, str, str]]:
    """(detector, verdict, flagged, how many of these the leading detector flags too), the leading one first."""
    lines = []
    for found in (report.findings, *report.panel):
        count, shared = int(found.flagged.sum()), int((found.flagged & report.flagged).sum())
        name = found.detector + (" (told the truth: oracle)" if found.oracle else "")
        verdict = "found" if found.found else "nothing found"
        lines.append((name, verdict, f"{count:,}", f"{shared:,}" + (f" ({percent(shared / count)})" if count else "")))
    return lines


def advice(report: Report) -> tuple[str, ...]:
    """What to do next, the most urgent first, one sentence each."""
    hardening = [HARDENING[report.train.kind]] if report.train.kind in HARDENING else []
    return (*(_act(report) if report.flagged.any() else _rest(report)), *_power(report), *_reserve(report), *hardening)


def _act(report: Report) -> list[str]:
    return [
        "Look at the suspects in index.html: untick what should stay, and download your decisions as a CSV file.",
        "Make a clean copy or manifest with tocsin apply, from your decisions or straight from findings.json; "
        "your own files stay as they are.",
        "Train from scratch on what is kept: a model that has already seen the full set must be taken to carry the backdoor.",
        "Find out how the suspects got in: their file dates, authors and sources often point at others the audit did not see.",
    ]


def _rest(report: Report) -> list[str]:
    nearest = max(report.findings.classes, key=lambda c: c.statistic, default=None)
    doubt = []
    if nearest is not None and report.train.labelled and report.findings.confidence < SURE:
        name = shown(nearest.name)
        doubt = [f"Class '{name}' comes nearest to standing out, though not far enough to be called poisoned: look at its first samples."]
    return [
        "You can train on all samples; nothing needs to be removed.",
        *doubt,
        "Nothing found is not proof of absence: triggers that are rarer or fainter than the planted ones can be missed.",
    ]


def _takes_canaries(detector: str) -> bool:
    from tocsin.detectors import DETECTORS

    return detector not in DETECTORS or DETECTORS[detector].takes_canaries


def _power(report: Report) -> list[str]:
    if not report.train.labelled:
        return ["The power of this audit was not measured: test samples are planted under a label, and these data have none."]
    if not any(c.planted for c in report.canaries):
        if not _takes_canaries(report.findings.detector):
            return [f"The power of this audit was not measured: {report.findings.detector} cannot be given test samples of its own."]
        return ["The power of this audit was not measured; run it with canaries to learn what it would have found."]
    weak = weak_canaries(report)
    if not weak:
        return []
    kinds = listed([f"{trigger_word(c.trigger)} ({c.found:,} of {c.planted:,})" for c in weak])
    if report.preset == "thorough":
        return [f"Even the thorough preset missed many planted samples: {kinds}; a larger reserve helps, and such triggers may still hide."]
    return [f"This audit is weak against some triggers, {kinds}; run it again with --preset thorough."]


def _reserve(report: Report) -> list[str]:
    said = []
    size, counts = len(report.reserve), report.reserve.class_counts
    least = int(counts.min()) if len(counts) else 0
    if not report.train.labelled:
        if size < _SMALL_RESERVE:
            said.append(f"The reserve is small ({size:,} samples); {_SMALL_RESERVE:,} or more make the answer firmer.")
    elif size < _SMALL_RESERVE or least < _SMALL_RESERVE_CLASS:
        said.append(
            f"The reserve is small ({size:,} samples, {least:,} in its smallest class); "
            f"{max(_SMALL_RESERVE, _SMALL_RESERVE_CLASS * len(counts)):,} or more, spread over all classes, make the answer firmer."
        )
    said.append(
        "The answer rests on the reserve being clean: a trigger that is also in the reserve looks harmless to the audit, "
        "so vet the reserve by eye or take it from a source you trust."
    )
    return said


def commands(report: Report, folder: Path | None = None) -> tuple[tuple[str, str], ...]:
    """What to type next: (what it does, command) pairs. ``folder`` is where the report lies."""
    train, reserve = report.train.source, report.reserve.source
    typed = []
    data = "" if train is None else _typed(train) + label_option(report.train)
    if report.flagged.any():
        if train is None:
            typed.append(("Decided here, in Python", "clean = train[tocsin.decisions.apply(train, 'decisions.csv')]"))
        else:
            findings = shlex.quote(str((folder or Path()) / "findings.json"))
            typed.append(("Remove every suspect", f"tocsin apply {data} {findings} --out clean/"))
            typed.append(("Remove what is ticked", f"tocsin apply {data} decisions.csv --out clean/"))
    ordinary = "setting" not in report.settings
    if ordinary and weak_canaries(report) and report.preset != "thorough" and train is not None and reserve is not None:
        typed.append(("Look with more power", f"tocsin audit {data} --reserve {_typed(reserve)} --preset thorough"))
    return tuple((what, shown(line, 2000)) for what, line in typed)


def label_option(data: Dataset) -> str:
    """What has to be typed so that the labels are found again, where their column has an unusual name, or not looked for."""
    if not data.labelled:
        return " --unlabelled"
    name = data.label_column
    return "" if name is None or name.lower() in LABEL_COLUMNS else f" --label {shlex.quote(name)}"


def _typed(path: Path) -> str:
    """The path as one word of a shell; one that begins with a dash must not be read as an option."""
    return shlex.quote(str(path) if not str(path).startswith("-") else f"./{path}")
