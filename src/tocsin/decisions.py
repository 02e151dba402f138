"""From findings or a reviewer's decisions to the samples that stay."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tocsin.data.dataset import UNLABELLED, Dataset
from tocsin.errors import InputError
from tocsin.report.cells import read_csv, read_text
from tocsin.report.files import write_text
from tocsin.report.model import Report
from tocsin.report.tables import SCHEMA, manifest
from tocsin.report.words import shown

_DECISIONS: Mapping[str, bool] = {"keep": True, "remove": False}
_KEEP_BY_FLAG: Mapping[str, bool] = {"true": False, "false": True}


@dataclass(frozen=True)
class _Given:
    """What a file says, and what it lets us check about the data it was made for."""

    keep: dict[str, bool]
    labels: dict[str, str]
    """Class names by id, where the file has them."""
    samples: int | None = None
    """Size of the data set the file is about."""
    shape: tuple[int, ...] = ()
    """Shape of one sample, and the content's hash, where the file has them."""
    fingerprint: str = ""
    unlabelled: bool = False
    """The labels of the data were left aside (decisions.csv does not tell)."""


def read_decisions(path: str | Path) -> dict[str, bool]:
    """id -> whether the sample stays, from ``decisions.csv``, ``findings.csv`` or ``findings.json`` (or the folder that holds it).

    Ids that a file does not name stay. Raises `InputError` for any other file, for words other than keep and remove
    (in findings.csv: true and false), and for an id that comes twice.
    """
    return _read(Path(path)).keep


def about_unlabelled(path: str | Path) -> bool:
    """Whether the findings in the file are about data whose labels were left aside (decisions.csv does not tell: False)."""
    return _read(Path(path)).unlabelled


def apply(train: Dataset, decisions: str | Path | Report) -> np.ndarray:
    """(N,) bool: the samples of ``train`` to keep, after a report or a file as `read_decisions` takes.

    Raises `InputError` where the decisions were made for other data, as far as their ids, labels and counts can tell.
    """
    if isinstance(decisions, Report):
        if not np.array_equal(decisions.train.ids, train.ids):
            raise InputError(f"decisions: the report is about other data ({len(decisions.train):,} samples) than the {len(train):,} given")
        return ~decisions.flagged
    path = Path(decisions)
    given = _read(path)
    rows = dict(zip(train.ids.tolist(), range(len(train)), strict=True))
    unknown = [name for name in given.keep if name not in rows]
    if unknown:
        raise InputError(
            f"decisions: {len(unknown):,} of the {len(given.keep):,} ids in {path} are not in the data ({_few(unknown)}); "
            "were they made for another data set, or for another version of this one?"
        )
    _check_same_data(train, given, rows, path)
    keep = np.ones(len(train), bool)
    keep[[rows[name] for name, stays in given.keep.items() if not stays]] = False
    return keep


def write_manifest(train: Dataset, keep: np.ndarray, path: str | Path) -> Path:
    """Write the kept samples as CSV: ``path,label`` for data made of files, ``row,label`` else (no label where there are none). Returns
    the path.

    Paths are relative to the data's root, as the ids are: ``tocsin.load(path, root=train.root)`` reads it.
    Raises `AuditIncomplete` where the disk refuses.
    """
    path = Path(path)
    if keep.dtype != bool or keep.shape != (len(train),):
        raise InputError(f"keep: a bool for each of the {len(train):,} samples was expected, got {keep.dtype} of shape {keep.shape}")
    if path.is_dir():
        raise InputError(f"out: {path} is a folder; a file name for the manifest was expected, for example {path / 'clean.csv'}")
    write_text(path, manifest(train, keep))
    return path


