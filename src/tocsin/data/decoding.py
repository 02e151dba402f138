"""Picture files to one array: probed, decoded once in parallel, kept in the cache."""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from tocsin.data import cache
from tocsin.data.images import CAP, LONGEST_SIDE, MOST_BYTES, MOST_PIXELS, Probe, Size, choose_size, decode, probe, workers
from tocsin.data.listing import Entry
from tocsin.data.names import counted, listed
from tocsin.errors import AuditIncomplete, InputError
from tocsin.runtime import Runtime

_TASK = 64
"""Files a task: handing single small files to threads would cost more than decoding them."""
_CHUNK = 2048
"""Files decoded before they are written out: bounds memory."""
_LARGE_PIXELS = 8_000_000
_MOST_SAMPLES = 20_000_000

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Decoded:
    """``inputs`` (M, H, W, C) uint8 and ``kept`` (M,) int64: which of the files given they are, in order."""

    inputs: np.ndarray
    kept: np.ndarray
    notes: tuple[str, ...]
    resized: bool


@dataclass(frozen=True)
class _Plan:
    """What probing found: the files to decode (positions) and how."""

    usable: np.ndarray
    size: Size
    channels: int
    large: frozenset[int]
    problems: dict[str, list[int]]
    notes: tuple[str, ...]


def decode_files(files: Sequence[Entry], wanted: Size | None, runtime: Runtime) -> Decoded:
    """All files that are pictures, at one common size; what cannot be used is named in the notes.

    Raises `InputError` if there is no picture at all, `AuditIncomplete` if memory is out.
    """
    folder = runtime.cache / "decoded" / _key(files, wanted)
    extra: list[str] = []
    try:
        found = cache.read(folder)
    except cache.Broken:
        found = None
        extra.append("the cache of decoded pictures was damaged and has been rebuilt")
    except OSError:
        found = None
    if found is not None:
        return _of_index(*found, extra)
    with _quiet_pool() as pool:
        plan = _probe_all(files, wanted, pool, runtime)
        expected = len(plan.usable) * plan.size.height * plan.size.width * plan.channels
        try:
            pixels, index = _decode_all(files, plan, cache.FileSink(folder, expected), pool, runtime)
        except OSError as why:
            extra.append(f"the decoded pictures could not be cached in {runtime.cache} ({why.strerror or why}); they are held in memory")
            try:
                pixels, index = _decode_all(files, plan, cache.MemorySink(), pool, runtime)
            except MemoryError as out:
                raise AuditIncomplete(f"{expected / 2**30:.1f} GiB of decoded pictures fit neither on disk nor in memory") from out
    return _of_index(pixels, index, extra)


def _key(files: Sequence[Entry], wanted: Size | None) -> str:
    digest = hashlib.blake2b(repr((cache.FORMAT, CAP, wanted)).encode(), digest_size=20)
    text = "\0".join(f"{file.id}\0{file.size} {file.modified} {file.changed}" for file in files)
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _of_index(pixels: np.ndarray, index: dict[str, Any], extra: list[str]) -> Decoded:
    if index["grey"]:  # colour files that hold only grey: a view of one channel
        pixels = pixels[..., :1]
    kept = np.setdiff1d(np.arange(index["files"]), np.array(index["dropped"], np.int64), assume_unique=True)
    return Decoded(pixels, kept, (*index["notes"], *extra), bool(index["resized"]))


@contextmanager
def _quiet_pool() -> Iterator[ThreadPoolExecutor]:
    """Threads (Pillow decodes outside the interpreter lock), without Pillow's warnings: we bound and report by ourselves."""
    Image.init()
    with warnings.catch_warnings(), ThreadPoolExecutor(workers()) as pool:
        warnings.simplefilter("ignore")
        yield pool


def _map(pool: ThreadPoolExecutor, work: Callable[[T], U], items: Sequence[T]) -> list[U]:
    tasks = [items[start : start + _TASK] for start in range(0, len(items), _TASK)]
    return [result for part in pool.map(lambda task: [work(item) for item in task], tasks) for result in part]


