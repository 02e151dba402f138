"""Whether planted samples are of several kinds by the question that `detectors.leftover` asks of flagged ones, and by how much.

python benchmarks/several_kinds.py --out FILE.jsonl --data cifar10 --attack badnet trojan tact:rate=0.01 adap-patch --seeds 100 101

One json line a set: of the class with most planted samples, how many times as much these, and so many ``clean`` ones of the class among
them, vary along their first four directions as samples of the class do along their second ("times"), and by which share of all variance
more ("share"). Nothing is trained: what an audit flags is taken to be what was planted, without the logo of Adap-Patch, of which little is.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

import real
from tocsin.bench.provenance import provenance
from tocsin.data.dataset import Dataset
from tocsin.detectors.leftover import Leftover
from tocsin.detectors.workbench import Bench
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime

SETS = {"cifar10": lambda: real.cifar10(5), "mnist": real.mnist, "gtsrb": real.gtsrb, "eurosat": real.eurosat}
CLEAN = (0, 20, 60)
DRAWS, MOST = 10, 300


def drawn(name: str, samples: int | None, seed: int) -> Dataset:
    data = SETS[name]()
    data = data[0] if isinstance(data, tuple) else data
    return data if samples is None else data[np.sort(np.random.default_rng([seed, 1]).permutation(len(data))[:samples])]


def lines(data: Dataset, attack: str, seed: int) -> list[dict[str, object]]:
    name, *settings = attack.split(":")
    planted = poison(data, build(name, **dict(one.split("=", 1) for one in settings)), seed)
    train, runtime, is_planted = planted.dataset, Runtime("cpu", seed), np.isin(np.arange(len(data)), planted.planted)
    bench = Bench.of(train.inputs, train.labels, train, runtime.torch_device(), branch=True)
    nothing = np.zeros(len(train))
    look = Leftover(bench, nothing, np.arange(len(train)), nothing.astype(bool), runtime)
    k = int(np.bincount(train.labels[planted.planted]).argmax())
    rest, mine = (np.flatnonzero((train.labels == k) & which) for which in (~is_planted, is_planted))
    if name == "adap-patch":
        mine = np.concatenate([part for q, part in enumerate(np.array_split(np.sort(planted.planted), 4)) if q != 1])
    rng, out = np.random.default_rng([seed, 2]), []
    for clean in CLEAN:
        rows = rng.permutation(np.concatenate([mine, rng.choice(rest, clean, replace=False)]))[: min(MOST, len(rest))]
        usual = np.mean([look.widest(rng.choice(rest, len(rows), replace=False))[0][1] for _ in range(DRAWS)])
        widths = look.widest(rows)[0][:4]
        out.append(
            {
                "attack": attack, "seed": seed, "samples": len(train), "rows": len(rows), "clean": clean, "class": k,
                "times": (widths / usual).tolist(), "share": (widths - usual).tolist(),
            }
        )  # fmt: skip
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", choices=list(SETS), default="cifar10")
    parser.add_argument("--samples", type=int, default=None)
    parser.add_argument("--attack", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    torch.set_num_threads(1)
    for seed in args.seeds:
        data = drawn(args.data, args.samples, seed)
        for attack in args.attack:
            for line in lines(data, attack, seed):
                with args.out.open("a") as out:
                    out.write(json.dumps({"data": args.data, **line, **provenance("cpu", " ".join(sys.argv))}) + "\n")
                share = np.round(100 * np.asarray(line["share"]), 1)
                print(args.data, seed, attack, line["clean"], line["rows"], np.round(line["times"], 2), share, flush=True)


if __name__ == "__main__":
    main()
