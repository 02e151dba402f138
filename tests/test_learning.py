from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin import learning
from tocsin.data.builtin import digits
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.kinds.image import ImageKind
from tocsin.learning import FitSettings, autocast, fast_type, features, fit, one_cycle, predict
from tocsin.networks import NETWORKS, build_network
from tocsin.runtime import Runtime

NO_PICTURES = ("tc-resnet8", "att-rnn", "kwt-1", "eat-s", "mlp", "ember-mlp")
"""Networks along time; tests/networks has them."""
CPU = Runtime(device="cpu", seed=1)


@pytest.fixture(scope="module")
def small() -> Dataset:
    return digits(0, 1500, 10, 10)[0]


def trained(data: Dataset, runtime: Runtime, epochs: int = 2) -> tuple[np.ndarray, ImageKind]:
    kind = ImageKind.of(data)
    network = build_network("small", 1, 10, runtime.seed)
    fit(network, data.inputs, data.labels, kind, FitSettings(epochs=epochs), runtime)
    return predict(network, data.inputs, kind, runtime), kind


def test_it_learns(small: Dataset) -> None:
    logits, _ = trained(small, CPU, epochs=4)
    assert logits.dtype == np.float32
    assert logits.shape == (1500, 10)
    assert (logits.argmax(axis=1) == small.labels).mean() > 0.8


def test_the_same_seed_gives_the_same_logits_and_another_does_not(small: Dataset) -> None:
    data = small[:400]
    first, _ = trained(data, CPU)
    np.testing.assert_array_equal(first, trained(data, CPU)[0])
    assert (first != trained(data, Runtime(device="cpu", seed=2))[0]).any()


def test_what_is_altered_is_what_is_learned_from(small: Dataset) -> None:
    data, kind, rows_seen = small[:300], ImageKind.of(small), []

    def darker(rows: torch.Tensor, raw: torch.Tensor) -> torch.Tensor:
        np.testing.assert_array_equal(raw.numpy(), data.inputs[rows.numpy()])
        rows_seen.append(rows)
        return raw // 2

    how, (one, other) = FitSettings(epochs=2, batch=64), (build_network("small", 1, 10, 0) for _ in range(2))
    fit(one, data.inputs, data.labels, kind, how, CPU, altered=darker)
    fit(other, data.inputs // 2, data.labels, kind, how, CPU)
    assert len(rows_seen) == 2 * (300 // 64), "once a step"
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_global_generator_is_left_alone(small: Dataset) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    trained(small[:200], CPU, epochs=1)
    assert torch.equal(before, torch.get_rng_state())


def test_read_only_and_memory_mapped_data_work_without_a_warning(small: Dataset, tmp_path, recwarn) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "x.npy", small.inputs[:300])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = Dataset.of_arrays(mapped, small.labels[:300], small.classes)
    a, _ = trained(data, CPU, epochs=1)
    b, _ = trained(small[:300], CPU, epochs=1)
    np.testing.assert_array_equal(a, b)
    assert not [w for w in recwarn if "writable" in str(w.message).lower()]


def test_progress_rises_to_one(small: Dataset) -> None:
    seen: list[tuple[str, float]] = []
    runtime = Runtime(device="cpu", progress=lambda stage, part: seen.append((stage, part)))
    trained(small[:500], runtime, epochs=2)
    for stage in ("training", "predicting"):
        parts = [part for name, part in seen if name == stage]
        assert parts == sorted(parts)
        assert parts[-1] == 1.0


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in NO_PICTURES])
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (19, 3)])
def test_networks_take_any_size_and_logits_come_from_the_features(name: str, side: int, channels: int) -> None:
    network = build_network(name, channels, 7, 0).eval()
    x = np.random.default_rng(0).integers(0, 256, (5, side, side, channels), dtype=np.uint8)
    kind = ImageKind((128.0,) * channels, (64.0,) * channels)
    logits, inner = predict(network, x, kind, CPU), features(network, x, kind, CPU)
    assert logits.shape == (5, 7)
    assert inner.shape == (5, network.head.in_features)
    with torch.inference_mode(), autocast(torch.device("cpu")):
        again = network.head(torch.from_numpy(inner)).float().numpy()
    np.testing.assert_allclose(logits, again, atol=0.02)
    assert predict(network, x[:0], kind, CPU).shape == (0, 7)
    assert features(network, x[:0], kind, CPU).shape == (0, network.head.in_features)


