"""Data that come with the package's dependencies: nothing is downloaded."""

from __future__ import annotations

import numpy as np

from tocsin.data.dataset import Column, Dataset

SIDE = 16
_SHARES = (0.5, 0.25)  # of the base digits: train, reserve; the rest is the test set


def digits(seed: int = 0, train: int = 6000, reserve: int = 1000, test: int = 1000) -> tuple[Dataset, Dataset, Dataset]:
    """Augmented real handwritten digits as (train, reserve, test), images uint8 (N, 16, 16, 1), ten classes.

    The base is the 1,797 real 8 x 8 digits that scikit-learn bundles (Alpaydin and Kaynak, "Optical Recognition of Handwritten
    Digits"). They are few, so each is shown several times: enlarged to 16 x 16 with a seeded random turn (up to 12 degrees),
    scale (0.9 to 1.1), shift (up to 1.5 pixels), contrast (0.75 to 1) and faint noise. The base digits are split between the three sets
    *first* (half, a quarter, a quarter of every class), so that no variant of a training digit is in the reserve or the test.
    ``ids`` name the base digit and the variant: ``digit-0042-v3``.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pictures, labels = bunch.images.astype(np.float32) * (255 / 16), bunch.target.astype(np.int64)
    rng = np.random.default_rng([seed, 0xD161])
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    rank = np.concatenate([np.arange(c) / c for c in counts])  # place of each within its class, 0..1
    part = np.searchsorted(np.cumsum(_SHARES), rank, side="right")
    sets = [_variants(pictures, labels, by_class[part == k], size, rng) for k, size in enumerate((train, reserve, test))]
    return sets[0], sets[1], sets[2]


def tumours(seed: int = 0, train: int = 269, reserve: int = 200) -> tuple[Dataset, Dataset, Dataset]:
    """Rows of the table of breast tumours as (train, reserve, test), the test set being what is left of its 569; 30 measurements each.

    Scikit-learn bundles it (Wolberg, Street and Mangasarian, "Breast Cancer Wisconsin (Diagnostic)"). Classes: malignant, benign.
    """
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    columns, names = tuple(Column(str(name)) for name in bunch.feature_names), tuple(str(name) for name in bunch.target_names)
    whole = Dataset.of_arrays(np.asarray(bunch.data, np.float64), bunch.target, names, kind="table", columns=columns)
    order = np.random.default_rng([seed, 0xBC]).permutation(len(whole))
    return whole[order[:train]], whole[order[train : train + reserve]], whole[order[train + reserve :]]


def _variants(pictures: np.ndarray, labels: np.ndarray, base: np.ndarray, size: int, rng: np.random.Generator) -> Dataset:
    """``size`` shuffled variants of the ``base`` rows, each row used equally often but for one."""
    base = rng.permutation(base)
    rows, version = base[np.arange(size) % len(base)], np.arange(size) // len(base)
    order = rng.permutation(size)
    rows, version = rows[order], version[order]
    ids = np.array([f"digit-{row:04d}-v{v}" for row, v in zip(rows.tolist(), version.tolist(), strict=True)])
    return Dataset(_jitter(pictures, rows, rng), labels[rows], tuple(str(k) for k in range(10)), ids)


def _jitter(pictures: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(B, 16, 16, 1) uint8: the chosen 8 x 8 ``pictures`` (0..255), enlarged through a random similarity map each."""
    from scipy.ndimage import map_coordinates

    b, old = len(rows), pictures.shape[1]
    turn, scale = rng.uniform(-12, 12, b) * np.pi / 180, rng.uniform(0.9, 1.1, b)
    shift = rng.uniform(-1.5, 1.5, (2, b)) * old / SIDE
    contrast = rng.uniform(0.75, 1.0, b)
    grid = (np.arange(SIDE) + 0.5) * old / SIDE - old / 2
    cos, sin = (f(turn)[:, None, None] / scale[:, None, None] for f in (np.cos, np.sin))
    y = cos * grid[:, None] - sin * grid[None, :] + shift[0][:, None, None] + old / 2 - 0.5
    x = sin * grid[:, None] + cos * grid[None, :] + shift[1][:, None, None] + old / 2 - 0.5
    which = np.broadcast_to(rows[:, None, None], y.shape)
    values = map_coordinates(pictures, np.stack([which, y, x]), order=1, mode="grid-constant", prefilter=False)
    values = values * contrast[:, None, None] + rng.normal(0, 4, values.shape)
    return np.asarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)[..., None])
