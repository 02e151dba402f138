"""Reads the real malware tables that lie beside a checkout: rows without repeats, split into audited part, reserve and test."""

from __future__ import annotations

import numpy as np

from real import ROOT
from tocsin.data.dataset import Column, Dataset

SIZES = {"pe_headers": (11_417, 1_500), "clamp": (3_707, 600)}
"""Audited rows and reserve rows; the rest is the test."""


def malware(name: str, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """(audited, reserve, test) of ``pe_headers`` or ``clamp``, a random split of the distinct rows by ``seed``."""
    z = np.load(ROOT / f"malware/{name}.npz")
    x, first = np.unique(z["X"].astype(np.float64), axis=0, return_index=True)
    columns = tuple(Column(str(feature)) for feature in z["features"])
    data = Dataset.of_arrays(x, z["y"][first], ("benign", "malware"), kind="table", columns=columns)
    order = np.random.default_rng([seed, 0x7AB]).permutation(len(data))
    audited, reserve = SIZES[name]
    parts = np.split(order, [audited, audited + reserve])
    return data[parts[0]], data[parts[1]], data[parts[2]]
