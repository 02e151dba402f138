"""Reads a grid file: everything is checked before anything runs, and all mistakes are told at once."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from tocsin.attacks import ATTACKS
from tocsin.bench.choices import AttackChoice, Cell, DataChoice, DetectorChoice, VictimChoice
from tocsin.data.builtin import digits
from tocsin.detectors import DETECTORS
from tocsin.errors import InputError
from tocsin.learning import FitSettings, usual_settings
from tocsin.networks import NETWORKS
from tocsin.params import closest, parse_fields

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILTIN = {"digits": digits}
"""Data that come with the package: name -> function of (seed, train, reserve, test)."""
_BUILTIN_SIZES = {"train": 6000, "reserve": 1000, "test": 1000}
_SECTIONS = {"data": "the data sets", "attack": "the attacks", "detector": "the detectors", "victim": "the networks"}
_TOP = ("seeds", "retrain", *_SECTIONS)


@dataclass(frozen=True)
class Grid:
    """What a grid file asks for, checked and expanded."""

    data: tuple[DataChoice, ...]
    attacks: tuple[AttackChoice, ...]
    detectors: tuple[DetectorChoice, ...]
    victims: tuple[VictimChoice, ...] = (VictimChoice(),)
    seeds: tuple[int, ...] = (0,)
    retrain: bool = False
    """Train a victim on what each detector keeps."""

    def cells(self, fingerprints: Mapping[tuple[str, int], str]) -> list[Cell]:
        """Every cell once, seed by seed, so that the first seed's table is full first.

        ``fingerprints``: of the split of each data set (by its name) at each seed.
        """
        found: dict[str, Cell] = {}
        for s, seed in enumerate(self.seeds):
            choices = itertools.product(enumerate(self.data), enumerate(self.victims), enumerate(self.attacks), enumerate(self.detectors))
            for (d, data), (v, victim), (a, attack), (m, detector) in choices:
                split = fingerprints[data.name, seed]
                cell = Cell(data, split, attack, detector, victim, seed, self.retrain, (d, v, a, m, s))
                found.setdefault(cell.key, cell)
        return list(found.values())


@dataclass
class _Reader:
    """One pass over the file. ``wrong`` collects the mistakes, each with its place."""

    folder: Path
    wrong: list[str] = field(default_factory=list)

    def grid(self, raw: Mapping[str, Any]) -> Grid | None:
        """None where there are mistakes."""
        for key in raw:
            if key not in _TOP:
                self.wrong.append(f"unknown key {key!r}{closest(key, _TOP)} (allowed: {', '.join(_TOP)})")
        made = Grid(
            data=tuple(self._each(raw, "data", self._data)),
            attacks=tuple(self._each(raw, "attack", self._attack)),
            detectors=tuple(self._each(raw, "detector", self._detector)),
            victims=tuple(self._each(raw, "victim", self._victim)) if "victim" in raw else (VictimChoice(),),
            seeds=self._seeds(raw.get("seeds", [0])),
            retrain=self._flag(raw.get("retrain", False), "retrain"),
        )
        names = [choice.name for choice in made.data]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.wrong.append(f"[[data]]: the name {name!r} is used more than once; tables are told apart by it")
        return None if self.wrong else made

    def _each(self, raw: Mapping[str, Any], section: str, read: Callable[[dict[str, Any], str], Iterator[Any]]) -> Iterator[Any]:
        """What ``read`` makes of every table of the section; its mistakes with the table's number."""
        tables = raw.get(section, [])
        tables = [tables] if isinstance(tables, Mapping) else tables
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.wrong.append(f"{section}: {_SECTIONS[section]} are tables; write [[{section}]] and below it a line for each setting")
            return
        if not tables:
            self.wrong.append(f"{section}: missing; at least one [[{section}]] is needed")
        for number, table in enumerate(tables, 1):
            name = table.get("name", table.get("network", ""))
            yield from read(dict(table), f"[[{section}]] {number}" + (f" ({name})" if isinstance(name, str) and name else ""))

    def _seeds(self, value: Any) -> tuple[int, ...]:
        good = isinstance(value, list) and value and all(isinstance(s, int) and not isinstance(s, bool) and 0 <= s < 2**32 for s in value)
        if not good or len(set(value)) < len(value):
            self.wrong.append(f"seeds: got {value!r}, allowed is a list of different whole numbers from 0, for example [0, 1, 2]")
            return (0,)
        return tuple(value)

    def _flag(self, value: Any, place: str) -> bool:
        if not isinstance(value, bool):
            self.wrong.append(f"{place}: got {value!r}, allowed is true or false")
        return value is True

    def _unknown(self, table: Mapping[str, Any], allowed: Sequence[str], place: str) -> bool:
        unknown = [key for key in table if key not in allowed]
        self.wrong += [f"{place}: unknown key {key!r}{closest(key, allowed)} (allowed: {', '.join(allowed)})" for key in unknown]
        return bool(unknown)

    def _named(self, table: dict[str, Any], place: str, known: Mapping[str, Any]) -> str | None:
        """The table's ``name``, taken out of it; None (and a mistake) where it is not ``known``."""
        name = table.pop("name", None)
        if not isinstance(name, str):
            self.wrong.append(f"{place}: name: got {name!r}, allowed is one of {', '.join(known)}")
            return None
        key = name.strip().lower().replace("_", "-")
        if key not in known:
            self.wrong.append(f"{place}: name: unknown {name!r}{closest(key, known)} (allowed: {', '.join(known)})")
            return None
        return key

    def _tried(self, make: Callable[[], Any], place: str) -> Any:
        """What ``make`` gives; None (and a mistake, once) where it refuses."""
        try:
            return make()
        except InputError as why:
            if (said := f"{place}: {why}") not in self.wrong:
                self.wrong.append(said)
            return None

    def _attack(self, table: dict[str, Any], place: str) -> Iterator[AttackChoice]:
        if (name := self._named(table, place, ATTACKS)) is None:
            return
        for settings in self._expanded(table, ATTACKS[name], place):
            choice = AttackChoice(name, settings)
            if self._tried(choice.build, place) is not None:
                yield choice

    def _detector(self, table: dict[str, Any], place: str) -> Iterator[DetectorChoice]:
        if (name := self._named(table, place, DETECTORS)) is None:
            return
        canaries = self._flag(table.pop("canaries", True), f"{place}: canaries")
        for settings in self._expanded(table, DETECTORS[name], place):
            preset = settings.pop("preset", "fast")
            choice = DetectorChoice(name, preset, settings, canaries)
            if not isinstance(preset, str):
                self.wrong.append(f"{place}: preset: got {preset!r}, allowed is a word")
            elif self._tried(choice.build, place) is not None:
                yield choice

    def _victim(self, table: dict[str, Any], place: str) -> Iterator[VictimChoice]:
        if self._unknown(table, ("network", "flip", *(f.name for f in fields(FitSettings))), place):
            return
        for settings in self._expanded(table, FitSettings, place):
            given, network = dict(settings), settings.pop("network", None)
            flip = self._flag(settings.pop("flip", False), f"{place}: flip")
            usual = usual_settings(network) if isinstance(network, str) else FitSettings()
            fit = self._tried(lambda s=settings, usual=usual: replace(usual, **parse_fields(FitSettings, s)), place)  # type: ignore[misc]
            if network is not None and (not isinstance(network, str) or network not in NETWORKS):
                near = closest(network, NETWORKS) if isinstance(network, str) else ""
                self.wrong.append(f"{place}: network: got {network!r}{near} (allowed: {', '.join(NETWORKS)})")
            elif fit is not None:
                yield VictimChoice(network, flip, fit if settings else None, given)

    def _expanded(self, table: Mapping[str, Any], cls: type, place: str) -> Iterator[dict[str, Any]]:
        """Settings with one value each: a list stands for its members, unless the setting itself is a list (then a list of lists)."""
        hints = get_type_hints(cls)
        options = []
        for key, value in table.items():
            many = isinstance(value, list) and (not _is_list(hints.get(key.replace("-", "_"))) or any(isinstance(v, list) for v in value))
            if many and not value:
                self.wrong.append(f"{place}: {key}: an empty list; leave the line out, or give at least one value")
                return
            options.append(value if many else [value])
        for values in itertools.product(*options):
            yield dict(zip(table, values, strict=True))

    def _data(self, table: dict[str, Any], place: str) -> Iterator[DataChoice]:
        if self._unknown(table, [f.name for f in fields(DataChoice)], place):
            return
        before = len(self.wrong)
        builtin, size, root = table.get("builtin"), table.get("size"), table.get("root")
        if builtin is not None and (not isinstance(builtin, str) or builtin not in BUILTIN):
            near = closest(builtin, BUILTIN) if isinstance(builtin, str) else ""
            self.wrong.append(f"{place}: builtin: got {builtin!r}{near} (allowed: {', '.join(BUILTIN)})")
        if builtin is not None and (size is not None or root is not None):
            self.wrong.append(f"{place}: size and root belong to data in files, not to built-in data")
        if size is not None and not _is_count(size):
            self.wrong.append(f"{place}: size: got {size!r}, allowed is a whole number of pixels from 1")
        sets = {key: self._source(table, key, place, builtin is not None) for key in _BUILTIN_SIZES}
        folder = self._existing(root, f"{place}: root") if root is not None else None
        name = table.get("name", builtin if builtin is not None else Path(str(table.get("train", ""))).stem)
        if not isinstance(name, str) or not name.strip():
            self.wrong.append(f"{place}: name: got {name!r}, allowed is a word to call the data by in the table")
        if len(self.wrong) == before:
            yield DataChoice(name, sets["train"], sets["reserve"], sets["test"], builtin, size, folder)  # type: ignore[arg-type]

    def _source(self, table: Mapping[str, Any], key: str, place: str, builtin: bool) -> Path | int | None:
        value = table.get(key, _BUILTIN_SIZES[key] if builtin else None)
        if builtin or (key != "train" and not isinstance(value, str)):
            if not _is_count(value):
                path = "" if builtin else "a path, or "
                self.wrong.append(f"{place}: {key}: {_got(value)}, allowed is {path}a whole number of samples from 1")
            return value if _is_count(value) else None
        return self._existing(value, f"{place}: {key}")

    def _existing(self, value: Any, place: str) -> Path | None:
        if not isinstance(value, str) or not value:
            self.wrong.append(f"{place}: {_got(value)}, allowed is a path")
            return None
        path = self.folder / Path(value).expanduser()
        if not path.exists():
            beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            self.wrong.append(f"{place}: {path}: no such file or folder{closest(path.name, beside)}")
            return None
        return path.resolve()


def read_grid(path: Path) -> Grid:
    """The grid in the TOML file ``path``; relative paths in it start at its own folder.

    Raises one `InputError` that lists every mistake with its place.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as why:
        raise InputError(f"grid: {path} cannot be read ({why.strerror or why})") from why
    except ValueError as why:  # of TOML, or of UTF-8
        raise InputError(f"grid: {path} is not a TOML file: {why}") from why
    reader = _Reader(path.resolve().parent)
    grid = reader.grid(raw)
    if grid is None:
        number = len(reader.wrong)
        raise InputError(f"grid: {path} has {number} mistake{'s' if number > 1 else ''}:\n" + "\n".join(f"  {m}" for m in reader.wrong))
    return grid


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _got(value: Any) -> str:
    return "missing" if value is None else f"got {value!r}"


def _is_list(hint: Any) -> bool:
    """Whether a field of this type holds several values itself."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_is_list(each) for each in get_args(hint))
    return get_origin(hint) is tuple or hint is tuple
