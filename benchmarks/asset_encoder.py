"""ASSET on an encoder that attacks work on: a full ResNet-18 by the recipe of CTRL's authors. Two steps, for a GPU that is lent:

    python benchmarks/asset_encoder.py learn ssl-backdoor:rate=0.05 --seed 0 --passes 200 --device cuda --out FOLDER
    python benchmarks/asset_encoder.py audit FOLDER --out FILE.jsonl

``learn``: SimCLR, batches of 512, temperature 0.5, SGD on a cosine schedule, pixels from 0 to 1 without further normalisation, and **one
draw of crop and colours for all samples of a batch**, on which CTRL is said to hang (specification 3.3); of the poisoned samples and the
reserve, as in the audit's own setting (`tocsin.paradigms.SelfSupervised`). It leaves the features, in pieces that fit a lent machine's
way back, and ACC and ASR of a linear probe fitted to clean labelled samples, ASR also without the trigger. ``audit``: ASSET with the
setting's defaults reads these features, of all samples and then of those that are not planted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asset_settings import said, split
from tocsin.bench.provenance import provenance
from tocsin.contrastive import nt_xent
from tocsin.data.dataset import Dataset
from tocsin.detectors.victim import Victim
from tocsin.kinds import views
from tocsin.kinds.image import COLOURS, ImageKind
from tocsin.learning import features
from tocsin.networks.resnet import ResNet18
from tocsin.panel import configured
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime
from tocsin.victim import Trial, measured, probed

PIXELS = ImageKind((0.0,) * 3, (255.0,) * 3, True)
BATCH, LR, WIDTH, PIECES = 512, 0.15, 64, 4


def one_draw(raw: Tensor, generator: torch.Generator) -> Tensor:
    """A view (B, 3, H, W) of uint8 ``raw`` (B, H, W, 3): all samples are cropped, mirrored and coloured alike, as one picture is."""
    x = raw.permute(0, 3, 1, 2).float() / 255
    x = views.crops(x.flatten(0, 1)[None], 0.2, True, generator).reshape(x.shape)
    tall = x.transpose(0, 1).flatten(1, 2)[None]
    x = views.coloured(tall, COLOURS, generator)[0].unflatten(1, (len(x), -1)).transpose(0, 1)
    return x.contiguous(memory_format=torch.channels_last)


def learned(inputs: np.ndarray, classes: int, passes: int, seed: int, device: torch.device) -> tuple[ResNet18, float]:
    """(an encoder of the samples ``inputs`` (N, H, W, 3), samples a second)."""
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = True
    network = ResNet18(3, classes, tuple(WIDTH * k for k in (1, 2, 4, 8))).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,arg-type]
    inner = network.head.in_features
    projector = nn.Sequential(nn.Linear(inner, inner), nn.ReLU(), nn.Linear(inner, 128)).to(device)
    whole, generator = nn.ModuleList([network, projector]).train(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(whole.parameters(), LR, 0.9, weight_decay=5e-4)
    held, each, began = torch.from_numpy(inputs).to(device), len(inputs) // BATCH, time.monotonic()
    for step in range(passes * each):
        if step % each == 0:
            order = torch.randperm(len(inputs), generator=generator)
            print("pass", step // each, round(time.monotonic() - began), "s", flush=True) if step // each % 20 == 0 else None
        raw, done = held[order[step % each * BATCH :][:BATCH].to(device)], step / (passes * each)
        optimizer.param_groups[0]["lr"] = LR * min(done / 0.02, (1 + np.cos(np.pi * done)) / 2)
        with torch.autocast(device.type, torch.bfloat16):
            first, second = projector(network.features(torch.cat([one_draw(raw, generator), one_draw(raw, generator)]))).chunk(2)
        loss = nt_xent(first, second, 0.5)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return network.eval(), passes * each * BATCH / (time.monotonic() - began)


def material(attack: str, seed: int, sheets: int, samples: int, reserve: int, labelled: int) -> tuple[Any, Dataset, Dataset, Dataset]:
    """(the poisoned samples, reserve, labelled samples for the probe, test)."""
    train, kept, known, test = split(samples, reserve, labelled, seed, None, sheets)
    name, *words = attack.split(":")
    return poison(train, build(name, **dict(word.split("=", 1) for word in words)), seed, Runtime("cpu", seed)), kept, known, test


def learn(args: argparse.Namespace) -> None:
    sizes = {"sheets": args.sheets, "samples": args.samples, "reserve": args.reserve, "labelled": args.labelled}
    poisoned, reserve, labelled, test = material(args.attack, args.seed, **sizes)
    runtime = Runtime(args.device, args.seed)
    both = np.concatenate([poisoned.dataset.inputs, reserve.inputs])
    network, speed = learned(both, len(test.classes), args.passes, args.seed, runtime.torch_device())
    planted = len(poisoned.planted) > 0
    found = measured(probed(network, PIXELS, labelled, runtime), test, Trial.of(poisoned.attack, test) if planted else None)
    line = {
        "attack": args.attack, "seed": args.seed, **sizes, "passes": args.passes, "planted": len(poisoned.planted),
        "victim": {"acc": found.acc, "asr": found.asr, "asr_without_trigger": found.asr_without_trigger}, "samples_per_second": speed,
        "learn": provenance(args.device, " ".join(sys.argv)),
    }  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    for number, piece in enumerate(np.array_split(features(network, both, PIXELS, runtime).astype(np.float16), PIECES)):
        np.save(args.out / f"features-{number}.npy", piece)
    (args.out / "line.json").write_text(json.dumps(line))
    print(line["victim"], round(speed), "samples a second", flush=True)


def audit(args: argparse.Namespace) -> None:
    line = json.loads((args.folder / "line.json").read_text())
    sizes = {key: line[key] for key in ("sheets", "samples", "reserve", "labelled")}
    poisoned, reserve, _, _ = material(line["attack"], line["seed"], **sizes)
    seen = np.concatenate([np.load(args.folder / f"features-{number}.npy") for number in range(PIECES)]).astype(np.float32)
    truth = np.zeros(sizes["samples"], bool)
    truth[poisoned.planted] = True
    for which, rows in {"all": np.arange(len(truth)), "not planted": np.flatnonzero(~truth)}.items():
        train, kept, runtime = poisoned.dataset[rows].unlabelled(), reserve.unlabelled(), Runtime("cpu", line["seed"])
        (detector,) = configured(["asset"], "fast", {}, "image", "self-supervised")
        victim = Victim.untrained(train, kept, runtime).holding(seen[rows], seen[len(truth) :])
        found = detector.inspect(train, kept, runtime, victim=victim)  # type: ignore[call-arg]
        told = said(found, truth[rows])
        told.pop("runs")
        written = {**line, "rows": which, **told, "seconds": found.timings["total"], **provenance("cpu", " ".join(sys.argv))}
        with args.out.open("a") as out:
            out.write(json.dumps(written) + "\n")
        print(which, {key: told[key] for key in ("found", "tpr", "fpr", "auc", "scouts_precision")}, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(required=True)
    first, second = steps.add_parser("learn"), steps.add_parser("audit")
    first.add_argument("attack")
    for name, value in {"seed": 0, "passes": 200, "sheets": 3, "samples": 25_000, "reserve": 2_000, "labelled": 3_000}.items():
        first.add_argument(f"--{name}", type=int, default=value)
    first.add_argument("--device", default="cuda")
    second.add_argument("folder", type=Path)
    for step, run in ((first, learn), (second, audit)):
        step.add_argument("--out", type=Path, required=True)
        step.set_defaults(run=run)
    args = parser.parse_args()
    run: Callable[[argparse.Namespace], Any] = args.run
    run(args)


if __name__ == "__main__":
    main()
