"""A clean reserve where there is none yet: draw a sample, let a person vet it by eye, take it out of the training data."""

from __future__ import annotations

import csv
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tocsin.data.cells import restore, write_csv
from tocsin.data.dataset import Dataset
from tocsin.data.images import Size, resize_all
from tocsin.data.names import counted, listed, shown
from tocsin.data.pairing import LEAST_IN_ALL, LEAST_PER_CLASS
from tocsin.data.rows import row_hashes
from tocsin.data.table_writing import suffix_of_copy
from tocsin.data.writing import table_of, write_subset, write_table
from tocsin.errors import AuditIncomplete, InputError
from tocsin.report.pictures import png_data_uri
from tocsin.report.records import value_text
from tocsin.report.sounds import HINT, Spectrograms, fitting, said, wav_uri
from tocsin.runtime import Runtime

PAGE = "contact_sheet.html"
CANDIDATES = "candidates.csv"
MOST_PAGE_BYTES = 14 * 2**20
"""Of all pictures together."""
MOST_SOUND_BYTES = 40 * 2**20
"""Of all players together: a clip that is vetted must be heard."""
MOST_COLUMNS = 40
"""Of a table that are shown on the page."""
WHOLE_SPEAKERS = 0.8
"""Share of the wanted number that whole speakers must reach, else the draw is made without regard to them."""
_TEMPLATES = Path(__file__).parent / "report" / "templates"
_KEPT = {"1": True, "true": True, "yes": True, "keep": True, "0": False, "false": False, "no": False, "remove": False, "reject": False}


@dataclass(frozen=True)
class Prepared:
    """What `prepare` wrote."""

    page: Path
    """``contact_sheet.html``, to vet by eye or ear."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Sheet:
    """Samples as the page shows them, ``data:`` addresses in the samples' order."""

    pictures: list[str]
    sounds: list[str] | None = None
    hint: str = ""
    header: tuple[str, ...] = ()
    """Of a table: names of the columns, of which each sample has ..."""
    cells: list[tuple[str, ...]] | None = None
    """... what stands in them."""


@dataclass(frozen=True)
class Accepted:
    """What `accept` wrote."""

    reserve: Path
    """Load this as the reserve."""
    train: Path
    """Load this as the training data: all rows that are not in the reserve."""
    root: Path | None
    """If not None: the folder that ``train``'s paths start from, as in ``load(train, root=root)``."""
    notes: tuple[str, ...]


def draw(train: Dataset, n: int, seed: int) -> np.ndarray:
    """(n,) sorted row indices, the same number from each class as far as the classes are large enough; random within a class.

    Where the data name speakers: all clips of some speakers, at most ``n`` and at least four fifths of it, if they can be chosen so that
    no class has fewer than an audit needs. Then no voice of the reserve is left in the training data.
    """
    if not 0 < n <= len(train):
        raise InputError(f"n: {n} given; allowed: 1 to {len(train):,}, the number of samples (2,000 are usual)")
    rng = np.random.default_rng(seed)
    whole = _whole_speakers(train, n, rng)
    if whole is not None:
        return whole
    quota = _quotas(train.class_counts, n, rng)
    picked = [rng.permutation(np.flatnonzero(train.labels == k))[:number] for k, number in enumerate(quota.tolist())]
    return np.sort(np.concatenate(picked))


