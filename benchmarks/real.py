"""Reads the real data sets that lie beside a checkout (not ours to ship): arrays as a Dataset, split into audited part and reserve."""

from __future__ import annotations

import io
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from tocsin.data.dataset import Column, Dataset

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


def cifar10(sheets: int = 5) -> Dataset:
    """The 50,000 lossless training pictures, or the first ``sheets`` times 10,000 of them."""
    x = np.concatenate([_sheet(ROOT / f"cifar10/train_batch_{k}.webp", 100) for k in range(1, sheets + 1)])
    return _dataset(x, np.load(ROOT / "cifar10/labels.npz")["train"][: len(x)])


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


def _clips(archive: dict[str, np.ndarray], length: int) -> np.ndarray:
    """(N, length) int16: every sound in the middle of its clip, silence around it; what is longer is cut at both ends alike."""
    import soundfile

    data, offsets = archive["data"], archive["offsets"]
    out = np.zeros((len(offsets) - 1, length), np.int16)
    for row, (a, b) in enumerate(pairwise(offsets)):
        sound = soundfile.read(io.BytesIO(data[a:b].tobytes()), dtype="int16")[0]
        cut = max(0, len(sound) - length) // 2
        sound = sound[cut : cut + length]
        start = (length - len(sound)) // 2
        out[row, start : start + len(sound)] = sound
    return out


def fsdd() -> tuple[Dataset, Dataset]:
    """(train, test): 2,700 and 300 spoken digits of one second at 8 kHz, the official split. Needs soundfile."""
    z = dict(np.load(ROOT / "fsdd/fsdd.npz"))
    data = Dataset.of_arrays(_clips(z, 8000), z["digit"], tuple(str(k) for k in range(10)), kind="speech", rate=8000)
    test = z["index"] < 5
    return data[~test], data[test]


COMMANDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
"""The ten command words, which are the first ten of the archive."""


def commands(held_out: float = 0.2) -> tuple[Dataset, Dataset]:
    """(train, test): 6,874 clips of ten command words at 16 kHz; the test is ``held_out`` of the speakers, drawn once. Needs soundfile."""
    data, speaker = first_words(len(COMMANDS))
    order = np.random.default_rng(0).permutation(np.unique(speaker))
    test = np.isin(speaker, order[: round(held_out * len(order))])
    return data[~test], data[test]


def first_words(count: int) -> tuple[Dataset, np.ndarray]:
    """The clips of one second of the archive's first ``count`` words, of which fourteen are frequent; (N,) their speakers."""
    z = dict(np.load(ROOT / "speech_commands/speech_commands.npz"))
    rows = np.flatnonzero(z["word"] < count)
    z["data"], z["offsets"] = _chosen(z["data"], z["offsets"], rows)
    names = tuple(str(word) for word in z["words"][:count])
    return Dataset.of_arrays(_clips(z, 16000), z["word"][rows], names, kind="speech", rate=16000), z["speaker"][rows]


def _chosen(data: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The files ``rows`` of an archive of files laid end to end."""
    parts = [data[offsets[row] : offsets[row + 1]] for row in rows]
    return np.concatenate(parts), np.cumsum([0, *map(len, parts)])


def malware(name: str) -> Dataset:
    """``pe_headers`` or ``clamp``: a row a Windows file, equal rows but for the first dropped; the packer's name is a category."""
    z = dict(np.load(ROOT / f"malware/{name}.npz"))
    x, columns = z["X"].astype(np.float64), tuple(Column(str(feature)) for feature in z["features"])
    if "packer_type" in z:
        levels, codes = np.unique(z["packer_type"], return_inverse=True)
        x, columns = np.column_stack([x, codes]), (*columns, Column("packer_type", tuple(map(str, levels))))
    kept = np.sort(np.unique(x, axis=0, return_index=True)[1])
    return Dataset.of_arrays(x[kept], z["y"][kept], ("benign", "malware"), kind="table", columns=columns)


def main() -> None:
    """Writes a data set as an npz of x, y and classes, which a grid of `tocsin bench` can name: real.py cifar10 FILE.npz [--first 20000]"""
    import argparse

    known = {"cifar10": cifar10, "gtsrb": lambda: gtsrb()[0], "mnist": mnist, "eurosat": eurosat}
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", choices=list(known))
    parser.add_argument("out", type=Path)
    parser.add_argument("--first", type=int, help="so many of its samples; without it all")
    args = parser.parse_args()
    data = known[args.name]()[: args.first]
    np.savez(args.out, x=data.inputs, y=data.labels, classes=np.array(data.classes))


if __name__ == "__main__":
    main()
