"""A network's weights as plain arrays by name and back: what is stored of it, read without unpickling anything."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from tocsin.errors import InputError


def to_arrays(network: nn.Module, prefix: str) -> dict[str, np.ndarray]:
    """Every weight and buffer as ``prefix/name``, copied to the CPU."""
    return {f"{prefix}/{name}": value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}


def from_arrays(network: nn.Module, arrays: Mapping[str, np.ndarray], prefix: str) -> None:
    """Puts the arrays called ``prefix/...`` into ``network``. Raises `InputError` unless names, shapes and types are exactly its own."""
    given = {name.removeprefix(f"{prefix}/"): value for name, value in arrays.items() if name.startswith(f"{prefix}/")}
    own = network.state_dict()
    if missing := sorted(own.keys() ^ given.keys()):
        raise InputError(f"weights of the {prefix}: {missing[0]!r} is {'missing' if missing[0] in own else 'not one of its arrays'}")
    for name, value in own.items():
        array = given[name]
        if array.shape != tuple(value.shape) or array.dtype != value.numpy().dtype:
            wanted = f"{value.numpy().dtype} {tuple(value.shape)}"
            raise InputError(f"weights of the {prefix}: {name!r} is {array.dtype} {array.shape}, allowed is {wanted}")
        if not np.isfinite(array).all():
            raise InputError(f"weights of the {prefix}: {name!r} has values that are not finite")
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in given.items()})
