"""Where and how a job runs. Passed down explicitly; there is no global state."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.errors import InputError

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, float], None]
"""``progress(stage, fraction)``: a plain name for what runs now, and how much of *that stage* is done, 0..1."""


def silent(stage: str, fraction: float) -> None:
    """The progress sink of library use: says nothing."""


def default_cache() -> Path:
    """``$TOCSIN_CACHE``, else the platform's cache folder for the user."""
    if "TOCSIN_CACHE" in os.environ:
        return Path(os.environ["TOCSIN_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tocsin"


@cache
def cpu_name() -> str:
    """Of this machine, as its system has it: "AMD EPYC" and the like."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


@dataclass(frozen=True)
class Runtime:
    """Device, seed, folders and progress sink of one job."""

    device: str = "auto"
    """``auto`` (CUDA if there is one, else CPU), ``cpu``, ``cuda``, ``cuda:1`` ..."""
    seed: int = 0
    """Everything random derives from it: same seed, same machine, same answer."""
    cache: Path = field(default_factory=default_cache)
    """Decoded data sets live here, keyed by content."""
    checkpoints: Path | None = None
    """Folder in which a long job leaves finished steps so that a killed run resumes; None: nothing is written."""
    progress: Progress = silent
    """Called from the job's thread with (stage, fraction of the stage done)."""

    def torch_device(self) -> torch.device:
        """The device as torch names it. Raises `InputError` when it is not there."""
        import torch

        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as why:
            raise InputError(f"device: {self.device!r} cannot be used here; allowed: auto, cpu, or cuda where a GPU is visible") from why
        return device


class Ticker:
    """Counts the ``total`` steps of a stage, in whatever threads they are made, and passes on the share that is done."""

    def __init__(self, runtime: Runtime, stage: str, total: int) -> None:
        self.runtime, self.stage, self.total, self.done, self.lock = runtime, stage, max(1, total), 0, threading.Lock()

    def __call__(self) -> None:
        with self.lock:
            self.done += 1
            if self.done % 10 == 0 or self.done == self.total or self.total < 100:
                self.runtime.progress(self.stage, min(1.0, self.done / self.total))
