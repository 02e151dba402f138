"""``tocsin bench``: a grid of cells, and their table."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table as Grid
from rich.text import Text

from tocsin.cli import options
from tocsin.cli.console import complain, harmless, printer, progress, say, span
from tocsin.cli.outcome import NOT_FINISHED
from tocsin.errors import InputError

if TYPE_CHECKING:
    from tocsin.bench.table import Box, Section, Table

PAGE = "index.html"


class Format(str, Enum):
    """How a table is printed."""

    terminal = "terminal"
    markdown = "markdown"
    html = "html"


def command(
    grid: Annotated[Path, typer.Argument(metavar="GRID", help="A TOML file: data, attacks, detectors, seeds (docs/bench.md).")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; a finished cell in it is not run again.", show_default="tocsin-bench/GRID")
    ] = None,
    table: Annotated[
        Format | None, typer.Option(help="Run nothing: print the table of the cells that are finished.", show_default=False)
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", help="Cells at a time, each in a process of its own.", show_default="1")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Send the cells to the Ray cluster there (extra: ray).", show_default=False)
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run the cells that failed once more.")] = False,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Run a grid of attacks, detectors and seeds; stop it at any time, and the same command goes on."""
    place = out if out is not None else Path("tocsin-bench") / grid.stem
    if table is not None:
        _print(_tabulated(place), table)
        return
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs: got {jobs}, allowed is a whole number from 1")
    began = time.monotonic()

    from tocsin.bench.grid import read_grid
    from tocsin.bench.render import html
    from tocsin.bench.running import run
    from tocsin.bench.workers import Cluster, Here, Processes, Workers
    from tocsin.report.files import write_text

    wanted = read_grid(grid)
    workers: Workers = Here() if jobs in (None, 1) else Processes(jobs or 1)
    if ray is not None:
        workers = Cluster(ray, jobs, device)
    with progress(quiet) as sink:
        done = run(
            wanted,
            place,
            workers=workers,
            device=device,
            retry_failed=retry_failed,
            command=shlex.join(["tocsin", *sys.argv[1:]]),
            progress=sink,
            finished=(lambda line: None) if quiet else _tell,
        )
    found = _tabulated(place)
    write_text(place / PAGE, html(found))
    if not quiet:
        _print(found, Format.terminal)
        say(f"{done.ran:,} of {done.cells:,} cells run in {span(time.monotonic() - began)}; page: {place / PAGE}")
    if done.failed:
        complain(f"{done.failed:,} of {done.cells:,} cells failed, see the table; --retry-failed runs them once more")
        raise typer.Exit(NOT_FINISHED)


def _tabulated(place: Path) -> Table:
    from tocsin.bench.ledger import Ledger
    from tocsin.bench.table import tabulate

    lines = Ledger(place / "cells.jsonl").read()
    if not lines:
        raise InputError(f"--out: {place} has no finished cell (cells.jsonl); was another folder meant?")
    return tabulate(lines)


def _tell(line: Mapping[str, Any]) -> None:
    """A finished cell, as a line on stderr."""
    name = f"{line['data']['name']}, {line['attack']['label']}, {line['detector']['label']}, seed {line['seed']}"
    if "error" in line:
        complain(f"{name}: failed, {line['error']['type']}: {line['error']['message']}")
        return
    result = line["result"]
    share = {key: "-" if result[key] is None else f"{100 * result[key]:.2f} %" for key in ("tpr", "fpr")}
    complain(f"{name}: TPR {share['tpr']}, FPR {share['fpr']}, {span(result['seconds'])}")


def _print(table: Table, how: Format) -> None:
    from tocsin.bench.render import html, legend, markdown

    if how is not Format.terminal:
        sys.stdout.write(markdown(table) if how is Format.markdown else html(table))
        return
    for section in table.sections:
        say(f"{section.data}, {section.victim}", style="bold")
        printer().print(_terminal(section))
    for line in legend(table):
        say(line)
    for name, why in table.failures:
        say(f"Failed: {name}: {why}")


def _terminal(section: Section) -> Grid:
    from tocsin.bench.render import GATE, attack_label, column_label, gate

    grid = Grid(box=None, pad_edge=False, header_style="bold")
    grid.add_column("attack", overflow="fold")
    for name in GATE:
        grid.add_column(name, justify="right")
    for column in section.columns:
        grid.add_column(escape(harmless(column_label(column.label, column.oracle))), overflow="fold")
    for row in section.rows:
        label = Text(harmless(attack_label(row)), style="yellow" if row.idle else "")
        grid.add_row(label, *map(Text, gate(row)), *(_coloured(box) for box in row.boxes))
    return grid


def _coloured(box: Box | None) -> Text:
    """A box, its TPR green or red by the papers' rule, its ASR after removal likewise."""
    from tocsin.bench.render import box_lines, defence, detection, trouble

    text = Text()
    colours = {True: "green", False: "red", None: ""}
    for number, line in enumerate(box_lines(box)):
        style = ""
        if box is not None:
            styles = {detection(box): colours[box.detects], defence(box): colours[box.defends], trouble(box): "red"}
            style = styles.get(line, "")
        text.append("\n" * bool(number) + line, style=style)
    return text
