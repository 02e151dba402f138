"""EMBER-shaped data: drawn rows with the columns, the sparsity and the tails of the EMBER feature vectors, and nothing of their content.

Two classes, each of latent families with factors of their own. Histograms are shares of whole counts, hashed columns are mostly zero,
sizes and counts have heavy tails, versions take a few usual values and now and then an absurd one, some rows are exact copies of others,
and a few files look like the other class. Every number is drawn; no figure measured on these rows says anything about real malware.

Rows come in blocks of `BLOCK`, each from the seed and its own number alone: any range of rows is the same whatever was drawn before it,
so that a set larger than memory is written piece by piece (`write`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tocsin.data.dataset import Column, Dataset
from tocsin.errors import InputError

CLASSES = ("benign", "malware")
WIDTHS = {1: 2351, 2: 2381}
"""Columns by feature version."""
BLOCK = 1024
FAMILIES = 40
"""Of each class."""
FACTORS = 8
LOOKALIKES = 0.015
"""Share of files that come from a family of the other class: what keeps the task from being perfectly easy."""
PACKED = 0.15
"""Share of files that are packed: most of what would tell their family is hidden, so that they are hard to tell apart."""
SHOWS = (0.1, 0.3)
"""How much of it a packed file shows, at least and at most."""
TELLING = 0.1
"""Share of the columns of a wide group, histogram or hashes, that differ between families; the others are alike in all of them."""
WIDE = 40
"""Columns from which a group is wide. All columns of a narrow one, header fields and counts, differ between families."""
COPIES = 0.06
"""Share of rows that are exact copies of another row of their block."""
ABSURD = 0.003
"""Share of cells of a version-like column that hold a value nobody uses."""
_KEY = 0xE3BE


@dataclass(frozen=True, eq=False)
class _Files:
    """What the columns of one block are drawn from."""

    family: np.ndarray
    """(n,) int64 in 0..2 FAMILIES - 1; the second half is malware."""
    factors: np.ndarray
    """(n, FACTORS) float32."""
    shows: np.ndarray
    """(n, 1) float32 in 0..1: how much of its family can be seen in a file."""
    size: np.ndarray
    """(n,) float32 bytes."""


_Draw = Callable[[np.random.Generator, _Files], np.ndarray]
"""Columns (n, w) float32 of a block of files."""
_Group = Callable[[np.random.Generator], tuple[list[str], _Draw]]
"""What one seed's data have in common in a group of columns: their names, and how they are drawn."""


