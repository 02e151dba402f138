"""``tocsin reserve``: a clean sample where there is none yet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli import options
from tocsin.cli.console import progress, say
from tocsin.cli.outcome import refuse_inside


def command(
    data: options.Data,
    out: Annotated[Path, typer.Option(help="Folder for the pages to vet, or (with --decisions) for the reserve.")],
    count: Annotated[int, typer.Option("-n", "--count", help="How many samples to draw, the same number from each class.")] = 2000,
    decisions: Annotated[
        Path | None, typer.Option(help="The decisions.csv from the page: write the reserve of what you kept.", show_default=False)
    ] = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Draw a sample of DATA for a person to vet by eye; then, with --decisions, make the reserve of it."""
    from tocsin import reserve
    from tocsin.data import load
    from tocsin.runtime import Runtime

    refuse_inside(out, data)
    with progress(quiet) as sink:
        dataset = load(data, runtime=Runtime(progress=sink))
        if decisions is None:
            page = reserve.prepare(dataset, count, out, seed=seed)
        else:
            reserve.accept(dataset, decisions, out)
    if quiet:
        return
    if decisions is None:
        say(f"Look through {page}, tick what is not clean, and download decisions.csv; then:")
        say(f"tocsin reserve {data} --decisions decisions.csv --out clean/")
    else:
        say(f"Reserve: {out}")
