"""index.html: a Report as one self-contained page. What is shown is decided here, how it looks in templates/."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tocsin.report import records, words
from tocsin.report.charts import histogram
from tocsin.report.pictures import PICTURES, MeanPicture
from tocsin.report.tables import jsonable

if TYPE_CHECKING:
    from tocsin.report.model import Report

TEMPLATES = Path(__file__).parent / "templates"
PICTURED = 400
"""Suspects shown with a picture, at most (over all classes)."""
PICTURED_A_CLASS = 8
"""... but so many of each class, whatever the number of classes."""
OPEN_A_CLASS = 60
"""Suspects of a class that are visible at once; the rest is folded away."""
LISTED = 10_000
"""Suspects listed one by one; further ones are in the page's data only, and count as "remove"."""
ORDINARY = 12
BEST_UNFLAGGED = 24
PICTURE_BYTES = 4_500_000
"""All pictures together; the page stays below about 6 MB ..."""
SOUND_BYTES = 6_000_000
"""... and below about 12 MB where there are sounds, all players together."""
MEAN_OF = 2000
"""Samples that a mean picture is taken over, at most."""


_NO_OTHER = "base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class Tile:
    """One sample on the page."""

    row: int
    id: str
    label: str
    score: float
    rank: int
    uri: str | None
    """Its picture; None: listed without one."""
    sound: str | None
    """It, to listen to; None: a picture, or there was no more room."""
    flagged: bool
    cells: tuple[str, ...] = ()
    """Of a table: what stands in the columns of its group's header."""


@dataclass(frozen=True)
class ClassGroup:
    """A class with suspects, its suspects beside ordinary samples."""

    name: str
    size: int
    flagged: int
    suspect: bool
    first: tuple[Tile, ...]
    more: tuple[Tile, ...]
    listed: tuple[Tile, ...]
    ordinary: tuple[Tile, ...]
    mean: MeanPicture | None
    header: tuple[str, ...] = ()
    """Of a table: names of the columns that are shown."""


