"""Poisoned copies by name and settings: what `tocsin poison` and the benchmarks call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tocsin import __version__
from tocsin.attacks import ATTACKS, Attack, Poisoned
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.params import closest, parse_fields

_NOT_FIELDS = ("attack", "seed", "tocsin")


def build(name: str, **params: Any) -> Attack:
    """The attack called ``name`` with ``params`` as its fields; strings are converted by the field's type.

    Raises `InputError` for an unknown attack (lists them, names the closest), unknown settings and values of a wrong type.
    """
    key = name.strip().lower().replace("_", "-")
    if key not in ATTACKS:
        raise InputError(f"attack: unknown attack {name!r}{closest(key, ATTACKS)} (allowed: {', '.join(ATTACKS)})")
    cls = ATTACKS[key]
    try:
        return cls(**parse_fields(cls, params))
    except InputError as why:
        raise InputError(f"attack {key}: {why}") from None


def poison(dataset: Dataset, attack: Attack, seed: int = 0) -> Poisoned:
    """A poisoned copy of ``dataset``, which stays as it is; the same seed plants the same rows.

    The recipe holds the attack's name and fields, the seed and tocsin's version. Raises `InputError` on impossible settings.
    """
    result = attack.poison(dataset, np.random.default_rng(seed))
    return replace(result, recipe={**result.recipe, "seed": seed, "tocsin": __version__})


def attack_of(recipe: Mapping[str, Any]) -> Attack:
    """The attack that a recipe (of `Poisoned`, or read from its manifest's JSON) describes. Raises `InputError`."""
    if not isinstance(recipe.get("attack"), str):
        raise InputError("recipe: has no attack name under 'attack'; is this the manifest that tocsin poison wrote?")
    return build(recipe["attack"], **{k: v for k, v in recipe.items() if k not in _NOT_FIELDS})
