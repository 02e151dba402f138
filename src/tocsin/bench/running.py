"""A grid run: which cells are missing, in which order, and their lines written as they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tocsin.attacks import NoAttack
from tocsin.bench.cell import Task, perform
from tocsin.bench.choices import Cell, digest
from tocsin.bench.grid import Grid
from tocsin.bench.ledger import Ledger
from tocsin.bench.provenance import provenance
from tocsin.bench.splits import load_split
from tocsin.bench.workers import Cluster, Died, Here, Workers
from tocsin.errors import InputError
from tocsin.runtime import Progress, Runtime, silent

LINES = "cells.jsonl"
SHARED = "shared"


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    cells: int
    """Of the grid."""
    ran: int
    """Cells of this run; the others were finished before."""
    failed: int
    """Cells of the grid whose last line is an error."""


def run(
    grid: Grid,
    out: Path,
    *,
    workers: Workers | None = None,
    device: str = "auto",
    retry_failed: bool = False,
    command: str = "",
    progress: Progress = silent,
    finished: Callable[[Mapping[str, Any]], None] = lambda line: None,
) -> Outcome:
    """Runs the cells of ``grid`` that have no line in ``out``/cells.jsonl yet, and writes their lines.

    ``retry_failed``: cells whose line is an error run again. ``finished`` is called with every new line.
    Raises `InputError` where data cannot be read or another run is at work in ``out``, `AuditIncomplete` where the disk refuses.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out: {out} is a file; a folder for the results was expected")
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=0):
            return _run(grid, out.resolve(), workers or Here(), (device, command), retry_failed, progress, finished)
    except Timeout as why:
        raise InputError(f"--out: another `tocsin bench` is at work in {out}; wait for it, or give another folder") from why


def _run(
    grid: Grid,
    out: Path,
    workers: Workers,
    place: tuple[str, str],
    retry_failed: bool,
    progress: Progress,
    finished: Callable[[Mapping[str, Any]], None],
) -> Outcome:
    device, command = place
    ledger = Ledger(out / LINES)
    runtime = Runtime(device=device, progress=progress)
    if not isinstance(workers, Cluster):
        runtime.torch_device()  # a device that is not there is one mistake, not one a cell
    cells = grid.cells(fingerprints(grid, runtime))
    lines = ledger.latest()
    missing = [cell for cell in cells if cell.key not in lines or (retry_failed and "error" in lines[cell.key])]
    tasks = schedule(missing, Task(missing[0], out / SHARED, device, command)) if missing else []
    progress("running cells", 0.0)
    with closing(workers.map(perform, tasks)) as results:  # closing: should a line not be written, the workers end at once
        for done, (index, line) in enumerate(results, 1):
            if isinstance(line, Died):
                line = None if tasks[index].ahead else _died(tasks[index], line.why)
            if line is not None:
                ledger.append(line)
                lines[line["key"]] = line
                finished(line)
            progress("running cells", done / len(tasks))
    failed = sum("error" in lines[cell.key] for cell in cells)
    return Outcome(len(cells), len(missing), failed)


def fingerprints(grid: Grid, runtime: Runtime) -> dict[tuple[str, int], str]:
    """Of the split of every data set at every seed. Raises one `InputError` for all data that cannot be used."""
    found: dict[tuple[str, int], str] = {}
    wrong: dict[str, None] = {}
    for data in grid.data:
        for seed in grid.seeds:
            try:
                found[data.name, seed] = load_split(data, seed, runtime).fingerprint
            except InputError as why:
                wrong[str(why)] = None
    if wrong:
        raise InputError("\n  ".join(wrong))
    return found


def schedule(missing: Sequence[Cell], like: Task) -> list[Task]:
    """Tasks in their order: seed by seed, first the distinct networks, then the cells that read them.

    So workers train different networks at the same time, where in the order of the cells they would all wait for the first.
    """
    tasks: list[Task] = []
    for seed in dict.fromkeys(cell.seed for cell in missing):
        mine = [cell for cell in missing if cell.seed == seed]
        ahead: dict[str, Task] = {}
        control = digest(NoAttack().recipe())
        for cell in mine:
            for attack, clean in ((control, True), (cell.attack.id, False)):
                key = digest([cell.split, attack, cell.victim.id])
                ahead.setdefault(key, replace(like, cell=cell, ahead=True, clean=clean))
        tasks += [*ahead.values(), *(replace(like, cell=cell) for cell in mine)]
    return tasks


def _died(task: Task, why: str) -> dict[str, Any]:
    error = {"type": "WorkerDied", "message": why, "where": []}
    return {**task.cell.head(), "error": error, "provenance": provenance(task.device, task.command)}
