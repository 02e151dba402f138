"""A trained network in a file: its weights and how it reads pictures, as plain arrays, so that it can be tuned to other data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tocsin.data.npz import read_arrays, write_arrays
from tocsin.errors import InputError
from tocsin.kinds.image import ImageKind
from tocsin.networks import NETWORKS, build_network
from tocsin.networks.base import Classifier
from tocsin.networks.weights import from_arrays, to_arrays
from tocsin.params import closest

_WEIGHTS = "weights"
_MOST_CLASSES = 100_000


@dataclass(frozen=True, eq=False)
class Encoder:
    """A network trained on pictures, with the head it was trained with. `with_head` puts another one on."""

    network: str
    """A name of `NETWORKS`."""
    body: Classifier
    kind: ImageKind
    """How it reads pictures: the statistics of the data that it was trained on."""

    def save(self, path: Path) -> None:
        """An uncompressed ``.npz`` at ``path``. Raises `OSError` when the disk refuses."""
        about = {"network": np.array(self.network), "mean": np.array(self.kind.mean), "std": np.array(self.kind.std)}
        write_arrays(path, {**about, **to_arrays(self.body, _WEIGHTS)})

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises `InputError` unless it can read pictures of ``shape`` (N, H, W, C)."""
        if shape[3] != self.kind.channels:
            raise InputError(f"encoder: reads pictures of {self.kind.channels} channels, those of the data have {shape[3]}")

    def with_head(self, classes: int, seed: int) -> Classifier:
        """A copy of the network with a fresh head for so many classes, whose first weights depend on ``seed`` alone."""
        network = build_network(self.network, self.kind.channels, classes, seed)
        kept = {name: value for name, value in self.body.state_dict().items() if not name.startswith("head.")}
        network.load_state_dict({**network.state_dict(), **kept})
        return network


def read_encoder(path: Path) -> Encoder:
    """What `Encoder.save` wrote. Nothing is unpickled; raises `InputError` for whatever is no such file."""
    try:
        arrays = read_arrays(path)
        name, mean, std = _about(arrays)
        head = arrays.get(f"{_WEIGHTS}/head.bias", np.empty(0))
        if head.ndim != 1 or not 0 < len(head) <= _MOST_CLASSES:
            raise InputError("it has no head")
        body = build_network(name, len(mean), len(head), seed=0)
        from_arrays(body, {key: value for key, value in arrays.items() if key.startswith(f"{_WEIGHTS}/")}, _WEIGHTS)
    except InputError as why:
        raise InputError(f"encoder: {path} is none, as `tocsin train --save` writes them: {why}") from None
    return Encoder(name, body.eval(), ImageKind(mean, std))


def _about(arrays: dict[str, np.ndarray]) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    """(name of the network, means, deviations). Raises `InputError`."""
    missing = [key for key in ("network", "mean", "std") if key not in arrays]
    if missing:
        raise InputError(f"it has no array called {missing[0]!r}")
    name, mean, std = (arrays[key] for key in ("network", "mean", "std"))
    if name.shape != () or name.dtype.kind != "U" or str(name) not in NETWORKS:
        got = str(name) if name.shape == () else f"an array of shape {name.shape}"
        raise InputError(f"network: got {got[:50]!r}{closest(got[:50], NETWORKS)}; allowed: {', '.join(NETWORKS)}")
    fit = mean.shape == std.shape and mean.shape in ((1,), (3,)) and mean.dtype == std.dtype == np.float64
    if not fit or not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise InputError("mean and std: one finite number a channel is needed, of one channel or three, and std above 0")
    return str(name), tuple(mean.tolist()), tuple(std.tolist())
