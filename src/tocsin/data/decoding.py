"""Files of one medium to one array: probed, decoded once in parallel, kept in the cache."""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from tocsin.data import cache
from tocsin.data.images import workers
from tocsin.data.listing import Entry
from tocsin.data.media import MEDIA
from tocsin.data.medium import Medium, Plan, Row
from tocsin.data.names import counted, listed
from tocsin.errors import AuditIncomplete, InputError
from tocsin.runtime import Runtime

_TASK = 64
"""Files a task: handing single small files to threads would cost more than decoding them."""
_CHUNK = 2048
"""Files decoded before they are written out, at most: bounds memory, as the next does."""
_CHUNK_BYTES = 2**28
_MOST_SAMPLES = 20_000_000

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Decoded:
    """``inputs`` (M, ...) and ``kept`` (M,) int64: which of the files given they are, in order."""

    inputs: np.ndarray
    kept: np.ndarray
    notes: tuple[str, ...]
    resized: bool
    kind: str
    rate: int | None


@dataclass(frozen=True)
class _Probed:
    """What probing found: the files to decode (positions), and how; and by problem those that cannot be."""

    usable: np.ndarray
    plan: Plan
    problems: Mapping[str, list[int]]


def decode_files(files: Sequence[Entry], medium: Medium[Any], runtime: Runtime) -> Decoded:
    """All files that are of ``medium``, in one common form; what cannot be used is named in the notes.

    Raises `InputError` if there is no such file at all, `AuditIncomplete` if memory is out.
    """
    folder = runtime.cache / "decoded" / _key(files, medium)
    extra: list[str] = []
    try:
        found = cache.read(folder)
    except cache.Broken:
        found = None
        extra.append(f"the cache of decoded {medium.noun}s was damaged and has been rebuilt")
    except OSError:
        found = None
    if found is not None:
        return _of_index(*found, medium, extra)
    medium.ready()
    with _quiet_pool() as pool:
        probed = _probe_all(files, medium, pool, runtime)
        row_bytes = np.dtype(probed.plan.dtype).itemsize * int(np.prod(probed.plan.shape))
        expected = len(probed.usable) * row_bytes
        try:
            rows, index = _decode_all(files, medium, probed, cache.FileSink(folder, expected), pool, runtime)
        except OSError as why:
            extra.append(
                f"the decoded {medium.noun}s could not be cached in {runtime.cache} ({why.strerror or why}); they are held in memory"
            )
            try:
                rows, index = _decode_all(files, medium, probed, cache.MemorySink(), pool, runtime)
            except MemoryError as out:
                raise AuditIncomplete(f"{expected / 2**30:.1f} GiB of decoded {medium.noun}s fit neither on disk nor in memory") from out
    return _of_index(rows, index, medium, extra)


def _key(files: Sequence[Entry], medium: Medium[Any]) -> str:
    digest = hashlib.blake2b(repr((cache.FORMAT, medium)).encode(), digest_size=20)
    text = "\0".join(f"{file.id}\0{file.size} {file.modified} {file.changed}" for file in files)
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _of_index(rows: np.ndarray, index: dict[str, Any], medium: Medium[Any], extra: list[str]) -> Decoded:
    inputs = medium.view(rows, frozenset(index["remarks"]))
    kept = np.setdiff1d(np.arange(index["files"]), np.array(index["dropped"], np.int64), assume_unique=True)
    kind = next(name for name, cls in MEDIA.items() if isinstance(medium, cls))
    return Decoded(inputs, kept, (*index["notes"], *extra), bool(index["resized"]), kind, index["rate"])


@contextmanager
def _quiet_pool() -> Iterator[ThreadPoolExecutor]:
    """Threads (decoders work outside the interpreter lock), without Pillow's warnings: we bound and report by ourselves."""
    with warnings.catch_warnings(), ThreadPoolExecutor(workers()) as pool:
        warnings.simplefilter("ignore")
        yield pool


def _map(pool: ThreadPoolExecutor, work: Callable[[T], U], items: Sequence[T]) -> list[U]:
    tasks = [items[start : start + _TASK] for start in range(0, len(items), _TASK)]
    return [result for part in pool.map(lambda task: [work(item) for item in task], tasks) for result in part]


