"""Several detectors on one data set: the first leads, the others are heard, and the report says where they agree.

Ranks are compared as conformal p-values against each detector's own clean control; raw scores of different methods mean nothing
beside each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tocsin.data.dataset import Dataset
from tocsin.detectors import DETECTORS, usual_detector
from tocsin.detectors.base import Detector, Findings
from tocsin.detectors.combined import Combined
from tocsin.detectors.reader import VictimReader
from tocsin.errors import InputError
from tocsin.paradigms import PARADIGMS, Paradigm, Supervised
from tocsin.params import closest, parse_fields, settings_of
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from tocsin.detectors.victim import Victim


def names_of(detector: str | Sequence[str] | None, kind: str = "image") -> tuple[str, ...]:
    """``"ct,ss"`` or ``["ct", "ss"]`` as names; None: what is usual for the ``kind`` of data.

    Raises `InputError` that lists every unknown and every repeated one.
    """
    if detector is None:
        return (usual_detector(kind),)
    names = tuple(word.strip() for word in (detector.split(",") if isinstance(detector, str) else detector))
    wrong = [f"got {name!r}{closest(name, DETECTORS)}" for name in names if name not in DETECTORS]
    wrong += [f"{name!r} is named more than once" for name in sorted({name for name in names if names.count(name) > 1})]
    if wrong or not names:
        raise InputError(f"detector: {'; '.join(wrong) or 'none is named'}; allowed: {', '.join(DETECTORS)}")
    return names


def configured(names: Sequence[str], preset: str, params: Mapping[str, Any], kind: str, setting: str = Supervised.name) -> list[Detector]:
    """The named detectors with their settings; ``{"ss.oracle": 0.01}`` addresses one of them, or a member of one that asks several, a plain
    name the first.

    A preset that only the leading detector has leaves the others at their default. ``setting``: the learning setting, a name of
    `PARADIGMS`. Raises `InputError`, also for a detector that is not defined there.
    """
    unfit = [name for name in names if kind not in DETECTORS[name].kinds]
    if unfit:
        kinds = sorted(set.intersection(*(set(DETECTORS[name].kinds) for name in unfit)))
        raise InputError(f"detector {', '.join(unfit)} works on {', '.join(kinds)} data, got {kind}")
    reasons = {name: DETECTORS[name].not_defined[setting] for name in names if setting in DETECTORS[name].not_defined}
    if reasons:
        said = "; ".join(f"detector {name} is not defined here, because {why}" for name, why in reasons.items())
        raise InputError(f"setting {setting}: {said}; defined are {', '.join(defined_in(setting))}")
    given, of_members = _addressed(names, params)
    made = []
    for name in names:
        method = DETECTORS[name]
        changes, there = parse_fields(method, given[name]), method.by_setting.get(setting, {})
        changes |= {"changed": of_members[name]} if of_members[name] else {}
        try:
            made.append(method.preset_for(kind, preset, **{**there.get(preset, {}), **changes}))
        except InputError:
            if name == names[0]:
                raise
            made.append(method.preset_for(kind, "fast", **{**there.get("fast", {}), **changes}))
    return made


def _addressed(names: Sequence[str], params: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[Any, ...]]]:
    """By the name of a detector, the ``params`` that it is given, and those for members of it: (member, field, value) each."""
    given: dict[str, dict[str, Any]] = {name: {} for name in names}
    of_members: dict[str, tuple[Any, ...]] = dict.fromkeys(names, ())
    for key, value in params.items():
        owner, dot, field = key.rpartition(".")
        owner = owner or _owner(names[0], field)
        asking = next((name for name in names if owner in _members(name)), None)
        if owner in given and (dot or owner == names[0]):
            given[owner][field] = value
        elif asking is not None:
            of_members[asking] += tuple((owner, name, one) for name, one in parse_fields(DETECTORS[owner], {field: value}).items())
        else:
            raise InputError(f"setting {key!r}: detector {owner!r} is not among those that run ({', '.join(names)})")
    return given, of_members


def _owner(lead: str, field: str) -> str:
    """Whose a setting without an owner is: of the ``lead``, or of the one member of it that has such a setting."""
    whose = [name for name, member in _members(lead).items() if _has(member, field)]
    if not whose or _has(DETECTORS[lead], field):
        return lead
    if len(whose) > 1:
        raise InputError(
            f"setting {field!r}: {lead} asks several methods; say whose it is: {' or '.join(f'{one}.{field}' for one in whose)}"
        )
    return whose[0]


def _members(name: str) -> Mapping[str, type[Detector]]:
    method = DETECTORS[name]
    return method.allowed if issubclass(method, Combined) else {}


def _has(method: type[Detector], field: str) -> bool:
    return field.replace("-", "_") in [one.name for one in settings_of(method)]


def defined_in(setting: str) -> list[str]:
    """The detectors that can be used in a learning setting."""
    kinds = PARADIGMS[setting].kinds
    return [name for name, method in DETECTORS.items() if setting not in method.not_defined and method.kinds & kinds]


def hear(
    detectors: Sequence[Detector], train: Dataset, reserve: Dataset, runtime: Runtime, paradigm: Paradigm | None = None
) -> tuple[Findings, ...]:
    """What each detector finds in the person's own samples. Those that read a model share the one that the learning setting
    (``paradigm``; None: supervised) makes of ``train``, trained once and only where one asks; where networks are trained from
    scratch, a detector may name one of its own."""
    paradigm = paradigm or Supervised()

    def own(one: VictimReader) -> bool:
        return one.own_network and paradigm.from_scratch

    victim: Victim | None = None
    if any(one.asks_network and not own(one) for one in detectors if isinstance(one, VictimReader)):
        victim = paradigm.victim(train, reserve, runtime)
    return tuple(
        one.inspect(train, reserve, runtime, victim=None if own(one) else victim)
        if isinstance(one, VictimReader)
        else one.inspect(train, reserve, runtime)
        for one in detectors
    )
