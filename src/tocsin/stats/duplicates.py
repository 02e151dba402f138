"""Near duplicates: frames of one film, crops of one photograph. A network that has seen one has as good as seen the others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ALIKE = 0.95
"""Correlation of two thumbnails above which pictures are called near duplicates."""
LARGEST_GROUP = 64
"""Groups stop growing here, so that a class of smooth pictures does not chain into one."""
_THUMBNAIL = 8
_CHUNK = 1024
_NEIGHBOURS = 4


def near_duplicates(
    inputs: np.ndarray, labels: np.ndarray, device: torch.device, maps: Callable[[Tensor], Tensor] = Tensor.float
) -> np.ndarray:
    """(N,) int64 group numbers: equal for near duplicates of one class, else different.

    ``inputs`` raw samples (N, ...), which ``maps`` makes float maps (B, H, W, C). Thumbnails of 8 x 8 with mean 0 and norm 1 are
    compared within each class; each sample is joined with its four nearest where they correlate by more than `ALIKE`, the closest
    pairs first.
    """
    thumbnails = _thumbnails(inputs, device, maps)
    parent = np.arange(len(inputs))
    size = np.ones(len(inputs), np.int64)
    for k in np.unique(labels):
        rows = np.flatnonzero(labels == k)
        for i, j in _close_pairs(thumbnails[torch.from_numpy(rows).to(device)], rows):
            a, b = _root(parent, i), _root(parent, j)
            if a != b and size[a] + size[b] <= LARGEST_GROUP:
                parent[b] = a
                size[a] += size[b]
    return np.array([_root(parent, i) for i in range(len(parent))])


def _thumbnails(inputs: np.ndarray, device: torch.device, maps: Callable[[Tensor], Tensor]) -> Tensor:
    parts = []
    for start in range(0, len(inputs), _CHUNK):
        x = maps(torch.from_numpy(np.array(inputs[start : start + _CHUNK])).to(device)).permute(0, 3, 1, 2)
        x = F.adaptive_avg_pool2d(x, _THUMBNAIL).flatten(1)
        parts.append(F.normalize(x - x.mean(1, keepdim=True), dim=1))
    return torch.cat(parts)


def _close_pairs(x: torch.Tensor, rows: np.ndarray) -> np.ndarray:
    """(E, 2) row numbers of close pairs, closest first."""
    found = []
    for start in range(0, len(x), _CHUNK):
        alike = x[start : start + _CHUNK] @ x.T
        alike[torch.arange(len(alike)), torch.arange(start, start + len(alike))] = -1
        value, index = alike.topk(min(_NEIGHBOURS, len(x)), dim=1)
        here, which = (value > ALIKE).nonzero(as_tuple=True)
        found.append(torch.stack([value[here, which].double(), here.double() + start, index[here, which].double()], 1).cpu().numpy())
    pairs = np.concatenate(found) if found else np.empty((0, 3))
    pairs = pairs[np.argsort(-pairs[:, 0], kind="stable"), 1:].astype(np.int64)
    return np.asarray(rows[pairs])


def _root(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i
