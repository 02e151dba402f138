"""The commands put together, and the one place where failures become a sentence and an exit code."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer

from tocsin import __version__
from tocsin.cli import apply, audit, bench, demo, methods, poison, reserve, train
from tocsin.cli.console import complain
from tocsin.cli.outcome import EXIT_CODES, PIPE_CLOSED, explain

app = typer.Typer(
    name="tocsin",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS: dict[str, Callable[..., None]] = {
    "audit": audit.command,
    "reserve": reserve.command,
    "apply": apply.command,
    "poison": poison.command,
    "train": train.command,
    "bench": bench.command,
    "methods": methods.command,
    "demo": demo.command,
}


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tocsin {__version__}")
        raise typer.Exit


@app.callback(epilog=EXIT_CODES)
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show where a failure happened; may stand anywhere.")] = False,
) -> None:
    """Tells which samples of a training set plant a backdoor, before the model is trained."""


def _translated(command: Callable[..., None]) -> Callable[..., None]:
    """Keeps from typer the exceptions that it would end with a code that means something else here (1: suspects found)."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except (BrokenPipeError, EOFError, KeyboardInterrupt) as why:
            raise _Ended from why

    return run


class _Ended(Exception):
    """An exception, its cause, on its way through typer."""


for _name, _command in _COMMANDS.items():
    app.command(_name)(_translated(_command))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code; see `EXIT_CODES`. A failure never exits with 0 or 1."""
    words = list(sys.argv[1:] if argv is None else argv)
    show = "--traceback" in words
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app([word for word in words if word != "--traceback"], prog_name="tocsin")
    except _Ended as why:
        _end(why.__cause__ or why, show)
    except Exception as why:
        _end(why, show)


def _end(why: BaseException, show: bool) -> NoReturn:
    if isinstance(why, BrokenPipeError):
        # Whoever read our output has gone. The interpreter flushes stdout once more on its way out; let it do so into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)
    if show:
        traceback.print_exception(why)
    code, sentence = explain(why)
    complain(sentence)
    sys.exit(code)
