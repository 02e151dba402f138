"""Rows of tables as tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tocsin.data.dataset import Column, Dataset, concatenate
from tocsin.errors import InputError
from tocsin.kinds import kind_of
from tocsin.learning import FitSettings, fit, predict
from tocsin.networks import build_network
from tocsin.runtime import Runtime

COLUMNS = (Column("size"), Column("constant"), Column("gappy"), Column("packer", ("none", "upx", "aspack")))


def table(n: int = 400, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    inputs = np.stack([rng.lognormal(8, 4, n), np.full(n, 7.0), rng.normal(size=n), rng.integers(0, 3, n)], 1)
    inputs[::5, 2] = np.nan
    inputs[::7, 3] = np.nan
    return Dataset.of_arrays(inputs, (inputs[:, 0] > np.exp(8)).astype(int), ("small", "large"), kind="table", columns=COLUMNS)


def test_numbers_are_standardised_logarithms_and_empty_cells_are_told() -> None:
    data = table()
    kind = kind_of(data)
    x = kind.to_tensor(torch.from_numpy(data.inputs))[:, :, 0, 0].numpy()
    assert x.shape == (400, kind.channels) == (400, 3 + 1 + 4)
    logs = np.log1p(data.inputs[:, 0])
    np.testing.assert_allclose(x[:, 0], (logs - logs.mean()) / logs.std(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(x[:, 1], 0, atol=1e-6)
    assert (x[::5, 2] == 0).all()
    np.testing.assert_array_equal(x[:, 3], np.isnan(data.inputs[:, 2]))
    assert (x[:, 4:].sum(1) == 1).all()
    np.testing.assert_array_equal(x[:, 7], np.isnan(data.inputs[:, 3]))


def test_extreme_values_stay_finite() -> None:
    data = table()
    wild = torch.tensor([[np.inf, -1e300, 1e30, 99.0], [-np.inf, 0.0, np.nan, -5.0]], dtype=torch.float64)
    x = kind_of(data).to_tensor(wild)
    assert torch.isfinite(x).all()
    assert x.abs().max() <= 8


def test_rare_levels_share_one_place() -> None:
    codes = np.repeat(np.arange(100.0), np.arange(100, 0, -1))[:, None]
    column = Column("c", tuple(map(str, range(100))))
    data = Dataset.of_arrays(codes, np.arange(len(codes)) % 2, kind="table", columns=(column,))
    x = kind_of(data).to_tensor(torch.arange(100.0)[:, None])[:, :, 0, 0]
    assert x.shape == (100, 33)
    assert (x[:32, :32] == torch.eye(32)).all()
    assert (x[32:, 32] == 1).all()


def test_the_usual_network_learns_rows() -> None:
    data = table(2000)
    kind, runtime = kind_of(data), Runtime(device="cpu", seed=0)
    network = build_network(kind.network, kind.channels, 2, 0)
    fit(network, data.inputs, data.labels, kind, FitSettings(epochs=5, lr=3e-3, optimizer="adamw"), runtime)
    test = table(500, seed=1)
    assert np.mean(predict(network, test.inputs, kind, runtime).argmax(1) == test.labels) > 0.9


def test_tables_know_their_columns() -> None:
    data = table()
    assert data[:10].columns == COLUMNS
    other = Dataset.of_arrays(data.inputs, data.labels, data.classes, kind="table", columns=(*COLUMNS[:3], Column("packer")))
    assert data.fingerprint != other.fingerprint
    with pytest.raises(InputError, match="columns"):
        concatenate(data, other)
    with pytest.raises(InputError, match="columns"):
        Dataset.of_arrays(data.inputs, data.labels, kind="table", columns=COLUMNS[:2])
    with pytest.raises(InputError, match="table"):
        kind_of(Dataset.of_arrays(data.inputs, data.labels, kind="table"))


def test_networks_of_rows_refuse_pictures() -> None:
    with pytest.raises(InputError, match="it reads rows of tables"):
        build_network("mlp", 3, 2, 0)(torch.zeros(2, 3, 8, 8))