def test_first_weights_depend_on_the_seed_alone() -> None:
    one, same, other = (build_network("small", 1, 3, seed).head.weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_resnet18_has_the_published_size() -> None:
    assert sum(p.numel() for p in build_network("resnet18", 3, 10, 0).parameters()) == 11_173_962


def test_unknown_network_names_the_closest() -> None:
    with pytest.raises(InputError, match=r"did you mean 'resnet18'\?"):
        build_network("resnet-18", 3, 10, 0)


def test_tensor_is_normalised_and_channels_last() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal([60, 100, 180], [10, 20, 30], (400, 9, 9, 3))).clip(0, 255).astype(np.uint8)
    kind = ImageKind.of(Dataset.of_arrays(x, np.zeros(400, np.int64)))
    out = kind.to_tensor(torch.from_numpy(x))
    assert out.shape == (400, 3, 9, 9)
    assert out.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(out.mean(dim=(0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(out.std(dim=(0, 2, 3)), 1, atol=1e-3)


def test_one_colour_does_not_divide_by_zero() -> None:
    x = np.full((4, 8, 8, 1), 7, np.uint8)
    kind = ImageKind.of(Dataset.of_arrays(x, np.zeros(4, np.int64)))
    assert torch.isfinite(kind.to_tensor(torch.from_numpy(x))).all()


@settings(max_examples=20, deadline=None)
@given(height=st.integers(8, 40), width=st.integers(8, 40), seed=st.integers(0, 99), flip=st.booleans())
def test_augmentation_is_a_crop_of_the_padded_and_perhaps_mirrored_picture(height: int, width: int, seed: int, flip: bool) -> None:
    x = np.random.default_rng(seed).integers(1, 256, (3, height, width, 3), dtype=np.uint8)
    kind = ImageKind((0.0,) * 3, (1.0,) * 3, flip)
    out = kind.augment(torch.from_numpy(x), torch.Generator().manual_seed(seed)).numpy()
    pad = max(1, round(min(height, width) / 8))
    for sample, got in zip(x, out, strict=True):
        found = False
        for mirrored in (False, True)[: 1 + flip]:
            padded = np.pad(sample, ((pad, pad), (pad, pad), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (0, 1)).transpose(0, 1, 3, 4, 2)
            found |= bool((windows == (got[:, ::-1] if mirrored else got)).all(axis=(2, 3, 4)).any())
        assert found


def test_augmentation_moves_and_mirrors_samples_differently() -> None:
    x = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (1, 32, 32, 1), dtype=np.uint8)).expand(500, 32, 32, 1)
    out = ImageKind((0.0,), (1.0,), True).augment(x, torch.Generator().manual_seed(0))
    assert len(torch.unique(out.reshape(500, -1), dim=0)) > 140  # of 9 x 9 x 2 = 162 possible


def test_one_cycle_rises_then_falls_to_almost_nothing() -> None:
    rates = [one_cycle(step, 100, 0.1) for step in range(100)]
    top = int(np.argmax(rates))
    assert 15 <= top <= 25
    assert max(rates) == pytest.approx(0.1, rel=0.01)
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()
    assert 0 < rates[-1] < 0.001
    assert 0 < one_cycle(0, 1, 0.1) < 0.1


def test_without_bfloat16_hardware_it_stays_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert fast_type(torch.device("cpu")) is None
    with autocast(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize(
    ("cpu", "amx", "fast"),
    [("AMD EPYC", False, True), ("Intel(R) Xeon(R) Processor", False, False), ("Intel(R) Xeon(R) Processor", True, True)],
)
def test_bfloat16_is_taken_where_it_is_faster(cpu: str, amx: bool, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(learning, "cpu_name", lambda: cpu)
    assert fast_type(torch.device("cpu")) is (torch.bfloat16 if fast else None)


def test_older_torch_without_the_checks_stays_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert fast_type(torch.device("cpu")) is None


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"batch": 1}, {"lr": 0.0}, {"lr": float("nan")}, {"momentum": 1.0}, {"weight_decay": -1.0}])
def test_bad_settings_are_named(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        FitSettings(**bad)  # type: ignore[arg-type]


def test_training_that_runs_away_is_an_error_and_no_network(small: Dataset) -> None:
    network = build_network("small", 1, 10, 0)
    torch.nn.init.constant_(network.head.bias, float("nan"))
    with pytest.raises(InputError, match=r"the loss is nan at step .*lower lr than 0.1"):
        fit(network, small.inputs, small.labels, ImageKind.of(small), FitSettings(epochs=1), CPU)


def test_fewer_samples_than_a_batch_train_and_one_does_not(small: Dataset) -> None:
    assert trained(small[:5], CPU, epochs=1)[0].shape == (5, 10)
    with pytest.raises(InputError, match="got 1 samples"):
        trained(small[:1], CPU)
