"""``tocsin train``: the victim."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import options
from tocsin.cli.console import progress, say, table
from tocsin.cli.demo import share
from tocsin.errors import InputError

if TYPE_CHECKING:
    from tocsin.paradigms import Transfer
    from tocsin.victim import VictimResult


def command(
    data: options.Data,
    test: Annotated[Path, typer.Option(help="Clean test samples of the same classes.")],
    without: Annotated[
        Path | None,
        typer.Option(help="findings or decisions of an audit: train a second time without what it removes.", show_default=False),
    ] = None,
    attack: Annotated[str | None, typer.Option(help="The attack to measure ASR with.", show_default="what DATA's manifest says")] = None,
    settings: options.Settings = None,
    network: Annotated[
        str | None, typer.Option(help="The network; for tables also boosting.", show_default="the usual one for such data")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training set.", show_default="as usual for the network")] = None,
    normalise: Annotated[str, typer.Option(help="Sounds: clip takes from each clip its own mean of every band; or none.")] = "none",
    encoder: options.Encoder = None,
    tune: Annotated[str, typer.Option(help="With --encoder: all of its weights (all), or a new last layer alone (last).")] = "all",
    save: Annotated[
        Path | None, typer.Option(help="File that the network is written to, to be the --encoder of other data.", show_default=False)
    ] = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    size: options.Size = None,
    kind: options.Kind = "auto",
    rate: options.Rate = None,
    seconds: options.Seconds = None,
    root: options.Root = None,
    label: options.Label = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train an ordinary network on DATA; report accuracy (ACC) and attack success rate (ASR)."""
    from tocsin.data import learned_of, load, manifest_of
    from tocsin.data.merging import same_columns
    from tocsin.decisions import apply
    from tocsin.kinds import kind_of
    from tocsin.learning import usual_settings
    from tocsin.poisoning import attack_of, build
    from tocsin.runtime import Runtime
    from tocsin.victim import train_victim

    _check_save(save, without)
    given, recipe = options.pairs(settings), manifest_of(data)
    measured = build(attack, **given) if attack else attack_of({**recipe, **given}, learned_of(data)) if recipe else None
    if given and measured is None:
        raise InputError("--set: settings are the attack's, and there is no attack; name one with --attack")
    with progress(quiet) as sink:
        runtime = Runtime(device=device, seed=seed, progress=sink)
        measured = measured and measured.on(runtime)
        train = load(data, root=root, kind=kind, label=label, size=size, rate=rate, seconds=seconds, runtime=runtime)
        clean = load(test, **options.form_of(train, size), runtime=runtime)
        sets = {"all samples": train} | ({f"without {without.name}": train[apply(train, without)]} if without else {})
        if train.columns is not None:
            train, clean, _ = same_columns(train, clean, "test set")
            sets = {name: replace(part, columns=train.columns) for name, part in sets.items()}
        start = _transfer(encoder, tune, epochs, network)
        network = network or kind_of(train).network
        fit = None if epochs is None else replace(usual_settings(network), epochs=epochs)
        how: dict[str, Any] = {
            "network": network,
            "settings": fit,
            "runtime": runtime,
            "normalise": normalise,
            "transfer": start,
            "save": save,
        }
        results = {name: train_victim(part, clean, measured, **how) for name, part in sets.items()}
    if json:
        document: dict[str, Any] = {"attack": measured.recipe() if measured else None, "runs": {n: r.as_dict() for n, r in results.items()}}
        say(jsonlib.dumps(document, indent=2))
    elif not quiet:
        show(results)


def _transfer(encoder: Path | None, tune: str, epochs: int | None, network: str | None) -> Transfer | None:
    """What --encoder and --tune say. Raises `InputError`."""
    from tocsin.paradigms import Transfer
    from tocsin.params import parse_fields

    if encoder is None:
        if tune != "all":
            raise InputError("--tune: says how an encoder is tuned, and there is none; name its file with --encoder")
        return None
    if network is not None:
        raise InputError(f"--network: got {network} beside --encoder, whose network is the one in its file; leave one of them out")
    return Transfer(**parse_fields(Transfer, {"encoder": str(encoder), "tune": tune, **({} if epochs is None else {"epochs": epochs})}))


def _check_save(save: Path | None, without: Path | None) -> None:
    """Raises `InputError` before anything is trained in vain."""
    if save is None:
        return
    if without is not None:
        raise InputError("--save: with --without two networks are trained; save one of them at a time")
    if save.exists():
        raise InputError(f"--save: {save} exists; nothing is ever overwritten")


def show(results: Mapping[str, VictimResult]) -> None:
    """A line for each network, by what it was trained on."""
    header = ["trained on", "samples", "ACC", "ASR", "ASR, no trigger"]
    rows = [[n, f"{r.samples:,}", share(r.acc), share(r.asr), share(r.asr_without_trigger)] for n, r in results.items()]
    if any(r.fpr is not None for r in results.values()):
        header, rows = [*header, "FPR"], [[*row, share(r.fpr)] for row, r in zip(rows, results.values(), strict=True)]
    table(header, rows)