def _check_same_data(train: Dataset, given: _Given, rows: Mapping[str, int], path: Path) -> None:
    if given.samples is not None and given.samples != len(train):
        raise InputError(
            f"decisions: {path} is about {given.samples:,} samples, the data has {len(train):,}; was it made for another data set?"
        )
    train = train.unlabelled() if given.unlabelled else train
    other = [name for name, label in given.labels.items() if train.classes[train.labels[rows[name]]] != label]
    if other:
        raise InputError(
            f"decisions: {len(other):,} samples in {path} are filed under another class than in the data ({_few(other)}); "
            "was it made for another data set?"
        )
    # Row numbers fit any data of the same size, so there the content has to match; it can't where samples were resized.
    comparable = train.root is None and given.shape == train.inputs.shape[1:]
    if comparable and given.fingerprint != train.fingerprint:
        raise InputError(f"decisions: {path} was made for data of the same size but other content; was it made for another data set?")


def _read(path: Path) -> _Given:
    if path.is_dir():
        path = path / "findings.json"
    if path.suffix.lower() == ".json":
        return _from_json(path)
    header, rows = read_csv(path)
    for columns, read in _TABLES:
        if columns <= set(header):
            return read(path, header, rows)
    raise InputError(
        f"decisions: {path} has the columns {shown(', '.join(header), 200)}; expected decisions.csv (id, decision), "
        "findings.csv (rank, id, label, score, flagged) or findings.json"
    )


def _from_decisions(path: Path, header: list[str], rows: list[list[str]]) -> _Given:
    return _Given(_judged(path, header, rows, "decision", _DECISIONS), {})


def _from_findings(path: Path, header: list[str], rows: list[list[str]]) -> _Given:
    keep = _judged(path, header, rows, "flagged", _KEEP_BY_FLAG)
    name, label = header.index("id"), header.index("label")
    labels = {row[name]: row[label] for row in rows}
    return _Given(keep, labels, len(rows), unlabelled=set(labels.values()) == {UNLABELLED})


_Reader = Callable[[Path, list[str], list[list[str]]], _Given]
_TABLES: Sequence[tuple[frozenset[str], _Reader]] = (
    (frozenset({"id", "decision"}), _from_decisions),
    (frozenset({"id", "label", "flagged"}), _from_findings),
)


def _judged(path: Path, header: list[str], rows: list[list[str]], column: str, words: Mapping[str, bool]) -> dict[str, bool]:
    """id -> keep from the table's column; every id once, every word a known one."""
    ids = [row[header.index("id")] for row in rows]
    said = [row[header.index(column)].strip().lower() for row in rows]
    wrong = [f"{shown(word)!r} for {shown(name)!r}" for name, word in zip(ids, said, strict=True) if word not in words]
    if wrong:
        raise InputError(
            f"decisions: {len(wrong):,} rows of {path} have a {column} other than {' or '.join(words)}: {', '.join(wrong[:3])}"
        )
    _refuse_repeats(path, ids)
    return {name: words[word] for name, word in zip(ids, said, strict=True)}


def _refuse_repeats(path: Path, ids: list[str]) -> None:
    seen: set[str] = set()
    twice = [name for name in ids if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise InputError(f"decisions: {len(twice):,} ids come more than once in {path} ({_few(twice)}); leave one row each")


def _from_json(path: Path) -> _Given:
    try:
        content = json.loads(read_text(path))
        if content["schema"] != SCHEMA:
            raise InputError(f"decisions: {path} has schema {shown(str(content['schema']))!r}; this version reads {SCHEMA}")
        ids = [str(entry["id"]) for entry in content["suspects"]]
        labels = {str(entry["id"]): str(entry["label"]) for entry in content["suspects"]}
        data = content["data"]
        samples, shape, fingerprint = int(data["samples"]), tuple(data["shape"]), str(data["fingerprint"])
        unlabelled = data["classes"] == [UNLABELLED]
    except (ValueError, KeyError, TypeError, RecursionError) as why:
        if isinstance(why, InputError):
            raise
        raise InputError(f"decisions: {path} is not a findings.json of tocsin; was it cut off or is it another file?") from why
    _refuse_repeats(path, ids)
    return _Given(dict.fromkeys(ids, False), labels, samples, shape, fingerprint, unlabelled)


def _few(names: Sequence[str]) -> str:
    first = ", ".join(repr(shown(name)) for name in names[:3])
    return f"first: {first}" if len(names) > 3 else first
