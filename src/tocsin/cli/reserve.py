"""``tocsin reserve``: a clean sample where there is none yet."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from tocsin.cli import options
from tocsin.cli.console import progress, say
from tocsin.cli.outcome import refuse_inside

if TYPE_CHECKING:
    from tocsin.data.dataset import Dataset
    from tocsin.runtime import Runtime


def command(
    data: options.Data,
    out: Annotated[Path, typer.Option(help="Folder for the pages to vet, or (with --decisions) for the reserve.")],
    count: Annotated[int, typer.Option("-n", "--count", help="How many samples to draw, the same number from each class.")] = 2000,
    decisions: Annotated[
        Path | None, typer.Option(help="The decisions.csv from the page: write the reserve of what you kept.", show_default=False)
    ] = None,
    seed: options.Seed = 0,
    kind: options.Kind = "auto",
    root: options.Root = None,
    label: options.Label = None,
    unlabelled: options.Unlabelled = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw a sample of DATA for a person to vet by eye; then, with --decisions, make the reserve of it."""
    from tocsin.data import load
    from tocsin.runtime import Runtime

    refuse_inside(out, data)
    with progress(quiet) as sink:
        runtime = Runtime(progress=sink)
        dataset = load(data, root=root, kind=kind, label=label, unlabelled=unlabelled, runtime=runtime)
        said = _prepared(dataset, count, out, seed, runtime, data) if decisions is None else _accepted(dataset, decisions, out)
    if not quiet:
        for line in said:
            say(line)


def _prepared(dataset: Dataset, count: int, out: Path, seed: int, runtime: Runtime, data: Path) -> list[str]:
    from tocsin.report.words import label_option
    from tocsin.reserve import prepare

    done = prepare(dataset, count, out, seed, runtime)
    return [
        f"Open {done.page} and untick what is not clean or wrongly filed; it gives you the decisions as a CSV file. Then:",
        f"tocsin reserve {quote(str(data))}{label_option(dataset)} --decisions decisions.csv --out {quote(str(out / 'accepted'))}",
        *(f"Note: {note}" for note in done.notes),
    ]


def _accepted(dataset: Dataset, decisions: Path, out: Path) -> list[str]:
    from tocsin.paradigms import PARADIGMS
    from tocsin.report.words import label_option
    from tocsin.reserve import accept

    done = accept(dataset, decisions, out)
    root = f" --root {quote(str(done.root))}" if done.root is not None else ""
    blind = next(name for name, other in PARADIGMS.items() if not other.labelled)
    how = label_option(dataset) if dataset.labelled else f" --setting {blind}"
    return [
        f"The reserve is {done.reserve}; {done.train} is the training data without it. Then:",
        f"tocsin audit {quote(str(done.train))}{how}{root} --reserve {quote(str(done.reserve))}",
        *(f"Note: {note}" for note in done.notes),
    ]
