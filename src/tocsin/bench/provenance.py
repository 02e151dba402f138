"""Where a number comes from: code, versions, machine, time. And how much memory was used."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tocsin.runtime import cpu_name

PACKAGE = Path(__file__).resolve().parents[1]


def provenance(device: str, command: str) -> dict[str, Any]:
    """Of a number that is made now, on this machine; ``device`` as torch names it."""
    import numpy
    import torch

    from tocsin import __version__
    from tocsin.learning import fast_type

    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") and torch.cuda.is_available() else None
    return {
        **commit(),
        "tocsin": __version__,
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "device": device,
        "multiplies": "bfloat16" if fast_type(torch.device(device)) else "float32",
        **({"gpu": gpu} if gpu else {}),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
    }


def commit() -> dict[str, Any]:
    """``commit`` and ``dirty`` of the checkout that tocsin runs from; both None where it runs from no checkout of its own.

    ``$TOCSIN_COMMIT`` goes first: a copy on a machine that is lent may have come with the history of another day.
    """
    if told := os.environ.get("TOCSIN_COMMIT"):
        return {"commit": told, "dirty": None}
    top = _git("rev-parse", "--show-toplevel")
    # An installed package may lie in the checkout of something else.
    if not top or Path(top) / "src" / "tocsin" != PACKAGE:
        return {"commit": None, "dirty": None}
    return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain", "--", "."))}


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=PACKAGE, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def forget_peak() -> None:
    """Starts the process's memory peak afresh, where the system allows it (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_mb() -> float | None:
    """The most memory, in MiB, that this process held since `forget_peak` (elsewhere than on Linux: ever); None if unknown."""
    with suppress(OSError, ValueError, StopIteration):  # what getrusage says on Linux is also what the parent held when it started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(used / (2**20 if sys.platform == "darwin" else 2**10))
