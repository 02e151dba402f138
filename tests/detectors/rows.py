"""Small tables for the tests: two classes of families of look-alikes, some columns that few rows vary in, and a stamp."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tocsin.data.dataset import Column, Dataset

FAMILIES, WIDTH, VERSIONS = 30, 24, 8


def table(count: int, seed: int, structure: int = 0) -> Dataset:
    """``count`` rows drawn with ``seed`` from the families of ``structure``: 16 columns of sizes and counts, then 8 of versions."""
    made = np.random.default_rng([structure, 0x7E57])
    centre = made.normal(0, 1.5, (2 * FAMILIES, WIDTH - VERSIONS))
    centre[FAMILIES:, :4] += 1.5  # what tells the classes apart
    usual = made.choice([0, 1, 2, 4, 5, 6, 10], (2 * FAMILIES, VERSIONS), p=[0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    rng = np.random.default_rng([structure, seed, 1])
    family = rng.integers(0, 2 * FAMILIES, count)
    sizes = np.floor(np.exp(4 + centre[family] + 0.4 * rng.normal(size=(count, WIDTH - VERSIONS))))
    odd = rng.random((count, VERSIONS)) < 0.02
    versions = np.where(odd, rng.integers(20, 60, (count, VERSIONS)), usual[family])
    columns = tuple(Column(f"size {k}") for k in range(WIDTH - VERSIONS)) + tuple(Column(f"version {k}") for k in range(VERSIONS))
    inputs = np.concatenate([sizes, versions], axis=1).astype(np.float32)
    return Dataset.of_arrays(inputs, family >= FAMILIES, ("benign", "malware"), kind="table", columns=columns)


def stamped(data: Dataset, count: int, seed: int, columns: int = 6, target: int = 0) -> tuple[Dataset, np.ndarray]:
    """(``data`` with a rare value in each of ``columns`` version columns of ``count`` rows of class ``target``, those rows as a mask)."""
    rng = np.random.default_rng([seed, 2])
    rows = rng.choice(np.flatnonzero(data.labels == target), count, replace=False)
    inputs = data.inputs.copy()
    for k in range(WIDTH - columns, WIDTH):
        values, counts = np.unique(inputs[:, k], return_counts=True)
        inputs[rows, k] = rng.choice(values[counts == counts.min()])
    truth = np.zeros(len(data), bool)
    truth[rows] = True
    return replace(data, inputs=inputs), truth


def split_classes(data: Dataset) -> Dataset:
    """The same rows in four classes: each of the two is cut at the median of a column of sizes."""
    high = data.inputs[:, 5] > 50
    return Dataset.of_arrays(data.inputs, 2 * data.labels + high, ("a", "b", "c", "d"), kind="table", columns=data.columns)
