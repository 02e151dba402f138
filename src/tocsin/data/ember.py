"""The vectorised EMBER layout: ``X_train.dat`` and ``y_train.dat``, plain float32, one row of 2,351 or 2,381 features a sample.

The features and their order are those of the EMBER feature extractor, versions 1 and 2 (Anderson and Roth 2018, section 3).
The matrix stays on disk: rows without a label are left out by a list of the rows that stay.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tocsin.data.dataset import Column, Dataset, row_names
from tocsin.data.labels import assemble, encode
from tocsin.data.names import counted, is_number
from tocsin.data.request import Request
from tocsin.data.rows import chosen
from tocsin.errors import InputError

TRAIN = "X_train.dat"
LAYOUT = "ember"
UNLABELLED = -1
CLASSES = ("benign", "malware")
_TOKENS = ("machine", "characteristics", "subsystem", "dll_characteristics", "magic")
_SECTIONS = ("size", "entropy", "vsize", "entry_name", "entry_characteristics")


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{k}" for k in range(count)]


def feature_names(version: int) -> tuple[str, ...]:
    """The 2,351 (version 1) or 2,381 (version 2) features in order; hashed and counted ones by group and number."""
    names = [
        *_numbered("histogram", 256), *_numbered("byteentropy", 256),
        "numstrings", "avlength", "printables", *_numbered("printabledist", 96), "string_entropy",
        "paths_count", "urls_count", "registry_count", "MZ_count",
        "size", "vsize", "has_debug", "exports_count", "imports_count",
        "has_relocations", "has_resources", "has_signature", "has_tls", "symbols",
        "timestamp", *(name for token in _TOKENS for name in _numbered(token, 10)),
        "major_image_version", "minor_image_version", "major_linker_version", "minor_linker_version",
        "major_operating_system_version", "minor_operating_system_version", "major_subsystem_version", "minor_subsystem_version",
        "sizeof_code", "sizeof_headers", "sizeof_heap_commit",
        "num_sections", "num_zero_size_sections", "num_unnamed_sections", "num_read_and_execute_sections", "num_write_sections",
        *(name for what in _SECTIONS for name in _numbered(f"section_{what}_hash", 50)),
        *_numbered("imports_library_hash", 256), *_numbered("imports_function_hash", 1024), *_numbered("exports_hash", 128),
    ]  # fmt: skip
    if version == 2:
        names += [f"datadirectory_{k}_{what}" for k in range(15) for what in ("size", "virtual_address")]
    return tuple(names)


VERSIONS = {len(feature_names(version)): version for version in (1, 2)}
"""Number of features -> version."""


def is_folder(path: Path) -> bool:
    return (path / TRAIN).is_file()


def is_file(path: Path) -> bool:
    return path.name.startswith("X_") and path.suffix == ".dat"


def labels_of(matrix: Path) -> Path:
    """Where the labels of ``X_NAME.dat`` lie."""
    return matrix.with_name("y_" + matrix.name.removeprefix("X_"))


def read(request: Request) -> Dataset:
    """A folder with ``X_train.dat``, or an ``X_test.dat`` by its own name, and the labels beside it. The matrix is not copied."""
    matrix = request.path / TRAIN if request.path.is_dir() else request.path
    beside = labels_of(matrix)
    if not beside.is_file():
        raise InputError(f"{beside}: is missing; the labels of {matrix.name} lie there, one float32 a row")
    rows, width = _shape(matrix, beside)
    names = feature_names(VERSIONS[width])
    if request.columns is not None and set(request.columns) != set(names):
        raise InputError(f"columns: {matrix} is read as a whole, from where it lies; leave columns= out")
    raw = np.fromfile(beside, np.float32)
    known = np.flatnonzero(~np.isnan(raw) & (raw != UNLABELLED))
    if not len(known):
        raise InputError(f"{beside}: no row has a label; {UNLABELLED} means that there is none")
    values = raw[known]
    if (values != np.rint(values)).any() or (values < 0).any():
        raise InputError(f"{beside}: labels must be whole numbers from 0, or {UNLABELLED} where there is none; is it float32?")
    labels, classes = encode(values, CLASSES if request.classes is None and values.max() <= 1 else request.classes)
    notes = [f"{counted(rows - len(known), 'row')} without a label left out"] if len(known) < rows else []
    inputs = np.asarray(np.memmap(matrix, np.float32, "r", shape=(rows, width)))
    inputs = inputs if len(known) == rows else chosen(inputs, known)
    path = request.path.resolve()
    data = assemble(inputs, labels, classes, row_names(known), layout=LAYOUT, source=path, notes=notes, kind="table")
    return replace(data, columns=tuple(Column(name) for name in names))


def raw_labels(data: Dataset) -> np.ndarray:
    """(N,) float32 as ``y_train.dat`` holds them: the numbers that the classes are called by, else their places."""
    numbers = all(is_number(name) for name in data.classes)
    values = [float(name) for name in data.classes] if numbers else range(len(data.classes))
    raw: np.ndarray = np.array(values, np.float32)[data.labels]
    return raw


def _shape(matrix: Path, labels: Path) -> tuple[int, int]:
    """(rows, features) by the sizes of the files. Raises `InputError` where they fit no version."""
    size, rows = matrix.stat().st_size, labels.stat().st_size // 4
    for width in VERSIONS:
        if rows and labels.stat().st_size % 4 == 0 and size == rows * width * 4:
            return rows, width
    each = f", which makes {size / 4 / rows:,.6g} features a row" if rows else ""
    raise InputError(
        f"{matrix}: {size:,} bytes for {counted(rows, 'label')} in {labels.name}{each}; allowed: float32 rows of"
        f" {' or '.join(f'{width:,}' for width in VERSIONS)} features (EMBER feature versions 1 and 2); was a file cut off?"
    )