def _probe_all(files: Sequence[Entry], medium: Medium[Any], pool: ThreadPoolExecutor, runtime: Runtime) -> _Probed:
    headers: list[Any] = []
    for start in range(0, len(files), _CHUNK):
        runtime.progress("looking at files", start / len(files))
        headers += _map(pool, lambda file: medium.probe(file.path, file.size), files[start : start + _CHUNK])
    runtime.progress("looking at files", 1.0)
    problems: dict[str, list[int]] = {}
    for at, found in enumerate(headers):
        if isinstance(found, str):
            problems.setdefault(found, []).append(at)
    usable = np.array([at for at, found in enumerate(headers) if not isinstance(found, str)], np.int64)
    if not len(usable):
        raise InputError(f"no {medium.noun} could be read; {'; '.join(_notes(files, medium, problems)) or 'there are no files'}")
    if len(usable) > _MOST_SAMPLES:
        raise InputError(f"{len(usable):,} {medium.noun}s; at most {_MOST_SAMPLES:,} are allowed in one data set")
    return _Probed(usable, medium.plan([headers[at] for at in usable.tolist()]), problems)


def _decode_all(
    files: Sequence[Entry], medium: Medium[Any], probed: _Probed, sink: cache.Sink, pool: ThreadPoolExecutor, runtime: Runtime
) -> tuple[np.ndarray, dict[str, Any]]:
    plan, usable = probed.plan, probed.usable
    one_at_a_time = threading.Lock()  # of the large ones, so that a folder of them does not exhaust memory
    heavy = frozenset(usable[plan.heavy].tolist())

    def work(at: int) -> Row:
        if at in heavy:
            with one_at_a_time:
                return plan.decode(files[at].path)
        return plan.decode(files[at].path)

    remarks = defaultdict(list, {problem: list(which) for problem, which in probed.problems.items()})
    dropped = [at for which in probed.problems.values() for at in which]
    row_bytes = np.dtype(plan.dtype).itemsize * int(np.prod(plan.shape))
    chunk = int(np.clip(_CHUNK_BYTES // row_bytes, 1, _CHUNK))
    try:
        for start in range(0, len(usable), chunk):
            runtime.progress("decoding", start / len(usable))
            part = usable[start : start + chunk].tolist()
            good = []
            for at, (row, said) in zip(part, _map(pool, work, part), strict=True):
                for word in said:
                    remarks[word].append(at)
                if row is None:
                    dropped.append(at)
                else:
                    good.append(row)
            if good:
                sink.write(np.stack(good))
        runtime.progress("decoding", 1.0)
        notes = [*_notes(files, medium, remarks), *plan.notes]
        if len(dropped) == len(files):
            raise InputError(f"no {medium.noun} could be decoded; {'; '.join(notes)}")
        facts = {"resized": plan.resized, "rate": plan.rate, "dtype": plan.dtype, "remarks": sorted(remarks)}
        index = {"files": len(files), "dropped": sorted(dropped), "notes": notes, **facts}
        rows = sink.finish(index, (len(files) - len(dropped), *plan.shape))
    finally:
        sink.close()
    return rows, index


def _notes(files: Sequence[Entry], medium: Medium[Any], problems: Mapping[str, list[int]]) -> list[str]:
    """What is to be said of files with problems: each by name, except those that nobody would have meant as samples."""
    notes = [
        f"{counted(len(at), medium.noun)} {what}: {listed([files[k].id for k in sorted(at)])}"
        for problem, what in medium.words.items()
        if (at := problems.get(problem, []))
    ]
    others = [files[at].id for at in problems.get("other", [])]
    for cls in MEDIA.values():
        if named := [name for name in others if cls.named(name)]:
            notes.append(f"{counted(len(named), cls.noun)} ignored, since the data are {medium.noun}s: {listed(named)}")
            others = [name for name in others if not cls.named(name)]
    return [*notes, f"{counted(len(others), 'file')} ignored, not a {medium.noun}"] if others else notes
