"""Class folders: ``root/<class>/.../<sample>``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.data.decoding import decode_files
from tocsin.data.labels import assemble, encode, no_labels
from tocsin.data.listing import Entry, Skips, is_hidden, walk
from tocsin.data.media import MEDIA, is_sample_name, kind_of_files, medium_of
from tocsin.data.names import counted, id_of, in_order, listed
from tocsin.data.request import Request
from tocsin.errors import InputError

_SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev"})
_DATA_SUFFIXES = (".npz", ".csv", ".tsv", ".parquet")


def read(request: Request) -> Dataset:
    """The class is the first folder of a sample's path; ids are paths relative to the root."""
    if request.unlabelled:
        return _read_flat(request)
    root = request.path.resolve()
    skips = Skips()
    everything = walk(root, skips)
    files = [entry for entry in everything if "/" in entry.id]
    beside = [entry for entry in everything if "/" not in entry.id]
    folders = _class_folders(root)
    _check_layout(request, folders, files, beside, skips)
    medium = medium_of(files, request)
    decoded = decode_files(files, medium, request.runtime)
    ids = [files[at].id for at in decoded.kept.tolist()]
    labels, classes = encode([name.split("/", 1)[0] for name in ids], request.classes, missing=frozenset())
    empty = [name for name in folders if name not in set(classes)]
    notes = [*skips.notes(), *decoded.notes]
    if empty:
        notes.append(f"{counted(len(empty), 'class folder')} without a readable {medium.noun} left out: {listed(empty)}")
    if samples := [entry.id for entry in beside if medium.named(entry.id)]:
        notes.append(f"{counted(len(samples), medium.noun)} beside the class folders ignored, no class is known: {listed(samples)}")
    if others := len(beside) - len(samples):
        notes.append(f"{counted(others, 'file')} beside the class folders ignored")
    return assemble(
        decoded.inputs,
        labels,
        classes,
        np.array(ids),
        layout="folder",
        source=root,
        root=root,
        notes=notes,
        resized=decoded.resized,
        kind=decoded.kind,
        rate=decoded.rate,
    )


def _read_flat(request: Request) -> Dataset:
    """Every sample at any depth, without a label; ids are paths relative to the root."""
    root, skips = request.path.resolve(), Skips()
    files = walk(root, skips)
    medium = medium_of(files, request)
    _refuse_splits(request.path, _class_folders(root))
    if not files:
        left_out = f" ({'; '.join(skips.notes())})" if skips.notes() else ""
        raise InputError(f"{request.path}: no {medium.noun} in it{left_out}")
    decoded = decode_files(files, medium, request.runtime)
    labels, classes = no_labels(len(decoded.kept))
    return assemble(
        decoded.inputs,
        labels,
        classes,
        np.array([files[at].id for at in decoded.kept.tolist()]),
        layout="flat",
        source=root,
        root=root,
        notes=[*skips.notes(), *decoded.notes],
        resized=decoded.resized,
        kind=decoded.kind,
        rate=decoded.rate,
    )


def _class_folders(root: Path) -> list[str]:
    with os.scandir(root) as scan:
        names = [entry.name for entry in scan if not is_hidden(entry.name) and entry.is_dir()]
    return list(in_order(id_of(name) for name in names))


def _refuse_splits(path: Path, folders: Sequence[str]) -> None:
    if len(folders) > 1 and _SPLITS.issuperset(name.lower() for name in folders):
        raise InputError(f"{path}: its folders {listed(folders)} look like splits, not classes; did you mean {path / folders[-1]}?")


def _check_layout(request: Request, folders: list[str], files: Sequence[Entry], beside: Sequence[Entry], skips: Skips) -> None:
    """The usual wrong folder, told before anything is decoded."""
    path = request.path
    if not files:
        noun = MEDIA[kind_of_files(beside, request.kind)].noun
        samples = [entry.id for entry in beside if is_sample_name(entry.id)]
        tables = [entry.id for entry in beside if entry.id.lower().endswith(_DATA_SUFFIXES)]
        hint = ""
        if samples:
            hint = f"; {counted(len(samples), noun)} lie directly in it: put each in a folder named after its class, or add metadata.csv;"
            hint += " without labels: --setting self-supervised, or load(unlabelled=True)"
        elif tables:
            hint = f"; did you mean {path / tables[0]}?"
        left_out = f" ({'; '.join(skips.notes())})" if skips.notes() else ""
        raise InputError(f"{path}: no class folder with {noun}s in it{hint}{left_out}")
    _refuse_splits(path, folders)
    if len(folders) == 1:
        deeper = {entry.id.split("/")[1] for entry in files if entry.id.count("/") > 1}
        hint = f"; did you mean {path / folders[0]}?" if len(deeper) > 1 else ""
        raise InputError(f"{path}: only one class folder, {listed(folders)}; at least two classes are needed{hint}")
