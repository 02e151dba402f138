"""How well and how fast the networks on speech are trained: one json line for each network, data set and seed. Needs soundfile.

    python benchmarks/speech_networks.py --out benchmarks/results/speech_networks.jsonl
    python benchmarks/speech_networks.py --data fsdd --networks tc-resnet8 --out benchmarks/results/speech_networks.jsonl

``fsdd``: spoken digits, the official split. ``commands``: ten command words, a fifth of the speakers held out (real.py). Each network is
trained as is usual for it (`tocsin.learning.USUAL`) unless ``--epochs`` says otherwise. A stopped run keeps its lines and a second call
does the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import real
from tocsin.bench.provenance import provenance
from tocsin.data.dataset import Dataset
from tocsin.learning import usual_settings
from tocsin.networks import build_network
from tocsin.runtime import Runtime
from tocsin.victim import train_victim

NETWORKS = ("tc-resnet8", "res15", "att-rnn", "kwt-1", "eat-s")
DATA = {"fsdd": real.fsdd, "commands": real.commands}


@cache
def sets(name: str) -> tuple[Dataset, Dataset]:
    return DATA[name]()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    key = lambda line: json.dumps([line["data"], line["network"], line["seed"], line["training"]], sort_keys=True)  # noqa: E731
    done = {key(json.loads(line)) for line in args.out.read_text().splitlines()} if args.out.exists() else set()
    for data in args.data:
        for network in args.networks:
            usual = usual_settings(network)
            training = usual if args.epochs is None else replace(usual, epochs=args.epochs)
            for seed in args.seeds:
                cell = {"data": data, "network": network, "seed": seed, "training": asdict(training)}
                if key(cell) in done:
                    continue
                (train, test), runtime = sets(data), Runtime(args.device, seed)
                result = train_victim(train, test, network=network, settings=training, runtime=runtime)
                parameters = sum(p.numel() for p in build_network(network, 1, len(train.classes), seed).parameters())
                line = {
                    **cell, "train": len(train), "test": len(test), "rate_hz": train.rate, "parameters": parameters, "acc": result.acc,
                    "seconds": result.seconds, **provenance(str(runtime.torch_device()), " ".join(sys.argv)),
                }  # fmt: skip
                with args.out.open("a") as out:
                    out.write(json.dumps(line) + "\n")
                print(f"{data:10} {network:12} seed {seed}  ACC {result.acc:.4f}  {result.seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