class _Album:
    """Makes pictures until the page's share of bytes is used up."""

    def __init__(self, report: Report) -> None:
        self.report = report
        kind = PICTURES.get(report.train.kind)
        self.look = None if kind is None else kind(report.train)
        self.left = PICTURE_BYTES
        self.sound_left = SOUND_BYTES

    def columns(self, k: int | None, suspects: np.ndarray, rest: np.ndarray) -> list[int]:
        """Of a table, the columns to show of class ``k`` (None: of no class), in which these rows differ from the ``rest``."""
        if self.report.train.columns is None:
            return []
        shared = next((entry.shared for entry in self.report.shared if entry.index == k), None)
        return records.telling_columns(self.report.train, shared, suspects, rest)

    def header(self, columns: list[int]) -> tuple[str, ...]:
        return tuple(words.shown((self.report.train.columns or ())[k].name, 30) for k in columns)

    def tiles(self, rows: np.ndarray, *, pictures: bool = True, columns: Sequence[int] = ()) -> tuple[Tile, ...]:
        report, train = self.report, self.report.train
        return tuple(
            Tile(
                row=row,
                id=str(train.ids[row]),
                label=train.classes[int(train.labels[row])],
                score=float(report.findings.scores[row]),
                rank=int(report.ranks[row]),
                uri=self._picture(row) if pictures else None,
                sound=self._sound(row) if pictures else None,
                flagged=bool(report.flagged[row]),
                cells=records.cells(train, row, columns) if columns else (),
            )
            for row in rows.tolist()
        )

    def _picture(self, row: int) -> str | None:
        if self.look is None or self.left <= 0:
            return None
        uri = self.look.picture(self.report.train.inputs[row])
        self.left -= len(uri)
        return uri

    def _sound(self, row: int) -> str | None:
        if self.look is None or self.look.sound is None or self.sound_left <= 0:
            return None
        uri = self.look.sound(self.report.train.inputs[row])
        self.sound_left -= len(uri)
        return uri

    def mean(self, suspects: np.ndarray, ordinary: np.ndarray) -> MeanPicture | None:
        """What these rows have in common that the ``ordinary`` rows of the class have not."""
        if self.look is None or self.left <= 0:
            return None
        # Every n-th by score, so that a large class is represented as a whole; sorted, for reading a memory map.
        spread = np.sort(ordinary[:: max(1, len(ordinary) // MEAN_OF)][:MEAN_OF])
        inputs = self.report.train.inputs
        made = self.look.mean(inputs[np.sort(suspects[:MEAN_OF])], inputs[spread])
        self.left -= 0 if made is None else len(made.suspects + made.ordinary + made.difference + made.alike)
        return made


def render(report: Report, folder: Path | None = None) -> str:
    """The page as text. Names in it are escaped; nothing in it is fetched from anywhere.

    ``folder``: where the report will lie, for the commands it proposes.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(shown=words.shown, percent=words.percent, num=number, short=short_id, clock=clock)
    # A hash in the policy lets exactly this script run; nothing that a name could smuggle in does.
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; {_NO_OTHER}"
    text = environment.get_template("report.html.j2").render(
        script=Markup(script),
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        policy=policy,
        **context(report, folder),
    )
    return text.encode("utf-8", errors="replace").decode()


def context(report: Report, folder: Path | None = None) -> dict[str, Any]:
    """Everything the template shows."""
    from tocsin import __version__

    album = _Album(report)
    kept = report.order[~report.flagged[report.order]]
    columns = album.columns(None, kept[:BEST_UNFLAGGED], kept[BEST_UNFLAGGED:])
    best = album.tiles(kept[:BEST_UNFLAGGED], columns=columns)
    groups, unlisted = class_groups(report, album)
    flags, scores = report.flagged, report.findings.scores
    series = [("kept", scores[~flags]), ("control", report.findings.control), ("suspects", scores[flags])]
    weak = words.weak_canaries(report)
    return {
        "report": report,
        "version": __version__,
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "groups": groups,
        "unlisted": len(unlisted),
        "hint": album.look.hint if album.look is not None else "",
        "sounding": album.look is not None and album.look.sound is not None,
        "unflagged": best,
        "unflagged_header": album.header(columns),
        "reasons": words.reasons(report),
        "shared": records.sentences(report),
        "wide": histogram(series, report.findings.threshold),
        "narrow": histogram(series, report.findings.threshold, width=380, height=260, bins=44),
        "evidence": evidence(report),
        "canaries": [(c, words.trigger_word(c.trigger), c in weak) for c in report.canaries if c.planted],
        "agreement": words.agreement(report) if report.panel else [],
        "facts": facts(report),
        "timings": timings(report),
        "commands": words.commands(report, folder),
        "notes": [words.shown(note, 400) for note in report.notes],
        # ids by row: the page's own attributes would not carry every file name unchanged (carriage returns, odd bytes)
        "data": {"key": _key(report), "ids": {tile.row: tile.id for tile in _ticked(groups, best)}, "unlisted": unlisted},
    }


def _ticked(groups: list[ClassGroup], best: tuple[Tile, ...]) -> list[Tile]:
    return [tile for group in groups for tile in (*group.first, *group.more, *group.listed)] + list(best)


def class_groups(report: Report, album: _Album) -> tuple[list[ClassGroup], list[str]]:
    """The classes that have suspects, named targets first, then by number of suspects; and the ids too many to list."""
    labels, flagged, order = report.train.labels, report.flagged, report.order
    counts = np.bincount(labels[flagged], minlength=len(report.train.classes))
    named = {c.index for c in report.findings.classes if c.suspect}
    classes = sorted(np.flatnonzero(counts).tolist(), key=lambda k: (k not in named, -counts[k], k))
    quota = _quota(counts)
    by_rank = order[flagged[order]]
    beyond = by_rank[LISTED:]
    groups = []
    for k in classes:
        rows = by_rank[:LISTED][labels[by_rank[:LISTED]] == k]
        rest = order[(labels[order] == k) & ~flagged[order]]
        # pictures of ordinary samples first: without them there is nothing to compare with
        columns = album.columns(k, rows, rest)
        mean, ordinary = album.mean(rows, rest), album.tiles(_middle(rest), columns=columns)
        shown = album.tiles(rows[:quota], columns=columns)
        groups.append(
            ClassGroup(
                name=report.train.classes[k],
                size=int((labels == k).sum()),
                flagged=int(counts[k]),
                suspect=k in named,
                first=shown[:OPEN_A_CLASS],
                more=shown[OPEN_A_CLASS:],
                listed=album.tiles(rows[quota:], pictures=False),
                ordinary=ordinary,
                mean=mean,
                header=album.header(columns),
            )
        )
    return groups, [str(i) for i in report.train.ids[beyond]]


def _quota(counts: np.ndarray) -> int:
    """How many suspects of each class get a picture, so that all classes together stay within `PICTURED`."""
    fits = [q for q in range(PICTURED_A_CLASS, PICTURED + 1) if np.minimum(counts, q).sum() <= PICTURED]
    return max(fits, default=PICTURED_A_CLASS)


def _middle(rows: np.ndarray) -> np.ndarray:
    """The `ORDINARY` rows nearest the median of ``rows``, which are sorted by score."""
    start = max(0, (len(rows) - ORDINARY) // 2)
    return rows[start : start + ORDINARY]


def evidence(report: Report) -> list[dict[str, Any]]:
    """Per class, most suspicious first: the numbers and the widths of their bars in percent."""
    classes = sorted(report.findings.classes, key=lambda c: (not c.suspect, -_finite(c.statistic), c.index))
    top = max((_finite(c.statistic) for c in classes), default=0.0)
    return [{"entry": c, "bar": round(100 * max(0.0, _finite(c.statistic)) / top, 1) if top > 0 else 0.0} for c in classes]


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def facts(report: Report) -> list[tuple[str, str]]:
    """What was run, as (name, value) pairs."""
    train, reserve = report.train, report.reserve
    lines = [
        ("Data", f"{len(train):,} samples, {len(train.classes):,} classes" + _from(train.source)),
        ("Reserve", f"{len(reserve):,} samples" + _from(reserve.source)),
        ("Detector", f"{report.findings.detector}, preset {report.preset}"),
        ("Time", clock(report.seconds)),
    ]
    said = {name.lower() for name, _ in lines} | {"preset"}
    extra = ((str(key).replace("_", " "), value) for key, value in report.settings.items())
    return lines + [(words.shown(key).capitalize(), _value(value)) for key, value in extra if key.lower() not in said]


def _from(source: Path | None) -> str:
    return "" if source is None else f", from {words.shown(str(source), 200)}"


def _value(value: Any) -> str:
    plain = jsonable(value)
    if isinstance(plain, dict):
        return words.shown(
            ", ".join(f"{key} {entry if isinstance(entry, str) else json.dumps(entry)}" for key, entry in plain.items()), 400
        )
    return words.shown(plain if isinstance(plain, str) else json.dumps(plain), 400)


def timings(report: Report) -> list[tuple[str, str, float]]:
    """(stage, time, share of the longest in percent)."""
    top = max(report.findings.timings.values(), default=0.0) or 1.0
    return [(stage, clock(t), round(100 * t / top, 1)) for stage, t in report.findings.timings.items()]


def _key(report: Report) -> str:
    """Under which the browser keeps decisions: the same for the same findings on the same data, else another."""
    digest = hashlib.blake2b(digest_size=12)
    for part in [report.train.fingerprint, *report.train.ids[report.flagged].tolist()]:
        digest.update(part.encode("utf-8", errors="backslashreplace") + b"\0")
    return f"tocsin:{digest.hexdigest()}"


def number(value: float) -> str:
    """A score or statistic for reading: three figures, a true minus sign, a dash where there is none."""
    if not math.isfinite(value):
        return "–"
    value += 0.0  # no minus before zero
    return f"{value:.3g}".replace("-", "−") if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}".replace("-", "−")


def clock(seconds: float) -> str:
    """``42.1 s``, ``3 min 20 s``, ``1 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def short_id(name: str, limit: int = 13) -> str:
    """The end of a path's last part, where file names differ; the whole of it is in the tile's title."""
    # without the ending, which is the same for nearly all
    last = words.shown(PurePosixPath(name).stem or name, len(name) + 1)
    return last if len(last) <= limit else f"…{last[-(limit - 1) :]}"
