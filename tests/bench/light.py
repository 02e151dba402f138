"""Work for worker processes that needs no torch, so that they start at once."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from tocsin.bench.workers import Processes


def twice(number: int) -> int:
    return 2 * number


def sour(number: int) -> int:
    """2 kills its process, 3 ends it by an exception that nobody catches."""
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 3:
        raise RuntimeError("not caught")
    return number


def threads(number: int) -> str:
    return os.environ["OMP_NUM_THREADS"]


def linger(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)


def main() -> None:
    """``python -m tests.bench.light FOLDER``: two processes that linger, for a parent that is killed."""
    list(Processes(2).map(linger, [sys.argv[1]] * 2))


if __name__ == "__main__":
    main()
