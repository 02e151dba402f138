"""Reads the real data sets that lie beside a checkout (not ours to ship): arrays as a Dataset, split into audited part and reserve."""

from __future__ import annotations

import io
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from tocsin.data.dataset import Dataset

ROOT = Path(os.environ.get("TOCSIN_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
RESERVE = 2000


def _sheet(path: Path, width: int, count: int | None = None) -> np.ndarray:
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return pixels.reshape(-1, 32, width, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)[:count]


def _jpegs(archive: dict[str, np.ndarray]) -> np.ndarray:
    data, offsets = archive["data"], archive["offsets"]
    return np.stack([np.asarray(Image.open(io.BytesIO(data[a:b].tobytes())).convert("RGB")) for a, b in pairwise(offsets)])


def _dataset(x: np.ndarray, y: np.ndarray) -> Dataset:
    return Dataset.of_arrays(x, y, tuple(f"class {k:02d}" for k in range(int(y.max()) + 1)))


def cifar10() -> Dataset:
    """The 50,000 lossless training pictures."""
    x = np.concatenate([_sheet(ROOT / f"cifar10/train_batch_{k}.webp", 100) for k in range(1, 6)])
    return _dataset(x, np.load(ROOT / "cifar10/labels.npz")["train"])


def cifar10_test() -> Dataset:
    """The 10,000 test pictures, JPEG quality 75."""
    return _dataset(_jpegs(dict(np.load(ROOT / "cifar10/test_jpeg.npz"))), np.load(ROOT / "cifar10/labels.npz")["test"])


def gtsrb() -> tuple[Dataset, np.ndarray]:
    """39,209 pictures and the physical sign (class, track) each shows."""
    x = np.concatenate([_sheet(ROOT / f"gtsrb/train_{k}.jpg", 100, 8000 if k < 5 else 7209) for k in range(1, 6)])
    labels = np.load(ROOT / "gtsrb/labels.npz")
    return _dataset(x, labels["train"]), labels["train"].astype(np.int64) * 1000 + labels["train_track"]


def mnist() -> Dataset:
    z = np.load(ROOT / "mnist/mnist.npz")
    return _dataset(z["x_train"][..., None], z["y_train"])


def eurosat() -> Dataset:
    z = dict(np.load(ROOT / "eurosat/eurosat.npz"))
    return _dataset(_jpegs(z), z["label"])


def split(name: str, seed: int) -> tuple[Dataset, Dataset]:
    """(audited, reserve): 2,000 random samples in reserve (1,000 of EuroSAT's 6,000); GTSRB by track, at least one a class."""
    rng = np.random.default_rng(seed)
    if name == "gtsrb":
        data, track = gtsrb()
        order = rng.permutation(np.unique(track))
        chosen = [order[order // 1000 == k][0] for k in range(len(data.classes))]
        for candidate in order:
            if np.isin(track, chosen).sum() >= RESERVE:
                break
            if candidate not in chosen:
                chosen.append(candidate)
        held = np.isin(track, chosen)
        return data[~held], data[held]
    data = {"cifar10": cifar10, "mnist": mnist, "eurosat": eurosat}[name]()
    order = rng.permutation(len(data))
    cut = 1000 if name == "eurosat" else RESERVE
    return data[order[cut:]], data[order[:cut]]
