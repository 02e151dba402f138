"""How an audit of a table grows, and what it finds: seconds and peak memory at 60 to 600 thousand EMBER-shaped rows of a memory map.

python benchmarks/table_growth.py --out benchmarks/results/table_growth.jsonl --rows 60000 150000 300000     (600000: 5.6 GB in --folder)
python benchmarks/table_growth.py --out benchmarks/results/table_growth.jsonl --rows 600000 --attacks constrained unconstrained none

Each audit runs in a process of its own, so that peak memory is its own. The rows are drawn (`tocsin.data.ember_shaped`), 1 % of them are
poisoned in place by `explanation`, whose ground truth stays with this script. Whether the attacks work is in table_audit.py and
table_gate.py. A line says what each member of `tabular` flagged, too. Finished lines are not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from overheard import HEARD, overheard
from table_audit import ROWS
from tocsin.auditing import controlled
from tocsin.bench.provenance import peak_rss_mb, provenance
from tocsin.data.dataset import Dataset
from tocsin.data.ember_shaped import CLASSES, EmberShaped
from tocsin.data.pairing import match
from tocsin.data.rows import stacked
from tocsin.detectors.tabular import Tabular
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime

SIZES = (60_000, 150_000, 300_000, 600_000)
ATTACKS = ("constrained", "unconstrained", "none")
RESERVE, RATE = 5_000, 0.01


def mapped(place: Path, rows: int, seed: int) -> Dataset:
    """The table in the folder ``place``, on disk."""
    columns = EmberShaped(seed).columns
    x = np.memmap(place / "X_train.dat", np.float32, "r", shape=(rows, len(columns)))
    y = np.fromfile(place / "y_train.dat", "<f4").astype(np.int64)
    return Dataset.of_arrays(x, y, CLASSES, kind="table", columns=columns)


def drawn(folder: Path, rows: int, seed: int, attack: str) -> Path:
    """The folder with the poisoned memory map, ``planted.npy`` and ``columns.json``; written if it is not there yet."""
    place = folder / f"{attack}_{rows}_{seed}"
    if (place / "planted.npy").exists():
        return place
    EmberShaped(seed).write(place, rows)
    name, settings = ROWS[attack]
    wanted = build(name, **settings, **({} if name == "none" else {"rate": RATE}))
    poisoned = poison(mapped(place, rows, seed), wanted, seed, Runtime("cpu", seed))
    x = np.memmap(place / "X_train.dat", np.float32, "r+", shape=poisoned.dataset.inputs.shape)
    x[poisoned.planted] = poisoned.dataset.inputs[poisoned.planted]
    x.flush()
    moved = poisoned.attack.learned["columns"] if name != "none" else []  # type: ignore[attr-defined]
    (place / "columns.json").write_text(json.dumps([EmberShaped(seed).columns[k].name for k in moved]))
    np.save(place / "planted.npy", poisoned.planted)
    return place


def one(place: Path, rows: int, seed: int) -> dict[str, object]:
    """One audit in this process, as `tocsin.audit` does it."""
    train, reserve = mapped(place, rows, seed), EmberShaped(seed).dataset(RESERVE, start=10_000_000)
    truth = np.zeros(rows, bool)
    truth[np.load(place / "planted.npy")] = True
    names = set(json.loads((place / "columns.json").read_text()))
    before, began = peak_rss_mb(), time.monotonic()
    audited, reserve, _ = match(replace(train, inputs=stacked([train.inputs])), reserve)
    found, canaries = controlled(overheard(Tabular)(), audited, reserve, Runtime(device="cpu", seed=seed))
    seconds = time.monotonic() - began
    said = {pair["column"] for rule in found.evidence["rules"].values() for pair in rule}

    def shares(flagged: np.ndarray) -> dict[str, float | None]:
        return {"tpr": float(flagged[truth].mean()) if truth.any() else None, "fpr": float(flagged[~truth].mean())}

    return {
        "rows": rows, "columns": train.inputs.shape[1], "bytes": train.inputs.nbytes, "seed": seed, "attack": place.name.split("_")[0],
        "seconds": seconds, "timings": dict(found.timings), "found": found.found, **shares(found.flagged),
        "by_member": {h.detector: {**shares(h.flagged[:rows]), "p": [c.p_value for c in h.classes]} for h in HEARD},
        "trigger_columns_named": len(names & said) / len(names) if names else None,
        "canaries": {c.trigger: [c.found, c.planted] for c in canaries}, "rss_before_mb": before, "peak_rss_mb": peak_rss_mb(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/table_growth"), help="where the memory maps are drawn to")
    parser.add_argument("--rows", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--attacks", nargs="+", default=["constrained"], choices=ATTACKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(one(args.one, args.rows[0], args.seeds[0])))
        return
    lines = map(json.loads, args.out.read_text().splitlines()) if args.out is not None and args.out.exists() else ()
    done = {(line["rows"], line["attack"], line["seed"]) for line in lines}
    for rows, attack, seed in ((r, a, s) for s in args.seeds for r in args.rows for a in args.attacks if (r, a, s) not in done):
        place = drawn(args.folder, rows, seed, attack)
        words = [sys.executable, __file__, "--one", str(place), "--rows", str(rows), "--seeds", str(seed)]
        result = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        line = {**json.loads(result.stdout.splitlines()[-1]), **provenance("cpu", " ".join(sys.argv))}
        shown = f"{rows} {attack} seed {seed}: {'found' if line['found'] else 'silent'}"
        print(f"{shown}, TPR {line['tpr']}, FPR {line['fpr']}, {line['seconds']:.0f} s, {line['peak_rss_mb']:.0f} MB", flush=True)
        if args.out is not None:
            with args.out.open("a") as out:
                out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
