from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tocsin.data.npz import read_arrays
from tocsin.errors import InputError
from tocsin.kinds import ImageKind
from tocsin.networks import build_network
from tocsin.networks.encoder import Encoder, read_encoder

Arrays = dict[str, np.ndarray]


def saved(folder: Path, network: str = "small-narrow") -> Path:
    body = build_network(network, 3, 4, seed=1)
    with torch.no_grad():
        body(torch.randn((8, 3, 16, 16), generator=torch.Generator().manual_seed(0)))  # batch norm has seen something
    Encoder(network, body, ImageKind((1.5, 2.5, 3.5), (10.0, 20.0, 30.0))).save(folder / "encoder.npz")
    return folder / "encoder.npz"


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    file = saved(tmp_path)
    found = read_encoder(file)
    assert found.network == "small-narrow"
    assert found.kind == ImageKind((1.5, 2.5, 3.5), (10.0, 20.0, 30.0))
    assert not found.body.training
    second = tmp_path / "second.npz"
    found.save(second)
    assert second.read_bytes() == file.read_bytes()


def test_another_head_on_the_same_body(tmp_path: Path) -> None:
    found = read_encoder(saved(tmp_path))
    x = torch.randn((5, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network, again, other = (found.with_head(7, seed).eval() for seed in (0, 0, 1))
        torch.testing.assert_close(network.features(x), found.body.features(x))
        assert network(x).shape == (5, 7)
    assert (network.head.weight == again.head.weight).all()
    assert (network.head.weight != other.head.weight).any()
    network.head.weight.data.zero_()
    assert found.body.head.weight.any()


class Trap:
    """Pickled, it writes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.write_text, (self.mark, "loaded")


def hostile(folder: Path, mark: Path) -> dict[str, Callable[[Path], object]]:
    whole = read_arrays(saved(folder))
    with_trap = {**whole, "mean": np.array([Trap(mark)], object)}

    def but(**changes: np.ndarray | None) -> Callable[[Path], object]:
        arrays = {k: v for k, v in {**whole, **changes}.items() if v is not None}
        return lambda path: np.savez(path.open("wb"), **arrays)  # type: ignore[arg-type]

    stem = next(name for name in whole if name.endswith("conv.weight"))
    return {
        "a pickle": lambda path: path.write_bytes(pickle.dumps(Trap(mark))),
        "torch.save": lambda path: torch.save({"state_dict": Trap(mark)}, path),
        "pickled arrays": lambda path: np.savez(path.open("wb"), allow_pickle=True, **with_trap),  # type: ignore[arg-type]
        "nothing": lambda path: path.write_bytes(b""),
        "half of it": lambda path: path.write_bytes(saved(folder).read_bytes()[:3000]),
        "compressed": lambda path: np.savez_compressed(path.open("wb"), **whole),  # type: ignore[arg-type]
        "no statistics": but(mean=None),
        "statistics of four channels": but(mean=np.ones(4), std=np.ones(4)),
        "a deviation of 0": but(std=np.zeros(3)),
        "no name": but(network=None),
        "an unknown network": but(network=np.array("smal")),
        "many names": but(network=np.array(["small", "small"])),
        "another network": but(network=np.array("resnet18-narrow")),
        "no head": but(**{"weights/head.bias": None}),
        "a head of two sides": but(**{"weights/head.bias": np.zeros((2, 2), np.float32)}),
        "a head that is too long": but(**{"weights/head.bias": np.zeros(200_000, np.float32)}),
        "other channels": but(mean=np.ones(1), std=np.ones(1)),
        "wrong shapes": but(**{stem: whole[stem][:, :, :1]}),
        "wrong types": but(**{stem: whole[stem].astype(np.float64)}),
        "not finite": but(**{stem: np.full_like(whole[stem], np.nan)}),
        "one array more": but(**{"weights/more": np.zeros(3, np.float32)}),
    }


def test_whatever_is_no_such_file_is_refused_and_never_loaded(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for what, write in hostile(tmp_path, mark).items():
        file = tmp_path / f"{what}.npz"
        write(file)
        with pytest.raises(InputError, match=rf"^encoder: .*{what}\.npz is none, as `tocsin train --save` writes them: .+"):
            read_encoder(file)
    assert not mark.exists()


def test_a_slip_of_the_pen_in_the_name_is_told(tmp_path: Path) -> None:
    hostile(tmp_path, tmp_path)["an unknown network"](tmp_path / "bad.npz")
    with pytest.raises(InputError, match="did you mean 'small'"):
        read_encoder(tmp_path / "bad.npz")
