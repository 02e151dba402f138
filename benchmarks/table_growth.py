"""How an audit of a table grows: seconds and peak resident memory at 60, 150, 300 and 600 thousand EMBER-shaped rows of a memory map.

python benchmarks/table_growth.py --out benchmarks/results/table_growth.jsonl --rows 60000 150000     (600000: 5.6 GB in --folder)

Each size runs in a process of its own, so that peak memory is its own. The rows are drawn (`tocsin.data.ember_shaped`), and 1 % of them,
benign ones, get the rarest of the usual values in 17 header columns: this is about size, the attacks are in table_audit.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from tocsin.auditing import audit
from tocsin.bench.provenance import peak_rss_mb, provenance
from tocsin.data.dataset import Dataset
from tocsin.data.ember_shaped import CLASSES, EmberShaped
from tocsin.runtime import Runtime

SIZES = (60_000, 150_000, 300_000, 600_000)
RESERVE, RATE, WIDTH = 5_000, 0.01, 17


def drawn(folder: Path, rows: int, seed: int) -> Path:
    """The folder with the poisoned memory map and ``planted.npy``; written if it is not there yet."""
    place = folder / f"ember_shaped_{rows}_{seed}"
    if (place / "planted.npy").exists():
        return place
    source = EmberShaped(seed)
    source.write(place, rows)
    x = np.memmap(place / "X_train.dat", np.float32, "r+", shape=(rows, len(source.columns)))
    y = np.fromfile(place / "y_train.dat", "<f4")
    names = [column.name for column in source.columns]
    rng = np.random.default_rng([seed, 0x6A0])
    sample, _ = source.rows(0, 8192)
    columns = [k for k, name in enumerate(names) if "version" in name or "sizeof" in name or "timestamp" in name][:WIDTH]
    values = []
    for k in columns:
        found, counts = np.unique(sample[:, k], return_counts=True)
        values.append(rng.choice(found[counts == counts.min()]))
    planted = np.sort(rng.choice(np.flatnonzero(y == 0), round(RATE * rows), replace=False))
    x[np.ix_(planted, columns)] = values
    x.flush()
    np.save(place / "planted.npy", planted)
    return place


def one(place: Path, rows: int, seed: int, detector: str | None) -> dict[str, object]:
    """One audit in this process."""
    source = EmberShaped(seed)
    x = np.memmap(place / "X_train.dat", np.float32, "r", shape=(rows, len(source.columns)))
    train = Dataset.of_arrays(x, np.fromfile(place / "y_train.dat", "<f4").astype(np.int64), CLASSES, kind="table", columns=source.columns)
    reserve = source.dataset(RESERVE, start=10_000_000)
    truth = np.zeros(rows, bool)
    truth[np.load(place / "planted.npy")] = True
    before = peak_rss_mb()
    report = audit(train, reserve, detector=detector, runtime=Runtime(device="cpu", seed=seed))
    return {
        "rows": rows, "columns": x.shape[1], "bytes": x.nbytes, "seed": seed, "detector": report.findings.detector,
        "seconds": report.seconds, "timings": dict(report.findings.timings), "verdict": report.verdict,
        "tpr": float(report.flagged[truth].mean()), "fpr": float(report.flagged[~truth].mean()),
        "canaries": {c.trigger: [c.found, c.planted] for c in report.canaries},
        "rss_before_mb": before, "peak_rss_mb": peak_rss_mb(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/table_growth"), help="where the memory maps are drawn to")
    parser.add_argument("--rows", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detector", default=None)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(one(args.one, args.rows[0], args.seed, args.detector)))
        return
    for rows in args.rows:
        place = drawn(args.folder, rows, args.seed)
        more = [] if args.detector is None else ["--detector", args.detector]
        words = [sys.executable, __file__, "--one", str(place), "--rows", str(rows), "--seed", str(args.seed), *more]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        line = {**json.loads(done.stdout.splitlines()[-1]), **provenance("cpu", " ".join(sys.argv))}
        print(
            line["rows"], line["verdict"], f"{line['seconds']:.0f} s, {line['peak_rss_mb']:.0f} MB", "TPR", line["tpr"], "FPR", line["fpr"]
        )
        if args.out is not None:
            with args.out.open("a") as out:
                out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
