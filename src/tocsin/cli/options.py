"""Arguments and options that several commands share, and the ``key=value`` pairs of ``--set``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.errors import InputError

if TYPE_CHECKING:
    from tocsin.data.dataset import Dataset

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Pictures or sounds: a folder of class folders or with metadata.csv, an .npz, a csv or parquet manifest, CIFAR batches."
        " Tables: csv, parquet, .npz, or a folder with EMBER's X_train.dat.",
    ),
]
Seed = Annotated[int, typer.Option(help="Everything random derives from it: same seed, same machine, same answer.")]
Encoder = Annotated[
    Path | None,
    typer.Option(help="A trained network, as `tocsin train --save` writes it, that is tuned to the data.", show_default=False),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors; the exit code and the files tell.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Size = Annotated[
    int | None, typer.Option(help="Side in pixels at which pictures are worked on; by default chosen from the data.", show_default=False)
]
Kind = Annotated[str, typer.Option(help="image, speech, table, or auto: by the files' content.")]
Label = Annotated[
    str | None, typer.Option(help="Tables: the column of labels; by default one called label, class, target ...", show_default=False)
]
Rate = Annotated[
    int | None, typer.Option(help="Sounds: samples a second to work at; by default the data's most common rate.", show_default=False)
]
Seconds = Annotated[
    float | None, typer.Option(help="Sounds: length of a clip; by default that of most clips, at most 5 s.", show_default=False)
]
Root = Annotated[Path | None, typer.Option(help="For a manifest: the folder its paths start from; by default its own.", show_default=False)]
Unlabelled = Annotated[
    bool, typer.Option("--unlabelled", help="DATA has no labels, or they are left aside, as --setting self-supervised does.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A setting of the method, as `tocsin methods` lists them; may be repeated.", show_default=False
    ),
]


def pairs(given: list[str] | None) -> dict[str, str]:
    """``["lr=0.1", "rounds=4"]`` -> ``{"lr": "0.1", "rounds": "4"}``. Raises `InputError` that lists every malformed one."""
    wrong = [word for word in given or [] if not word.partition("=")[0].strip() or "=" not in word]
    if wrong:
        raise InputError(f"--set: got {', '.join(map(repr, wrong))}; allowed is KEY=VALUE, for example --set rate=0.01")
    split = [word.partition("=") for word in given or []]
    names = [key.strip() for key, _, _ in split]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"--set: {', '.join(twice)} given more than once; which value is meant?")
    return {key.strip(): value.strip() for key, _, value in split}


def form_of(train: Dataset, size: int | None) -> dict[str, Any]:
    """The options of `load` that bring further data, a reserve or a test set, to the form of ``train``, loaded with ``size``.

    Pictures that were resized: to their very size, so that further ones of mixed sizes are resized once and exact copies still match.
    Tables: the same columns, whatever the further ones hold in them.
    """
    if train.columns is not None:
        return {"kind": train.kind, "label": train.label_column, "columns": [column.name for column in train.columns]}
    form = {"kind": train.kind, "unlabelled": not train.labelled}
    if train.rate is not None:
        return {**form, "size": size, "rate": train.rate, "seconds": train.inputs.shape[1] / train.rate}
    return {**form, "size": train.inputs.shape[1:3] if train.resized else size}


def class_index(word: str, classes: tuple[str, ...]) -> int:
    """The class called ``word``, else the class of that number. Raises `InputError` that names the nearest class."""
    if word in classes:
        return classes.index(word)
    if word.isdecimal() and int(word) < len(classes):
        return int(word)
    from tocsin.params import closest

    shown = ", ".join(classes[:10]) + (" ..." if len(classes) > 10 else "")
    raise InputError(f"--target: no class {word!r}{closest(word, classes)} (classes: {shown}; or a number from 0 to {len(classes) - 1})")
