"""``tocsin demo``: everything once, on data that come with the package."""

from __future__ import annotations

import json as jsonlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli import options
from tocsin.cli.console import progress, say, span, table


def command(
    out: Annotated[Path, typer.Option(help="Folder for the reports and demo.json.")] = Path("tocsin-demo"),
    kind: Annotated[
        str,
        typer.Option(help="image: real handwritten digits; table: real measurements; speech: synthetic spoken words (extra demo-speech)."),
    ] = "image",
    seed: options.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Poison data that come with the package, and once not, audit each set, and train before and after."""
    from tocsin import demo
    from tocsin.runtime import Runtime

    began = time.monotonic()
    with progress(quiet) as sink:
        rows = list(demo.run(out, Runtime(device=device, seed=seed, progress=sink), kind))
    if json:
        say(jsonlib.dumps([asdict(row) for row in rows], indent=2))
    elif not quiet:
        cells = [
            [
                r.attack,
                str(r.planted),
                r.verdict,
                share(r.asr_before),
                share(r.tpr),
                share(r.fpr),
                share(r.asr_after),
                share(r.acc_before),
                share(r.acc_after),
            ]
            for r in rows
        ]
        table(["attack", "planted", "verdict", "ASR before", "TPR", "FPR", "ASR after", "ACC before", "ACC after"], cells)
        show = demo.show_of(kind)
        say(f"Data: {show.what}. Audited by: {show.detectors}.")
        for row in rows:
            say(f"Report on {row.attack}: {row.report}")
        say(f"Took {span(time.monotonic() - began)}.")


def share(value: float | None) -> str:
    """``0.123`` -> ``12.3 %``; a dash where there is none."""
    return "-" if value is None else f"{100 * value:.2f} %" if 0 < value < 0.01 else f"{100 * value:.1f} %"
