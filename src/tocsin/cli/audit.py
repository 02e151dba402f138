"""``tocsin audit``: the main job."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tocsin.cli import options
from tocsin.cli.console import progress, say, span, table
from tocsin.cli.outcome import EXIT_CODES, NOTHING_FOUND, SUSPECTS_FOUND, refuse_inside
from tocsin.errors import InputError

if TYPE_CHECKING:
    from tocsin.report.model import Report

NO_RESERVE = (
    "--reserve is missing: the audit compares your data with clean samples of the same classes (some hundred, better 2,000, that you "
    "trust). If there are none, run `tocsin reserve DATA -n 2000 --out vet/`: it draws some for you to check by eye"
)
_ROWS = 12
Reserve = Annotated[Path | None, typer.Option(help="Clean samples of the same classes, in any of the same forms.", show_default=False)]
Preset = Annotated[str, typer.Option(help="fast; thorough (larger network, up to 20 minutes); paper (the published procedure).")]
Detectors = Annotated[
    str | None,
    typer.Option(
        "--detectors",
        "--detector",
        help="One method or several, as `tocsin methods` lists them: ct,ss,scan. The first decides. Default: proactive for pictures, "
        "audible for speech, tabular for tables; asset where the setting is another than supervised.",
        show_default=False,
    ),
]
Setting = Annotated[
    str,
    typer.Option(
        help="How a model is made of DATA: supervised; transfer, from a trained --encoder; or self-supervised, for pictures without labels"
        " (class folders are not needed)."
    ),
]
Canaries = Annotated[
    bool, typer.Option("--canaries/--no-canaries", help="Plant test samples in the working copy to measure what would be found.")
]
Resume = Annotated[bool, typer.Option("--resume/--no-resume", help="Go on from the finished rounds of a run that was stopped.")]


def command(
    data: options.Data,
    reserve: Reserve = None,
    preset: Preset = "fast",
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("tocsin-report"),
    device: options.Device = "auto",
    seed: options.Seed = 0,
    detectors: Detectors = None,
    setting: Setting = "supervised",
    encoder: options.Encoder = None,
    settings: options.Settings = None,
    canaries: Canaries = True,
    size: options.Size = None,
    kind: options.Kind = "auto",
    rate: options.Rate = None,
    seconds: options.Seconds = None,
    root: options.Root = None,
    label: options.Label = None,
    resume: Resume = True,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Which samples of DATA plant a backdoor? Writes a report; your files are never changed."""
    if reserve is None:
        raise InputError(NO_RESERVE)
    began = time.monotonic()
    refuse_inside(out, data)
    refuse_inside(out, reserve)

    from tocsin.auditing import audit
    from tocsin.data import load
    from tocsin.paradigms import paradigm_of
    from tocsin.runtime import Runtime

    with _workplace(out, resume) as checkpoints, progress(quiet) as sink:
        runtime = Runtime(device=device, seed=seed, checkpoints=checkpoints, progress=sink)
        paradigm, params = paradigm_of(setting, _with_encoder(options.pairs(settings), setting, encoder))
        blind = not paradigm.labelled
        train = load(data, root=root, kind=kind, label=label, size=size, rate=rate, seconds=seconds, unlabelled=blind, runtime=runtime)
        report = audit(
            train,
            load(reserve, **options.form_of(train, size), runtime=runtime),
            preset=preset,
            detector=detectors,
            params=params,
            setting=paradigm,
            canaries=canaries,
            runtime=runtime,
        )
        report = replace(report, settings={**report.settings, "command": shlex.join(["tocsin", *sys.argv[1:]])})
        page = report.save(out)
    if json:
        sys.stdout.write((out / "findings.json").read_text("utf-8"))
    elif not quiet:
        _show(report, page, time.monotonic() - began)
    raise typer.Exit(SUSPECTS_FOUND if report.flagged.any() else NOTHING_FOUND)


command.__doc__ = f"{command.__doc__}\n\n{EXIT_CODES}"


def _with_encoder(params: dict[str, str], setting: str, encoder: Path | None) -> dict[str, str]:
    if encoder is None:
        return params
    if setting != "transfer":
        raise InputError(f"--encoder: is tuned to the data with --setting transfer, got --setting {setting}")
    return {**params, "transfer.encoder": str(encoder)}


@contextmanager
def _workplace(out: Path, resume: bool) -> Iterator[Path]:
    """The checkpoint folder in ``out``, made before the work so that an unwritable place is said then; gone after success."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out: {out} is a file; a folder for the report was expected")
    checkpoints = out / ".checkpoints"
    if not resume:
        shutil.rmtree(checkpoints, ignore_errors=True)
    checkpoints.mkdir(parents=True, exist_ok=True)
    try:
        yield checkpoints
        shutil.rmtree(checkpoints, ignore_errors=True)
    finally:
        for folder in (checkpoints, out):  # an audit that kept nothing leaves nothing
            with suppress(OSError):
                folder.rmdir()


def _show(report: Report, page: Path, seconds: float) -> None:
    from tocsin.report.records import sentences
    from tocsin.report.words import agreement, canaries, reasons, shown

    say(report.sentence, style="bold red" if report.flagged.any() else "bold green")
    for line in (*reasons(report), *sentences(report)):
        say(line)
    guilty = sorted((c for c in report.findings.classes if c.flagged), key=lambda c: -c.flagged)
    if guilty:
        rows = [[shown(c.name), f"{c.size:,}", f"{c.flagged:,}", f"{c.p_value:.2g}", "yes" if c.suspect else ""] for c in guilty[:_ROWS]]
        table(["class", "samples", "flagged", "p", "target"], rows)
        if len(guilty) > _ROWS:
            say(f"... and {len(guilty) - _ROWS} more classes")
        if any(c.planted for c in report.canaries):
            say(f"Controls: {canaries(report)}.")
    if report.panel:
        table(["detector", "verdict", "flagged", "of these, by the first too"], [list(line) for line in agreement(report)])
    for note in report.notes:
        say(f"Note: {note}")
    say(f"Next: {report.advice[0]}" if report.advice else "")
    say(f"Report: {page}")
    say(f"Took {span(seconds)}.")
