"""What a grid is made of: data, attacks, detectors and victims; and the cell, one of each with a seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tocsin.attacks import Attack
from tocsin.detectors import DETECTORS, Detector
from tocsin.kinds import Kind
from tocsin.learning import FitSettings, usual_settings
from tocsin.params import parse_fields
from tocsin.poisoning import build
from tocsin.report.tables import jsonable

TRUTHS: Mapping[str, Any] = {"truth.rate": 0.01, "truth.count": 1, "truth.target": 0}
"""What a detector's setting may be told of the cell it is in, for oracle rows; with stand-ins, by which a grid is checked."""
DEFAULT_PRESET = "fast"


def digest(content: Any) -> str:
    """A short hash of anything JSON-able: equal for equal content."""
    text = json.dumps(jsonable(content), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


@dataclass(frozen=True)
class DataChoice:
    """Where the samples of a cell come from. A number in place of a path: so many are drawn (or made, of built-in data)."""

    name: str
    """What tables call it."""
    train: Path | int
    """What is poisoned and inspected."""
    reserve: Path | int
    """Clean samples for the detectors."""
    test: Path | int
    """Clean samples that ACC and ASR are measured on."""
    builtin: str | None = None
    """Name of data that come with the package; None: they are in files."""
    size: int | None = None
    """Side in pixels, as `tocsin.load` takes it."""
    root: Path | None = None
    """For a manifest: the folder its paths start from."""

    @property
    def id(self) -> str:
        """Of this source, whatever it holds at the time."""
        return digest(asdict(self))


@dataclass(frozen=True)
class AttackChoice:
    """An attack and the settings that the grid gives it."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the attack's class."""

    def build(self) -> Attack:
        """Raises `InputError`."""
        return build(self.name, **self.settings)

    @cached_property
    def id(self) -> str:
        """Of the attack with all its settings, those left at their defaults too."""
        return digest(self.build().recipe())

    @property
    def label(self) -> str:
        """For people: ``badnet 1 %``, ``tact 1 % cover_rate=0.01``."""
        attack = self.build()
        rate = [] if not attack.rate else [f"{100 * attack.rate:g} %" + (" of the class" if attack.rate_of == "class" else "")]
        return " ".join([self.name, *rate, *_words({k: v for k, v in self.settings.items() if k != "rate"})])


@dataclass(frozen=True)
class DetectorChoice:
    """A detector, its preset and the settings that the grid changes."""

    name: str
    preset: str = DEFAULT_PRESET
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the method's class; a word of `TRUTHS` stands for the truth."""
    canaries: bool = True
    """Plant the audit's own test samples, as ``tocsin audit`` does, where the method takes them."""

    def build(self, truths: Mapping[str, Any] = TRUTHS) -> Detector:
        """The method; settings that name a truth get its value from ``truths``. Raises `InputError`."""
        given = {**self.settings, **{key: truths[word] for key, word in self.told.items()}}
        return DETECTORS[self.name].preset(self.preset, **parse_fields(DETECTORS[self.name], given))

    @property
    def told(self) -> dict[str, str]:
        """The settings that are taken from the truth about the cell, with the truth's name."""
        return {key: value for key, value in self.settings.items() if isinstance(value, str) and value in TRUTHS}

    @cached_property
    def id(self) -> str:
        """Of the method with all its settings, those left at their defaults too."""
        return digest([self.name, self.preset, asdict(self.build()), self.told, self.canaries])  # type: ignore[call-overload]

    @property
    def label(self) -> str:
        """For people: ``ct``, ``ct paper``, ``ss oracle=truth.rate``."""
        preset = [] if self.preset == DEFAULT_PRESET else [self.preset]
        bare = [] if self.canaries or not DETECTORS[self.name].takes_canaries else ["without canaries"]
        return " ".join([self.name, *preset, *_words(self.settings), *bare])


@dataclass(frozen=True)
class VictimChoice:
    """The ordinary network that is attacked, that passive detectors read, and that is trained again on what is kept."""

    network: str | None = None
    """A name of `NETWORKS`; None: the usual one of the data's kind."""
    flip: bool = False
    """Mirrored pictures as augmentation (photographs: yes; digits, signs, text: no)."""
    fit: FitSettings | None = None
    """How it is trained; None: as is usual for the network."""
    given: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The settings that the grid names, for the label."""

    @property
    def described(self) -> dict[str, Any]:
        """All settings, JSON-able."""
        fit = usual_settings(self.network) if self.fit is None and self.network else self.fit
        return {"network": self.network, "flip": self.flip, **(asdict(fit) if fit else {})}

    def on(self, kind: Kind) -> tuple[str, FitSettings]:
        """Name of the network for data of ``kind``, and how it is trained."""
        network = self.network or kind.network
        return network, self.fit or usual_settings(network)

    @property
    def id(self) -> str:
        return digest(self.described)

    @property
    def label(self) -> str:
        """For people: ``small``, ``resnet18 epochs=30 flip=true``."""
        return " ".join([self.network or "usual network", *_words({k: v for k, v in self.given.items() if k != "network"})])


@dataclass(frozen=True)
class Cell:
    """One row of the results: this detector on that data under this attack, at one seed."""

    data: DataChoice
    split: str
    """Fingerprint of the training, reserve and test samples that ``data`` gives at this seed."""
    attack: AttackChoice
    detector: DetectorChoice
    victim: VictimChoice
    seed: int
    retrain: bool
    """Train a victim on what the detector keeps, and measure it."""
    place: tuple[int, ...] = ()
    """Where the grid has it: numbers of data, victim, attack, detector, seed. Only orders the table."""

    @cached_property
    def key(self) -> str:
        """What makes this cell this one: content of the data, every setting, the seed. Not the machine, not the grid's file."""
        return digest([self.split, self.attack.id, self.detector.id, self.victim.id, self.seed, self.retrain])

    @property
    def label(self) -> str:
        """For progress: ``digits, badnet 1 %, ct, seed 0``."""
        return f"{self.data.name}, {self.attack.label}, {self.detector.label}, {self.victim.label}, seed {self.seed}"

    def head(self) -> dict[str, Any]:
        """The part of the cell's line that is known before it runs; JSON-able."""
        attack, detector = self.attack.build(), self.detector.build()
        return {
            "key": self.key,
            "place": list(self.place),
            "seed": self.seed,
            "data": {"id": self.data.id, "name": self.data.name, "fingerprint": self.split, **jsonable(_sources(self.data))},
            "attack": {"id": self.attack.id, "name": self.attack.name, "label": self.attack.label, "settings": jsonable(attack.recipe())},
            "detector": {
                "id": self.detector.id,
                "name": self.detector.name,
                "label": self.detector.label,
                "preset": self.detector.preset,
                "given": jsonable(dict(self.detector.settings)),
                "settings": jsonable({**asdict(detector), **self.detector.told}),  # type: ignore[call-overload]
            },
            "victim": {"id": self.victim.id, "label": self.victim.label, **jsonable(self.victim.described)},
            "retrain": self.retrain,
        }


def _sources(data: DataChoice) -> dict[str, Any]:
    return {key: value for key, value in asdict(data).items() if key != "name" and value is not None}


def _words(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key}={_word(value)}" for key, value in settings.items()]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(_word, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