@dataclass(frozen=True)
class EmberShaped:
    """An endless table; ``rows`` gives any part of it. The same seed and version give the same table."""

    seed: int = 0
    """Of the families, the rows and everything else."""
    version: int = 1
    """EMBER's feature version: 1 has 2,351 columns, 2 has 2,381."""

    def __post_init__(self) -> None:
        if self.version not in WIDTHS:
            raise InputError(f"version: got {self.version}, allowed: {', '.join(map(str, WIDTHS))}")
        if self.seed < 0:
            raise InputError(f"seed: got {self.seed}, allowed is any whole number from 0")

    @cached_property
    def _groups(self) -> list[tuple[list[str], _Draw]]:
        groups = _GROUPS if self.version == 1 else (*_GROUPS, _directories)
        return [group(np.random.default_rng([_KEY, self.seed, place, 1])) for place, group in enumerate(groups)]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Their names, EMBER's where it has one for a single value; all hold numbers."""
        return tuple(Column(name) for names, _ in self._groups for name in names)

    def rows(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows ``start`` to ``stop`` (not included): float32 (n, F) and labels (n,) int64, 1 for malware."""
        if not 0 <= start <= stop:
            raise InputError(f"rows: got {start} to {stop}, allowed is 0 <= start <= stop")
        x, y = np.empty((stop - start, WIDTHS[self.version]), np.float32), np.empty(stop - start, np.int64)
        for first in range(start - start % BLOCK, stop, BLOCK):
            block, labels = self._block(first // BLOCK)
            part = slice(max(start, first) - first, min(stop, first + BLOCK) - first)
            place = slice(max(start, first) - start, min(stop, first + BLOCK) - start)
            x[place], y[place] = block[part], labels[part]
        return x, y

    def dataset(self, count: int, start: int = 0) -> Dataset:
        """``count`` rows from ``start`` on, in memory. Rows that no training set has are those behind it."""
        x, y = self.rows(start, start + count)
        return Dataset.of_arrays(x, y, CLASSES, kind="table", columns=self.columns)

    def write(self, folder: Path, count: int, *, start: int = 0, part: str = "train") -> None:
        """``X_{part}.dat`` (count, F) and ``y_{part}.dat`` (count,), float32 as EMBER's vectorised files are, a block at a time."""
        width = WIDTHS[self.version]
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f"X_{part}.dat", "xb") as cells, open(folder / f"y_{part}.dat", "xb") as labels:
            for piece in _pieces(start, start + count):
                x, y = self.rows(piece.start, piece.stop)
                cells.write(np.ascontiguousarray(x, "<f4").data)
                labels.write(y.astype("<f4").data)
        assert (folder / f"X_{part}.dat").stat().st_size == 4 * count * width

    def _block(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([_KEY, self.seed, number, 0])
        label = rng.integers(0, 2, BLOCK)
        # A few families have most of the files.
        popular = 1 / np.arange(1, FAMILIES + 1)
        looks = label ^ (rng.random(BLOCK) < LOOKALIKES)
        family = rng.choice(FAMILIES, BLOCK, p=popular / popular.sum()) + FAMILIES * looks
        factors = rng.standard_normal((BLOCK, FACTORS), np.float32)
        size = np.exp(11.5 + 1.2 * factors[:, 0] + 0.9 * rng.standard_normal(BLOCK, np.float32))
        packed = rng.random((BLOCK, 1)) < PACKED
        shows = np.where(packed, rng.uniform(*SHOWS, (BLOCK, 1)), 1).astype(np.float32)
        files = _Files(family, factors, shows, np.floor(np.clip(size, 1500, 2e9)).astype(np.float32))
        x = np.concatenate([draw(rng, files) for _, draw in self._groups], axis=1)
        copies = rng.permutation(BLOCK)[: int(COPIES * BLOCK)]
        sources = rng.choice(np.setdiff1d(np.arange(BLOCK), copies), len(copies))
        x[copies], label[copies] = x[sources], label[sources]
        return x, label


def _pieces(start: int, stop: int) -> Iterator[range]:
    while start < stop:
        end = min(stop, start - start % BLOCK + BLOCK)
        yield range(start, end)
        start = end


def _telling(rng: np.random.Generator, width: int) -> np.ndarray:
    """(width,) bool: the columns that tell families apart. Were it all of thousands, no few columns could outweigh them: no attack
    that moves 17 or 32 would work, which on real files it does."""
    return np.asarray(rng.random(width) < (TELLING if width >= WIDE else 1))


def _by_family(rng: np.random.Generator, width: int, between: float, within: float) -> np.ndarray:
    """(2 FAMILIES, width) float32: how families differ from the average, ``between`` the classes and ``within`` one."""
    own = rng.normal(0, within, (2, FAMILIES, width)) + rng.normal(0, between, (2, 1, width))
    return np.asarray((own * _telling(rng, width)).reshape(2 * FAMILIES, width), np.float32)


def _shares(rng: np.random.Generator, width: int, base: np.ndarray, scale: float) -> _Draw:
    """A histogram: whole counts of about ``scale`` values a byte of the file, as shares of their sum. ``base`` (width,) log weights."""
    usual, own = base.astype(np.float32), _by_family(rng, width, 0.15, 0.5)
    mixing = rng.normal(0, 0.12, (FACTORS, width)).astype(np.float32)

    def draw(rng: np.random.Generator, files: _Files) -> np.ndarray:
        logits = (
            usual
            + files.shows * own[files.family]
            + files.factors @ mixing
            + 0.35 * rng.standard_normal((len(files.size), width), np.float32)
        )
        weights = np.exp(logits)
        total = np.maximum(files.size * np.float32(scale), 16)[:, None]
        counts = np.floor(weights * (total / weights.sum(1, keepdims=True)))
        return np.asarray(counts / np.maximum(counts.sum(1, keepdims=True), 1), np.float32)

    return draw


def _counts(rng: np.random.Generator, width: int, level: float, spread: float, absent: float) -> _Draw:
    """Whole numbers with a heavy tail, of median about exp(``level``); ``absent``: about which share of them is 0."""
    own = _by_family(rng, width, 0.25, 0.7)
    zero = np.clip(absent * np.exp(_by_family(rng, width, 0.2, 0.5)), 0, 0.95)
    mixing = rng.normal(0, 0.2, (FACTORS, width)).astype(np.float32)

    def draw(rng: np.random.Generator, files: _Files) -> np.ndarray:
        shape = (len(files.size), width)
        logs = (
            level + files.shows * own[files.family] + files.factors @ mixing + np.float32(spread) * rng.standard_normal(shape, np.float32)
        )
        present = rng.random(shape, np.float32) >= zero[files.family]
        return np.asarray(np.floor(np.exp(np.minimum(logs, 21))) * present, np.float32)

    return draw


def _hashed(rng: np.random.Generator, width: int, tokens: float, *, level: float | None = None, flags: bool = False) -> _Draw:
    """Hashed tokens: about ``tokens`` of the columns differ from 0 in a file, mostly those that its family, or every file, uses.

    Each column has one sign. A token counts 1, now and then 2, or, with ``level``, a size of median about exp(``level``).
    ``flags``: 0 or 1 and nothing else.
    """
    used = rng.random((2 * FAMILIES, width)) < 0.7 * tokens / width
    used = np.where(_telling(rng, width), used, used[0])
    own = np.where(used, 0.85, np.minimum(0.4, 0.3 * tokens / width)).astype(np.float32)
    usual = own.mean(axis=0)
    sign = np.where((rng.random(width) < 0.5) & (not flags), -1, 1)

    def draw(rng: np.random.Generator, files: _Files) -> np.ndarray:
        out = np.zeros((len(files.size), width), np.float32)
        chance = usual + files.shows * (own[files.family] - usual)
        rows, places = np.nonzero(rng.random(out.shape, np.float32) < chance)
        if level is None:
            amount = 1.0 + (rng.random(len(rows)) < (0 if flags else 0.08))
        else:
            amount = np.floor(np.exp(level + 1.5 * rng.standard_normal(len(rows))))
        out[rows, places] = amount * sign[places]
        return out

    return draw


def _versions(rng: np.random.Generator, width: int, usual: tuple[int, ...], absurd: float, most: float) -> _Draw:
    """One of a few ``usual`` values, mostly the family's own; in a share ``absurd`` of cells any number up to ``most``, on a log scale."""
    values = np.array(usual, np.float32)
    own = rng.choice(len(values), (2 * FAMILIES, width))

    def draw(rng: np.random.Generator, files: _Files) -> np.ndarray:
        shape = (len(files.size), width)
        chosen = np.where(rng.random(shape) < 0.75 * files.shows, own[files.family], rng.choice(len(values), shape))
        odd = np.floor(np.exp(rng.uniform(np.log(most / 200), np.log(most), shape)))
        return np.asarray(np.where(rng.random(shape) < absurd, odd, values[chosen]), np.float32)

    return draw


def _times(rng: np.random.Generator) -> _Draw:
    """Seconds since 1970: years around the family's own, sometimes 0, sometimes far in the future."""
    usual = rng.uniform(1.1e9, 1.5e9, 2 * FAMILIES)

    def draw(rng: np.random.Generator, files: _Files) -> np.ndarray:
        seconds = np.floor(usual[files.family] + 3e7 * rng.standard_normal(len(files.size)))
        chance = rng.random(len(files.size))
        seconds = np.where(chance < ABSURD, np.floor(rng.uniform(2e9, 2**32, len(seconds))), np.where(chance > 0.99, 0, seconds))
        return np.asarray(seconds[:, None], np.float32)

    return draw


def _together(parts: list[tuple[list[str], _Draw]]) -> tuple[list[str], _Draw]:
    names = [name for part, _ in parts for name in part]
    return names, lambda rng, files: np.concatenate([draw(rng, files) for _, draw in parts], axis=1)


def _numbered(prefix: str, count: int) -> list[str]:
    return [f"{prefix}_{k}" for k in range(count)]


def _bytes(rng: np.random.Generator) -> tuple[list[str], _Draw]:
    base = np.asarray(rng.normal(0, 0.6, 256))
    base[0], base[255] = 3.5, 1.5
    return _numbered("histogram", 256), _shares(rng, 256, base, 1.0)


def _byte_entropy(rng: np.random.Generator) -> tuple[list[str], _Draw]:
    base = np.where(rng.random(256) < 0.35, rng.normal(0, 1, 256), rng.normal(-8, 2, 256))
    return _numbered("byteentropy", 256), _shares(rng, 256, base, 0.02)


def _strings(rng: np.random.Generator) -> tuple[list[str], _Draw]:
    return _together(
        [
            (["numstrings", "avlength", "printables"], _counts(rng, 3, 6.0, 0.8, 0.02)),
            (_numbered("printabledist", 96), _shares(rng, 96, rng.normal(0, 0.8, 96), 0.01)),
            (["string_entropy"], _counts(rng, 1, 1.8, 0.1, 0.01)),
            (["paths_count", "urls_count", "registry_count", "MZ_count"], _counts(rng, 4, 0.5, 1.2, 0.5)),
        ]
    )


def _general(rng: np.random.Generator) -> tuple[list[str], _Draw]:
    return _together(
        [
            (["size"], lambda rng, files: files.size[:, None]),
            (["vsize"], _counts(rng, 1, 12.0, 1.2, 0.0)),
            (["has_debug"], _hashed(rng, 1, 0.4, flags=True)),
            (["exports_count", "imports_count"], _counts(rng, 2, 3.5, 1.0, 0.3)),
            ([f"has_{what}" for what in ("relocations", "resources", "signature", "tls")], _hashed(rng, 4, 1.6, flags=True)),
            (["symbols"], _counts(rng, 1, 4.0, 2.0, 0.9)),
        ]
    )


def _header(rng: np.random.Generator) -> tuple[list[str], _Draw]:
    tokens = (("machine", 1), ("characteristics", 4), ("subsystem", 1), ("dll_characteristics", 3), ("magic", 1))
    hashed = [(_numbered(name, 10), _hashed(rng, 10, count)) for name, count in tokens]
    image = ["major_image_version", "minor_image_version"]
    system = ["major_operating_system_version", "minor_operating_system_version", "major_subsystem_version", "minor_subsystem_version"]
    return _together(
        [
            (["timestamp"], _times(rng)),
            *hashed,
            (image, _versions(rng, 2, (0, 0, 0, 1, 2, 5, 6, 10), ABSURD, 65535)),
            (["major_linker_version", "minor_linker_version"], _versions(rng, 2, (0, 2, 5, 6, 8, 9, 10, 11, 12, 14), ABSURD, 255)),
            (system, _versions(rng, 4, (0, 1, 4, 5, 6, 10), ABSURD, 65535)),
            (["sizeof_code", "sizeof_headers", "sizeof_heap_commit"], _counts(rng, 3, 9.0, 1.3, 0.02)),
        ]
    )


def _sections(rng: np.random.Generator) -> tuple[list[str], _Draw]:
    few = ["num_zero_size_sections", "num_unnamed_sections", "num_read_and_execute_sections", "num_write_sections"]
    sizes = [(_numbered(f"section_{what}_hash", 50), _hashed(rng, 50, 5, level=level)) for what, level in (("size", 9.0), ("entropy", 9.5))]
    return _together(
        [
            (["num_sections"], _versions(rng, 1, (3, 4, 5, 5, 6, 8, 9), ABSURD, 95)),
            (few, _versions(rng, 4, (0, 0, 1, 1, 2, 3), ABSURD, 95)),
            *sizes,
            (_numbered("section_vsize_hash", 50), _hashed(rng, 50, 5, level=1.5)),
            (_numbered("section_entry_name_hash", 50), _hashed(rng, 50, 1)),
            (_numbered("section_entry_characteristics_hash", 50), _hashed(rng, 50, 3)),
        ]
    )


def _imports(rng: np.random.Generator) -> tuple[list[str], _Draw]:
    return _together(
        [
            (_numbered("imports_library_hash", 256), _hashed(rng, 256, 8)),
            (_numbered("imports_function_hash", 1024), _hashed(rng, 1024, 60)),
        ]
    )


def _exports(rng: np.random.Generator) -> tuple[list[str], _Draw]:
    return _numbered("exports_hash", 128), _hashed(rng, 128, 2)


def _directories(rng: np.random.Generator) -> tuple[list[str], _Draw]:
    names = [f"datadirectory_{k}_{what}" for k in range(15) for what in ("size", "virtual_address")]
    return names, _counts(rng, 30, 8.0, 1.4, 0.5)


_GROUPS: tuple[_Group, ...] = (_bytes, _byte_entropy, _strings, _general, _header, _sections, _imports, _exports)
"""EMBER's groups in its order: 256, 256, 104, 10, 62, 255, 1280 and 128 columns; feature version 2 adds the 30 of `_directories`."""
