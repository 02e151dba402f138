"""Does every attack work on an ordinary victim? ACC and ASR without any defence; docs/attacks.md shows the result.

    python benchmarks/attack_gate.py --data cifar.npz --samples 20000 --epochs 8 --flip --out benchmarks/results/attack_gate_cifar10.json
    python benchmarks/attack_gate.py --out benchmarks/results/attack_gate_digits.json

``--data``: an npz of x, y (training) and xt, yt (test), pictures uint8 (N, H, W, C); without it the built-in digits.
``--rows``: attacks as NAME or NAME:setting=value:setting=value; by default a table of them. Appends row by row, so that a
stopped run keeps what it has and a second call does the rest.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tocsin
from tocsin.data.builtin import digits
from tocsin.data.dataset import Dataset
from tocsin.learning import FitSettings
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime
from tocsin.victim import train_victim

ROWS = (
    "none",
    "badnet:rate=0.01",
    "blend:rate=0.01",
    "blend:rate=0.01:pattern=noise",
    "trojan:rate=0.01",
    "sig:rate=0.02",
    "tact:rate=0.01:cover_rate=0.01",
    "adap-blend:rate=0.01:cover_rate=0.01",
)


def load(path: Path | None, samples: int) -> tuple[Dataset, Dataset]:
    """Training set (the first ``samples`` of a seed-0 shuffle) and test set."""
    if path is None:
        train, _, test = digits(0, samples)
        return train, test
    with np.load(path, allow_pickle=False) as z:
        rows = np.sort(np.random.default_rng(0).permutation(len(z["y"]))[:samples])
        train = Dataset.of_arrays(z["x"][rows], z["y"][rows])
        return train, Dataset.of_arrays(z["xt"], z["yt"], train.classes)


def commit() -> str:
    """The commit that ran, with a plus where the tree had changes."""
    git = lambda *words: subprocess.run(["git", *words], capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()  # noqa: E731
    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no", "../src") else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--samples", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--network", default="small")
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", default=ROWS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    train, test = load(args.data, args.samples)
    settings = FitSettings(epochs=args.epochs)
    done: list[dict[str, Any]] = json.loads(args.out.read_text())["rows"] if args.out.exists() else []
    for seed in args.seeds:
        for row in args.rows:
            if any((d["row"], d["seed"]) == (row, seed) for d in done):
                continue
            name, *words = row.split(":")
            poisoned = poison(train, attack := build(name, **dict(w.split("=", 1) for w in words)), seed)
            result = train_victim(
                poisoned.dataset, test, attack, network=args.network, settings=settings, flip=args.flip, runtime=Runtime(args.device, seed)
            )
            counts = {"planted": len(poisoned.planted), "covers": len(poisoned.covers)}
            command = " ".join(["python", "benchmarks/attack_gate.py", *sys.argv[1:]])
            done.append({"row": row, "seed": seed, **counts, **result.as_dict(), "command": command, "commit": commit()})
            print(f"{row:40} seed {seed}  ACC {result.acc:.3f}  ASR {result.asr:.3f}  {result.seconds:.0f} s", flush=True)
            about = {
                "versions": {"tocsin": tocsin.__version__, "torch": torch.__version__, "numpy": np.__version__},
                "hardware": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, device {args.device}",
                "when": time.strftime("%Y-%m-%d"),
                "settings": asdict(settings),
                "rows": done,
            }
            args.out.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
