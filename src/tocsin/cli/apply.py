"""``tocsin apply``: from findings or decisions to clean data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli import options
from tocsin.cli.console import progress, say
from tocsin.cli.outcome import refuse_inside


def command(
    data: options.Data,
    decisions: Annotated[
        Path, typer.Argument(metavar="DECISIONS", help="decisions.csv from the report's page, findings.csv or findings.json.")
    ],
    out: Annotated[Path, typer.Option(help="kept.csv for a list of what stays; any other name for a clean copy.")],
    kind: options.Kind = "auto",
    root: options.Root = None,
    label: options.Label = None,
    unlabelled: options.Unlabelled = False,
    quiet: options.Quiet = False,
) -> None:
    """Leave out what an audit flagged, or what a reviewer decided to remove. DATA itself stays as it is."""
    from tocsin.data import load, write_subset
    from tocsin.decisions import about_unlabelled, apply, write_manifest
    from tocsin.runtime import Runtime

    refuse_inside(out, data)
    with progress(quiet) as sink:
        blind = unlabelled or about_unlabelled(decisions)
        dataset = load(data, root=root, kind=kind, label=label, unlabelled=blind, runtime=Runtime(progress=sink))
        keep = apply(dataset, decisions)
        put = write_manifest if out.suffix.lower() == ".csv" else write_subset
        place = put(dataset, keep, out)
    if not quiet:
        say(f"{int(keep.sum()):,} of {len(dataset):,} samples kept, {int((~keep).sum()):,} left out: {place}")
