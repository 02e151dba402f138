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
from tocsin.runtime import Runtime

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


def poison(dataset: Dataset, attack: Attack, seed: int = 0, runtime: Runtime | None = None) -> Poisoned:
    """A poisoned copy of ``dataset``, which stays as it is; the same seed plants the same rows.

    An attack with a part that is trained on the data trains it first, on ``runtime``'s device, from ``seed``, or takes it from
    ``runtime``'s cache; the result's ``attack`` has it. The recipe holds the attack's name and fields, the seed and tocsin's
    version. Raises `InputError` on impossible settings.
    """
    ready = attack.prepared(dataset, replace(runtime or Runtime(), seed=seed))
    result = ready.poison(dataset, np.random.default_rng(seed))
    return replace(result, recipe={**result.recipe, "seed": seed, "tocsin": __version__})


def attack_of(recipe: Mapping[str, Any], learned: Mapping[str, np.ndarray] | None = None) -> Attack:
    """The attack that a recipe (of `Poisoned`, or read from its manifest's JSON) describes, with its ``learned`` part, if any.

    Raises `InputError`. Of a copy on disk `tocsin.data.manifest_of` and `tocsin.data.learned_of` read the two.
    """
    if not isinstance(recipe.get("attack"), str):
        raise InputError("recipe: has no attack name under 'attack'; is this the manifest that tocsin poison wrote?")
    return build(recipe["attack"], **{k: v for k, v in recipe.items() if k not in _NOT_FIELDS}).restored(learned or {})