def _whole_speakers(train: Dataset, n: int, rng: np.random.Generator) -> np.ndarray | None:
    """Rows of speakers drawn at random while they fit into ``n``; None where there are too few speakers, or the classes too uneven."""
    if train.groups is None:
        return None
    names, member, sizes = np.unique(train.groups, return_inverse=True, return_counts=True)
    chosen = np.zeros(len(names), bool)
    total = 0
    for k in rng.permutation(np.flatnonzero(names != "")).tolist():
        if total + sizes[k] <= n:
            chosen[k] = True
            total += int(sizes[k])
    rows = np.flatnonzero(chosen[member.reshape(-1)])
    counts = np.bincount(train.labels[rows], minlength=len(train.classes))
    enough = (counts >= np.minimum(train.class_counts // 2, LEAST_PER_CLASS)).all()
    return rows if total >= WHOLE_SPEAKERS * n and enough else None


def shared_speakers(train: Dataset, reserve: np.ndarray) -> list[str]:
    """A note about speakers that are on both sides of ``reserve`` (N,) bool, if there are any."""
    if train.groups is None:
        return []
    both = np.setdiff1d(np.intersect1d(train.groups[reserve], train.groups[~reserve]), [""])
    if not len(both):
        return []
    why = "could not be kept together, they also speak in the training data"
    return [f"{counted(len(both), 'speaker')} of the reserve {why}: {listed(both)}; what the audit finds is then a little too sure"]


def _quotas(counts: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """(K,) how many of each class: the largest common level that does not exceed ``n``, the rest one each at random."""
    low, high = 0, int(counts.max())
    while low < high:
        level = (low + high + 1) // 2
        low, high = (level, high) if int(np.minimum(counts, level).sum()) <= n else (low, level - 1)
    quota: np.ndarray = np.minimum(counts, low)
    open_classes = rng.permutation(np.flatnonzero(counts > low))
    quota[open_classes[: n - int(quota.sum())]] += 1
    return quota


def prepare(train: Dataset, n: int, out: str | os.PathLike[str], seed: int = 0, runtime: Runtime | None = None) -> Prepared:
    """Writes ``contact_sheet.html`` (to vet by eye, or by ear) and ``candidates.csv`` (``id,label,keep``) to ``out``.

    The page is one file without any outside reference. Raises `InputError` if they exist already.
    """
    runtime = runtime or Runtime()
    folder = Path(out)
    drawn = np.zeros(len(train), bool)
    drawn[draw(train, n, seed)] = True
    chosen = train[drawn]
    for name in (PAGE, CANDIDATES):
        if (folder / name).exists():
            raise InputError(f"out: {shown(str(folder / name))} exists; nothing is ever overwritten, give another folder")
    page = contact_sheet(chosen, runtime)
    rows = [(str(name), train.classes[label], "1") for name, label in zip(chosen.ids, chosen.labels.tolist(), strict=True)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PAGE).write_text(page, encoding="utf-8")
        write_csv(folder / CANDIDATES, ("id", "label", "keep"), rows)
    except OSError as why:
        raise AuditIncomplete(f"the contact sheet could not be written to {shown(str(folder))}: {why.strerror or why}") from why
    return Prepared(folder / PAGE, tuple(shared_speakers(train, drawn)))


def contact_sheet(chosen: Dataset, runtime: Runtime) -> str:
    """The page as HTML text: every sample a picture or a row with a box that is ticked; under 15 MB whatever the pictures are.

    Sounds have players too, up to 40 MiB; of very many clips these hold only the beginnings, and the page says so.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    sheet = SHEETS[chosen.kind](chosen, runtime)
    groups = []
    for k, name in enumerate(chosen.classes):
        rows = np.flatnonzero(chosen.labels == k).tolist()
        if rows:
            samples = [
                {
                    "id": str(chosen.ids[row]),
                    "picture": sheet.pictures and sheet.pictures[row],
                    "sound": sheet.sounds and sheet.sounds[row],
                    "cells": sheet.cells and sheet.cells[row],
                }
                for row in rows
            ]
            groups.append({"name": name, "samples": samples})
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    # The nonce lets the page's own script run and no other, should a name ever get past the escaping.
    page = environment.get_template("contact_sheet.html.j2")
    what = "clips" if sheet.sounds is not None else "rows" if sheet.cells is not None else "pictures"
    return page.render(groups=groups, total=len(chosen), hint=sheet.hint, header=sheet.header, what=what, nonce=secrets.token_hex(16))


def _thumbnails(chosen: Dataset, runtime: Runtime) -> Sheet:
    """PNGs of all samples; made smaller together until they fit the page's budget."""
    inputs = chosen.inputs
    while True:
        pictures = []
        for row, pixels in enumerate(inputs):
            if row % 256 == 0:
                runtime.progress("drawing the contact sheet", row / len(inputs))
            pictures.append(png_data_uri(pixels))
        total = sum(map(len, pictures)) + 300 * len(pictures)
        height, width = inputs.shape[1:3]
        if total <= MOST_PAGE_BYTES or max(height, width) <= 16:
            runtime.progress("drawing the contact sheet", 1.0)
            return Sheet(pictures)
        shrink = 0.95 * (MOST_PAGE_BYTES / total) ** 0.5
        inputs = resize_all(np.ascontiguousarray(inputs), Size(max(1, int(height * shrink)), max(1, int(width * shrink))))


def _players(chosen: Dataset, runtime: Runtime) -> Sheet:
    """Spectrograms, and players of as good a sound as fits."""
    shown, playback, rate = Spectrograms(chosen), fitting(chosen, MOST_SOUND_BYTES), chosen.rate or 0
    pictures, sounds = [], []
    for row, clip in enumerate(chosen.inputs):
        if row % 256 == 0:
            runtime.progress("drawing the contact sheet", row / len(chosen))
        pictures.append(shown.picture(clip))
        sounds.append(wav_uri(clip, rate, playback))
    runtime.progress("drawing the contact sheet", 1.0)
    return Sheet(pictures, sounds, HINT + said(playback))


def _records(chosen: Dataset, runtime: Runtime) -> Sheet:
    """What stands in the columns that are not constant."""
    values, columns = np.asarray(chosen.inputs, np.float64), chosen.columns or ()
    varied = np.flatnonzero(~((values == values[:1]) | (np.isnan(values) & np.isnan(values[:1]))).all(axis=0))[:MOST_COLUMNS]
    cells = [tuple(value_text(value, columns[k]) for k, value in zip(varied, row, strict=True)) for row in values[:, varied].tolist()]
    left = len(columns) - len(varied)
    hint = f"{counted(left, 'column')} that are the same in all rows or come after {MOST_COLUMNS} others are not shown." if left else ""
    return Sheet([], None, hint, tuple(shown(columns[k].name, 40) for k in varied), cells)


SHEETS: Mapping[str, Callable[[Dataset, Runtime], Sheet]] = {"image": _thumbnails, "speech": _players, "table": _records}
"""Kind of data -> how its samples are shown to be vetted."""


def accept(train: Dataset, decisions: str | os.PathLike[str], out: str | os.PathLike[str]) -> Accepted:
    """Turns vetted decisions (``id,label,keep``) into a reserve and the training data without it.

    For data in files: ``out/reserve/`` in the layout of the source, and ``out/train.csv`` (``path,label``; the paths start at the
    source's folder). Else ``out/reserve.npz`` and ``out/train.npz``; tables keep their layout (``.csv``, ``.parquet`` ...). A kept
    sample whose exact copy stays in the training data is left out of the reserve with a note. Raises `InputError` if the decisions
    do not fit the data or keep nothing.
    """
    folder = Path(out)
    keep = _decided(train, Path(decisions))
    hashes = row_hashes(train.inputs)
    doubled = keep & np.isin(hashes, hashes[~keep]) & (train.kind != "table")  # rows of tables are equal by nature (`pairing.match`)
    keep &= ~doubled
    notes = [f"{int(doubled.sum()):,} vetted samples have an exact copy in the training data and stay there"] if doubled.any() else []
    if not keep.any():
        raise InputError(f"decisions: {shown(str(decisions))} leaves no sample for the reserve")
    notes += _too_small(train[keep]) + shared_speakers(train, keep)
    if train.root is None:
        end = suffix_of_copy(train)
        reserve = write_subset(train, keep, folder / f"reserve{end}")
        return Accepted(reserve, write_subset(train, ~keep, folder / f"train{end}"), None, tuple(notes))
    manifest = folder / "train.csv"
    if os.path.lexists(manifest):
        raise InputError(f"out: {shown(str(manifest))} exists; nothing is ever overwritten, give another folder")
    reserve = write_subset(train, keep, folder / "reserve")
    try:
        write_table(manifest, table_of(train[~keep], "path"))
    except OSError as why:
        raise AuditIncomplete(f"{shown(str(manifest))} could not be written: {why.strerror or why}") from why
    return Accepted(reserve, manifest, train.root, tuple(notes))


def _too_small(reserve: Dataset) -> list[str]:
    counts = reserve.class_counts
    notes = [f"the reserve has {counted(len(reserve), 'sample')}; an audit needs {LEAST_IN_ALL}"] if len(reserve) < LEAST_IN_ALL else []
    few = [f"{name} ({count})" for name, count in zip(reserve.classes, counts.tolist(), strict=True) if count < LEAST_PER_CLASS]
    return [*notes, f"an audit needs {LEAST_PER_CLASS} reserve samples a class; there are fewer in {listed(few)}"] if few else notes


def _decided(train: Dataset, path: Path) -> np.ndarray:
    """(N,) bool: the rows that were vetted and kept."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = [{(key or "").strip().lower(): cell for key, cell in row.items()} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as why:
        raise InputError(f"decisions: {shown(str(path))} cannot be read as a CSV table ({why})") from why
    if not rows or not {"id", "label", "keep"} <= set(rows[0]):
        raise InputError(f"decisions: {shown(str(path))} must have the columns id, label, keep, as the contact sheet writes them")
    place = {str(name): row for row, name in enumerate(train.ids)}
    keep = np.zeros(len(train), bool)
    seen: dict[str, bool] = {}
    wrong: dict[str, list[str]] = {
        "unknown id": [],
        "another class than in the data": [],
        "keep is neither 1 nor 0": [],
        "decided twice": [],
    }
    for row in rows:
        name, label, said = restore(row["id"] or ""), restore(row["label"] or ""), (row["keep"] or "").strip().lower()
        if name not in place:
            wrong["unknown id"].append(name)
        elif train.classes[train.labels[place[name]]] != label:
            wrong["another class than in the data"].append(name)
        elif said not in _KEPT:
            wrong["keep is neither 1 nor 0"].append(name)
        elif seen.setdefault(name, _KEPT[said]) != _KEPT[said]:
            wrong["decided twice"].append(name)
        else:
            keep[place[name]] = _KEPT[said]
    if parts := [f"{what}: {listed(names)}" for what, names in wrong.items() if names]:
        raise InputError(f"decisions: {shown(str(path))} does not fit the data ({'; '.join(parts)}); was it made from other data?")
    return keep
