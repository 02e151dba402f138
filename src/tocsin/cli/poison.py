"""``tocsin poison``: a red-team fixture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli import options
from tocsin.cli.console import progress, say
from tocsin.cli.outcome import refuse_inside


def command(
    data: options.Data,
    out: Annotated[Path, typer.Option(help="Where the poisoned copy goes; must not exist yet.")],
    attack: Annotated[str, typer.Option(help="Which attack, as `tocsin methods` lists them.")] = "badnet",
    rate: Annotated[float | None, typer.Option(help="Share of the training set to poison, 0..1.", show_default="the attack's")] = None,
    target: Annotated[str | None, typer.Option(help="Target class: its name or its number.", show_default="0")] = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    size: options.Size = None,
    kind: options.Kind = "auto",
    sound_rate: options.Rate = None,
    seconds: options.Seconds = None,
    root: options.Root = None,
    label: options.Label = None,
    quiet: options.Quiet = False,
) -> None:
    """Make a poisoned copy of DATA for testing, in the same layout, with a manifest of what was planted."""
    from tocsin.data import load, write
    from tocsin.poisoning import build, poison
    from tocsin.runtime import Runtime

    refuse_inside(out, data)
    given = options.pairs(settings) | ({"rate": str(rate)} if rate is not None else {})
    recipe = build(attack, **given)
    with progress(quiet) as sink:
        runtime = Runtime(device=device, progress=sink)
        dataset = load(data, root=root, kind=kind, label=label, size=size, rate=sound_rate, seconds=seconds, runtime=runtime)
        if target is not None:
            recipe = replace(recipe, target=options.class_index(target, dataset.classes))  # type: ignore[type-var]
        poisoned = poison(dataset, recipe, seed, runtime)
        place = write(poisoned, out)
    if not quiet:
        covers = f", {len(poisoned.covers):,} more carry the trigger as covers" if len(poisoned.covers) else ""
        say(f"{len(poisoned.planted):,} of {len(dataset):,} samples poisoned with {recipe.name}{covers}: {place}")
