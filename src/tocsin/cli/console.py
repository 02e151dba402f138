"""Printing: results on stdout, progress and errors on stderr, and no control characters from file or class names."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 10.0
"""Without a terminal, progress is a plain line this often."""


def harmless(text: str) -> str:
    """``text`` without terminal escapes and other invisible characters (line ends stay)."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Not rich's own way, which exits with 1: that means "suspects found" here."""
        raise BrokenPipeError


def say(text: str = "", style: str | None = None) -> None:
    """A line on stdout. Only wrapped by a terminal, never by us: paths stay whole in a pipe."""
    _Console(highlight=False).print(escape(harmless(text)), style=style, soft_wrap=True)


def complain(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"tocsin: {harmless(text)}\n")
    sys.stderr.flush()


def table(columns: list[str], rows: list[list[str]]) -> None:
    """A plain table on stdout; the first column is text, the others are right-aligned figures."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(columns):
        grid.add_column(name, justify="left" if place == 0 else "right", overflow="fold")
    for row in rows:
        grid.add_row(*(escape(harmless(cell)) for cell in row))
    printer().print(grid)


def printer() -> Console:
    """For tables on stdout. In a pipe there is no width to respect: no cell is cut."""
    return _Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def span(seconds: float) -> str:
    """``192`` -> ``3 min 12 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[str, float], None]]:
    """A progress sink for `Runtime`: a bar with time left on a terminal, a line now and then elsewhere, nothing if ``quiet``."""
    if quiet:
        yield lambda stage, fraction: None
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        with _bar() as bar:
            yield Bar(bar)


def _bar() -> Progress:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


class Bar:
    """One bar, which starts again with each stage."""

    def __init__(self, bar: Progress) -> None:
        self._bar, self._stage, self._task = bar, "", None

    _task: Any

    def __call__(self, stage: str, fraction: float) -> None:
        if stage != self._stage:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._stage, self._task = stage, self._bar.add_task(escape(harmless(stage)), total=1.0)
        self._bar.update(self._task, completed=min(max(fraction, 0.0), 1.0))


class Lines:
    """A plain line every ten seconds; a short job says nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._stage, self._said = clock, "", clock()
        self._began = self._said

    def __call__(self, stage: str, fraction: float) -> None:
        now = self._clock()
        if stage != self._stage:
            self._stage, self._began = stage, now
        if now - self._said < SECONDS_BETWEEN_LINES:
            return
        self._said, passed = now, now - self._began
        left = f", about {span(passed / fraction * (1 - fraction))} left" if 0.02 < fraction < 1 and passed > 0 else ""
        complain(f"{stage} {100 * fraction:.0f} %{left}")
