"""How long an audit of some 9,000 one-second clips at 16 kHz takes, with everything that the default for speech does. On an idle machine.

python benchmarks/speech_time.py --out benchmarks/results/speech_time.jsonl --seeds 0
python benchmarks/speech_time.py --out benchmarks/results/speech_time.jsonl --seeds 0 --attack tone --rate 0.02

The clips are those of Speech Commands' fourteen frequent words, exact copies once, less a reserve of 20 a word; speakers are not named.
Canaries are planted, and with ``--attack`` poison: a class that is named is heard a second time. One json line an audit: seconds, the
detector's own timings, the verdict, the share of planted clips (TPR) and of others (FPR) flagged. Needs soundfile.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

import real
from tocsin.auditing import audit
from tocsin.bench.provenance import peak_rss_mb, provenance
from tocsin.data.dataset import Dataset
from tocsin.poisoning import build, poison
from tocsin.reserve import draw
from tocsin.runtime import Runtime

WORDS, RESERVE = 14, 20


def clips() -> Dataset:
    """One second each at 16 kHz, exact copies once."""
    data, _ = real.first_words(WORDS)
    return data[np.sort(np.unique(data.inputs, axis=0, return_index=True)[1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--attack", default="none")
    parser.add_argument("--rate", type=float, default=0.02, help="share of all clips that the attack plants")
    args = parser.parse_args()
    data = clips()
    for seed in args.seeds:
        held = np.isin(np.arange(len(data)), draw(data, RESERVE * WORDS, seed))
        train, reserve = data[~held], data[held]
        runtime = Runtime("cpu", seed)
        poisoned = poison(train, build(args.attack, **({} if args.attack == "none" else {"rate": args.rate})), seed, runtime)
        truth = np.isin(np.arange(len(train)), poisoned.planted)
        began = time.perf_counter()
        report = audit(poisoned.dataset, reserve, runtime=runtime)
        line = {
            "seed": seed, "recipe": poisoned.recipe, "planted": int(truth.sum()),
            "tpr": float(report.flagged[truth].mean()) if truth.any() else None, "fpr": float(report.flagged[~truth].mean()),
            "clips": len(train), "reserve": len(reserve), "classes": WORDS, "detector": report.findings.detector,
            "seconds": time.perf_counter() - began, "timings": dict(report.findings.timings), "verdict": report.verdict,
            "flagged": int(report.flagged.sum()), "canaries": {c.trigger: [c.found, c.planted] for c in report.canaries},
            "peak_rss_mb": peak_rss_mb(), **provenance("cpu", " ".join(sys.argv)),
        }  # fmt: skip
        with args.out.open("a") as out:
            out.write(json.dumps(line) + "\n")
        print({k: line[k] for k in ("clips", "seconds", "verdict", "flagged", "tpr", "fpr", "canaries", "timings")}, flush=True)


if __name__ == "__main__":
    main()