def _probe_all(files: Sequence[Entry], wanted: Size | None, pool: ThreadPoolExecutor, runtime: Runtime) -> _Plan:
    probes: list[Probe] = []
    for start in range(0, len(files), _CHUNK):
        runtime.progress("looking at files", start / len(files))
        probes += _map(pool, lambda file: probe(file.path, file.size), files[start : start + _CHUNK])
    runtime.progress("looking at files", 1.0)
    problems: dict[str, list[int]] = {}
    for at, result in enumerate(probes):
        if result.problem:
            problems.setdefault(result.problem, []).append(at)
    usable = np.array([at for at, result in enumerate(probes) if not result.problem], np.int64)
    if not len(usable):
        raise InputError(f"no picture could be read; {'; '.join(_problem_notes(files, problems)) or 'there are no files'}")
    if len(usable) > _MOST_SAMPLES:
        raise InputError(f"{len(usable):,} pictures; at most {_MOST_SAMPLES:,} are allowed in one data set")
    size, notes = choose_size(np.array([probes[at].size for at in usable]), wanted)
    channels = 1 if all(probes[at].grey for at in usable) else 3
    large = frozenset(int(at) for at in usable if probes[at].size.height * probes[at].size.width > _LARGE_PIXELS)
    return _Plan(usable, size, channels, large, problems, tuple(notes))


def _decode_all(
    files: Sequence[Entry], plan: _Plan, sink: cache.Sink, pool: ThreadPoolExecutor, runtime: Runtime
) -> tuple[np.ndarray, dict[str, Any]]:
    one_at_a_time = threading.Lock()  # of the large ones, so that a folder of them does not exhaust memory

    def work(at: int) -> np.ndarray | None:
        if at in plan.large:
            with one_at_a_time:
                return decode(files[at].path, plan.size, plan.channels)
        return decode(files[at].path, plan.size, plan.channels)

    broken = list(plan.problems.get("broken", ()))
    written, grey = 0, True
    try:
        for start in range(0, len(plan.usable), _CHUNK):
            runtime.progress("decoding", start / len(plan.usable))
            part = plan.usable[start : start + _CHUNK].tolist()
            pictures = _map(pool, work, part)
            broken += [at for at, picture in zip(part, pictures, strict=True) if picture is None]
            good = [picture for picture in pictures if picture is not None]
            if good:
                rows = np.stack(good)
                grey = grey and bool((rows == rows[..., :1]).all())
                written += len(rows)
                sink.write(rows)
        runtime.progress("decoding", 1.0)
        problems = {**plan.problems, "broken": sorted(broken)} if broken else plan.problems
        if not written:
            raise InputError(f"no picture could be decoded; {'; '.join(_problem_notes(files, problems))}")
        notes = [*_problem_notes(files, problems), *plan.notes]
        dropped = sorted(at for every in problems.values() for at in every)
        index = {"files": len(files), "dropped": dropped, "notes": notes, "resized": bool(plan.notes), "grey": grey}
        pixels = sink.finish(index, (written, *plan.size, plan.channels))
    finally:
        sink.close()
    return pixels, index


def _problem_notes(files: Sequence[Entry], problems: dict[str, list[int]]) -> list[str]:
    reasons = {
        "broken": ("picture", "could not be decoded and left out"),
        "large": ("picture", f"larger than {MOST_PIXELS // 10**6} megapixels, {LONGEST_SIDE:,} a side or {MOST_BYTES >> 20} MiB, left out"),
    }
    notes = [
        f"{counted(len(at), noun)} {what}: {listed([files[k].id for k in at])}"
        for problem, (noun, what) in reasons.items()
        if (at := problems.get(problem, []))
    ]
    if other := problems.get("other"):
        notes.append(f"{counted(len(other), 'file')} ignored, not a picture")
    return notes
