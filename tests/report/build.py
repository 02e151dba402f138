"""Reports made by hand, small and complete, for the tests of what shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.base import ClassEvidence, Findings
from tocsin.report.model import CanaryResult, Report

CANARIES = (CanaryResult("patch", 150, 150, 0.003, 0.999), CanaryResult("blend", 150, 92, 0.003, 0.95))
HOSTILE = ("<script>document.documentElement.dataset.pwned='a'</script>", '"><img src=x onerror=document.documentElement.dataset.pwned=1>')


def report(
    *,
    samples: int = 120,
    classes: tuple[str, ...] = ("cat", "dog", "owl"),
    ids: list[str] | None = None,
    flagged: int = 10,
    shape: tuple[int, ...] = (8, 8, 3),
    canaries: tuple[CanaryResult, ...] = CANARIES,
    layout: str = "folder",
    preset: str = "fast",
    kind: str = "image",
    seed: int = 0,
    reserve: int = 60,
) -> Report:
    """Class 1 is the target: its first ``flagged`` samples carry a white corner and the highest scores."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % len(classes)
    inputs = rng.integers(0, 200, (samples, *shape), dtype=np.uint8)
    planted = np.flatnonzero(labels == 1)[:flagged]
    inputs[planted, :2, :2] = 255
    names = np.array(ids if ids is not None else [f"{classes[k]}/{i:04d}.png" for i, k in enumerate(labels)])
    source = None if layout == "arrays" else Path("train")
    root = source if layout in ("folder", "metadata", "manifest") else None
    train = Dataset(inputs, labels, classes, names, kind=kind, source=source, root=root, layout=layout)
    scores = rng.normal(0, 0.1, samples).astype(np.float32)
    scores[planted] += 2
    flags = np.zeros(samples, bool)
    flags[planted] = True
    evidence = tuple(
        ClassEvidence(
            k,
            name,
            int((labels == k).sum()),
            int(flags[labels == k].sum()),
            9.0 if k == 1 and flagged else 0.5,
            0.5,
            k == 1 and flagged > 0,
        )
        for k, name in enumerate(classes)
    )
    findings = Findings(
        "dummy",
        preset,
        scores,
        flags,
        evidence,
        0.993,
        1.0,
        rng.normal(0, 0.1, 30).astype(np.float32),
        {"rounds": [{"loss": float("nan")}]},
    )
    clean = train[np.arange(min(reserve, samples))]
    return Report(train, clean, findings, canaries, {"seed": np.int64(3), "device": "cpu"}, ("A warning.",), 12.5)
