"""Is the steganographic trigger of DRL-CLBA one that a victim can learn, a decoder can read and a listener hardly hears? Needs soundfile.

    python benchmarks/stego_gate.py --seeds 0 1 2 --out benchmarks/results/stego_gate.jsonl
    python benchmarks/stego_gate.py --seeds 100 --rows stego:clean_label=true --out ...

The gate before any clean-label work (specification drl-clba-speech, checklist): ``dirty_stego`` at 5 % of FSDD's official split, ASR of at
least 60 %; at least 90 % of the bits read; PESQ (narrow band) of the trigger at least 4.2; at most 5 % of control ASR. Beside them: the
ASR at higher amplification with its control, and with 32 wrong keys. All on test clips; the victim is the usual network. PESQ and STOI need
the extra ``audibility``; the bits of an attack whose code is random per clip are measured with the attack's own codes too.

One json line a row and seed; a stopped run keeps its lines and a second call does the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import real
from tocsin.attacks.codes import codes_of
from tocsin.attacks.stego import Stego
from tocsin.attacks.stego_training import embed_clips, measure_pair
from tocsin.bench.provenance import provenance
from tocsin.data.dataset import Dataset
from tocsin.kinds import Kind, kind_of
from tocsin.learning import fit, predict, usual_settings
from tocsin.networks import Classifier, build_network
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime
from tocsin.stats.audibility import audibility
from tocsin.victim import Trial, measure

ROWS = ("stego:rate=0.05",)
LEAST = {"asr": 0.6, "key_bits": 0.9, "bit_accuracy_int16": 0.9, "pesq": 4.2}
MOST = {"control_asr": 0.05}
AMPLIFICATIONS = (1.0, 1.4, 1.8)
WRONG_KEYS = 32

Victim = tuple[Classifier, Kind]


def trained(data: Dataset, network: str, seed: int) -> Victim:
    """The usual network, trained as is usual for it."""
    kind = kind_of(data)
    model = build_network(network, kind.channels, len(data.classes), seed)
    return fit(model, data.inputs, data.labels, kind, usual_settings(network), Runtime("cpu", seed)), kind


def sent(victim: Victim, clips: np.ndarray, target: int) -> float:
    """Share of ``clips`` that the victim takes for the target."""
    return float((predict(victim[0], clips, victim[1], Runtime("cpu")).argmax(1) == target).mean())


def wrong_keys(attack: Stego, victim: Victim, clips: np.ndarray, seed: int) -> dict[str, float]:
    """Mean and most of the shares that triggers of random keys send to the target; and the share of bits that agree with the attack's."""
    rng, key, embedder = np.random.default_rng([seed, 0xBAD]), attack.part("key"), attack.pair()[0]
    shares, agree = [], []
    for _ in range(WRONG_KEYS):
        wrong = rng.integers(0, 2, len(key)).astype(np.uint8)
        triggered = embed_clips(embedder, clips, wrong, attack.code_mode, Runtime("cpu"))
        shares.append(sent(victim, triggered, attack.target))
        agree.append(float((attack.decoded(triggered) == codes_of(clips, key, attack.code_mode)).mean()))
    return {"mean": float(np.mean(shares)), "most": float(np.max(shares)), "bits_of_the_key": float(np.mean(agree))}


def cell(train: Dataset, test: Dataset, row: str, clean: Victim, network: str, seed: int) -> dict[str, Any]:
    """One attack at one seed: learned, planted, a victim from scratch, and everything measured on the test clips."""
    name, *words = row.split(":")
    began = time.perf_counter()
    poisoned = poison(train, build(name, **dict(w.split("=", 1) for w in words)), seed, Runtime("cpu"))
    made, attack = time.perf_counter(), poisoned.attack
    assert isinstance(attack, Stego)
    victim, runtime = trained(poisoned.dataset, network, seed), Runtime("cpu", seed)
    trial = Trial.of(attack, test)
    attacked, control = (measure(model[0], test, model[1], runtime, trial) for model in (victim, clean))
    hosts = test.inputs[trial.rows]
    amplified = {}
    for factor in AMPLIFICATIONS:
        clips = attack.embedded(hosts, factor)
        amplified[str(factor)] = {"asr": sent(victim, clips, attack.target), "control_asr": sent(clean, clips, attack.target)}
    heard = audibility(hosts, trial.inputs, attack.hz).as_dict()
    return {
        "recipe": poisoned.recipe, "planted": len(poisoned.planted), "learned": attack.figures(), **asdict(attacked),
        "control_asr": control.asr, "clean_acc": control.acc, "amplified": amplified,
        "key_bits": float((attack.decoded(trial.inputs) == codes_of(hosts, attack.part("key"), attack.code_mode)).mean()),
        "random_codes": measure_pair(*attack.pair(), test.inputs, runtime), "audibility": heard, "pesq": heard["pesq"]["median"],
        "wrong_keys": wrong_keys(attack, victim, hosts[: len(hosts) // 3], seed),
        "seconds": {"learning_and_poisoning": made - began},
    }  # fmt: skip


def passed(result: dict[str, Any]) -> dict[str, bool]:
    """Which parts of the gate hold."""
    values = {**result, "bit_accuracy_int16": result["random_codes"]["bit_accuracy_int16"]}
    return {name: values[name] >= least for name, least in LEAST.items()} | {name: values[name] <= most for name, most in MOST.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", default=ROWS)
    parser.add_argument("--network", default="tc-resnet8")
    args = parser.parse_args()
    train, test = real.fsdd()
    clean = cache(lambda seed: trained(train, args.network, seed))
    key = lambda line: (line["row"], line["seed"], line["network"])  # noqa: E731
    done = {key(json.loads(line)) for line in args.out.read_text().splitlines()} if args.out.exists() else set()
    for seed in args.seeds:
        for row in args.rows:
            about = {"row": row, "seed": seed, "network": args.network, "data": "fsdd", "samples": len(train)}
            if key(about) in done:
                continue
            # The control of a seed is another network than the attack's own judge, and is trained from another seed than the victim.
            found = cell(train, test, row, clean(seed + 50), args.network, seed)
            line = {**about, **found, "gate": passed(found), **provenance("cpu", " ".join(sys.argv))}
            with args.out.open("a") as out:
                out.write(json.dumps(line) + "\n")
            print(
                f"{row:28} seed {seed}  ACC {line['acc']:.3f}  ASR {line['asr']:.3f}  control {line['control_asr']:.3f}  "
                f"key bits {line['key_bits']:.3f}  random bits {line['random_codes']['bit_accuracy_int16']:.3f}  PESQ {line['pesq']:.2f}  "
                f"SNR {line['audibility']['snr_db']['median']:.1f} dB  {'passed' if all(line['gate'].values()) else 'FAILED'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
