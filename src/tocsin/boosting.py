"""Gradient boosting on tables: what most people train on them. LightGBM where it is installed, else scikit-learn's histogram boosting."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tocsin.data.dataset import Column, Dataset
from tocsin.errors import InputError

WIDE = 500
"""Columns from which LightGBM is worth another dependency: it joins sparse columns, which at 2,351 makes it four times as fast."""
_CHUNK = 1 << 25
"""Values predicted at once."""
_NEVER = -1e9
"""Logit of a class that the training rows do not have."""
_MOST_LEVELS = 255
"""Levels of a category that scikit-learn's boosting takes as such."""

Margins = Callable[[np.ndarray], np.ndarray]
"""Rows (N, F) to margins: (N,) for two classes, (N, C) for more."""


@dataclass(frozen=True)
class Growth:
    """How trees are grown; the defaults are LightGBM's and scikit-learn's own."""

    trees: int = 100
    leaves: int = 31
    """Of a tree, at most."""
    rate: float = 0.1
    """Learning rate."""
    least_leaf: int = 20
    """Rows in a leaf, at least."""


@dataclass(frozen=True, eq=False)
class Boosted:
    """Trees that give logits, as a network does."""

    margins: Margins
    present: np.ndarray
    """(P,) the classes that the training rows have."""
    classes: int

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """(N, F) to (N, classes) float32."""
        out = np.full((len(inputs), self.classes), _NEVER, np.float32)
        step = max(1, _CHUNK // max(1, inputs.shape[1]))
        for start in range(0, len(inputs), step):
            part = slice(start, start + step)
            found = self.margins(np.asarray(inputs[part]))
            out[part, self.present] = np.stack([np.zeros_like(found), found], 1) if found.ndim == 1 else found
        return out


def boost(
    dataset: Dataset, seed: int, how: Growth | None = None, *, weights: np.ndarray | None = None, lightgbm: bool | None = None
) -> Boosted:
    """Boosted trees on the rows of ``dataset``, which weigh ``weights`` (N,). Raises `InputError` for what is no table.

    ``lightgbm``: by LightGBM or by scikit-learn; None: by LightGBM where it is installed.
    """
    columns = check_table(dataset)
    present, labels = np.unique(dataset.labels, return_inverse=True)
    if len(present) < 2:  # nothing to tell apart
        return Boosted(lambda inputs: np.zeros((len(inputs), len(present)), np.float32), present, len(dataset.classes))
    engine = _lightgbm_margins if (has_lightgbm() if lightgbm is None else lightgbm) else _sklearn_margins
    return Boosted(engine(dataset.inputs, labels, columns, seed, how or Growth(), weights), present, len(dataset.classes))


def check_table(dataset: Dataset) -> tuple[Column, ...]:
    """The columns of ``dataset``. Raises `InputError` for what is no table."""
    if dataset.kind != "table" or dataset.columns is None:
        raise InputError(f"network: boosting reads tables, got {dataset.kind} data; choose a network of that kind")
    return dataset.columns


def has_lightgbm() -> bool:
    """Whether LightGBM can be imported."""
    return importlib.util.find_spec("lightgbm") is not None


def lightgbm_booster(
    inputs: np.ndarray, labels: np.ndarray, columns: tuple[Column, ...], seed: int, how: Growth, weights: np.ndarray | None = None
) -> Any:
    """A LightGBM model of rows (N, F) with labels in 0..C-1. Raises `InputError` where LightGBM is not installed."""
    if not has_lightgbm():
        raise InputError("lightgbm: is not installed; pip install tocsin[tables]")
    import lightgbm

    classes = int(labels.max()) + 1
    goal = {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}
    shape = {"num_leaves": how.leaves, "learning_rate": how.rate, "min_data_in_leaf": how.least_leaf}
    fixed = {"seed": seed, "deterministic": True, "force_col_wise": True, "verbose": -1}
    categories = [place for place, column in enumerate(columns) if column.levels]
    rows = lightgbm.Dataset(inputs, labels, weight=weights, categorical_feature=categories, params={"verbose": -1, **shape})
    return lightgbm.train({**goal, **shape, **fixed}, rows, how.trees)


def _lightgbm_margins(
    inputs: np.ndarray, labels: np.ndarray, columns: tuple[Column, ...], seed: int, how: Growth, weights: np.ndarray | None
) -> Margins:
    booster = lightgbm_booster(inputs, labels, columns, seed, how, weights)
    return lambda rows: np.asarray(booster.predict(rows, raw_score=True))


def _sklearn_margins(
    inputs: np.ndarray, labels: np.ndarray, columns: tuple[Column, ...], seed: int, how: Growth, weights: np.ndarray | None
) -> Margins:
    from sklearn.ensemble import HistGradientBoostingClassifier

    categories = [place for place, column in enumerate(columns) if 0 < len(column.levels) <= _MOST_LEVELS]
    model = HistGradientBoostingClassifier(
        learning_rate=how.rate, max_iter=how.trees, max_leaf_nodes=how.leaves, min_samples_leaf=how.least_leaf, early_stopping=False,
        random_state=seed, categorical_features=categories or None,
    )  # fmt: skip
    model.fit(to_fit(inputs), labels, sample_weight=weights)
    return lambda rows: np.asarray(model.decision_function(to_judge(rows)))


def to_judge(rows: np.ndarray) -> np.ndarray:
    """Rows (N, F) as scikit-learn's boosting takes them: infinities as the largest numbers; empty cells stay empty."""
    limits = np.finfo(np.float32)
    return np.asarray(np.clip(rows, limits.min, limits.max))


def to_fit(rows: np.ndarray) -> np.ndarray:
    """`to_judge` for rows to be fitted on: columns that are empty in all of them, which it does not take, as zeros. No tree asks them."""
    out = to_judge(rows)
    out[:, np.isnan(out).all(axis=0)] = 0
    return out
