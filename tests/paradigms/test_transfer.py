"""The transfer setting from Python and from the command line: the encoder's file, what is tuned, who reads it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tocsin import learning
from tocsin.auditing import audit
from tocsin.cli import main
from tocsin.data.builtin import digits
from tocsin.data.dataset import Column, Dataset
from tocsin.detectors.asset import Asset
from tocsin.errors import InputError
from tocsin.kinds import ImageKind
from tocsin.networks import build_network
from tocsin.networks.encoder import Encoder, read_encoder
from tocsin.panel import defined_in
from tocsin.paradigms import Transfer
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime
from tocsin.victim import train_victim

CPU = Runtime(device="cpu")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of grey pictures that has learned nothing."""
    path = tmp_path_factory.mktemp("encoder") / "encoder.npz"
    Encoder("small-narrow", build_network("small-narrow", 1, 4, 0), ImageKind((60.0,), (80.0,))).save(path)
    return path


@pytest.fixture(scope="module")
def data() -> tuple[Dataset, Dataset, Dataset]:
    return digits(0, 600, 300, 100)


@pytest.mark.parametrize("tune", ["all", "last"])
def test_the_victim_is_the_tuned_encoder_and_reads_as_that_does(file: Path, data: tuple[Dataset, ...], tune: str) -> None:
    victim = Transfer(str(file), tune, epochs=1).victim(data[0], data[1], CPU)  # type: ignore[arg-type]
    start = read_encoder(file)
    assert victim.kind == start.kind
    assert victim.features.shape == (600, 32)
    assert victim.logits.shape == (600, 10)
    same = (victim.network.state_dict()["body.0.conv.weight"] == start.body.state_dict()["body.0.conv.weight"]).all()
    assert bool(same) == (tune == "last")
    both = np.concatenate([data[0].inputs, data[1].inputs])
    before = learning.features(start.body, both, start.kind, CPU)  # what the encoder is asked, it is asked as it came
    assert victim.untuned_features is not None
    np.testing.assert_allclose(victim.untuned_features, before, atol=1e-4)
    assert np.allclose(victim.features, before[:600], atol=1e-4) == (tune == "last")


def test_an_audit_reads_the_tuned_encoder_and_says_so(file: Path, data: tuple[Dataset, ...]) -> None:
    train, reserve, _ = data
    poisoned = poison(train, build("badnet", rate=0.08, target=3, size=4), 0).dataset
    params = {"transfer.encoder": str(file), "transfer.epochs": 1, "steps_least": 10, "runs": 1}
    report = audit(poisoned, reserve, setting="transfer", detector="asset,ss,scan,strip", params=params, runtime=CPU)
    assert report.findings.detector == "asset"
    assert report.findings.evidence["settings"]["features"] == "both"
    assert [f.detector for f in report.panel] == ["ss", "scan", "strip"]
    assert report.settings["setting"] == {"name": "transfer", "encoder": str(file), "tune": "all", "epochs": 1, "lr": 0.02}
    assert report.canaries == ()


def test_the_tuned_encoder_has_seen_the_reserve_and_the_deployed_one_has_not(
    file: Path, data: tuple[Dataset, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def tuned(encoder: Encoder, inputs: np.ndarray, *args: object, **how: object) -> object:
        seen.append(len(inputs))
        return encoder.body

    monkeypatch.setattr("tocsin.tuning.tuned", tuned)
    Transfer(str(file)).victim(data[0], data[1], CPU)
    Transfer(str(file)).tuned(data[0], CPU)
    assert seen == [900, 600]


def test_scouts_read_a_shortcut_network_beside_the_tuned_encoder(
    file: Path, data: tuple[Dataset, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []
    monkeypatch.setattr("tocsin.detectors.scout.standardised", lambda read, base: widths.append(read.shape[1]) or read)
    victim = Transfer(str(file), "last").victim(data[0], data[1], CPU)
    for features in ("victim", "shortcut", "both"):
        settings = {"features": features, "steps_least": 2, "passes": 0.1, "runs": 1, "shortcut_passes": 0.0, "scout_steps": 1}
        Asset.preset_for("image", "fast", **settings).inspect(data[0], data[1], CPU, victim=victim)
    assert widths[0] == 32
    assert widths[2] == widths[0] + widths[1]


def test_a_patch_is_found_in_what_an_encoder_is_tuned_to_and_clean_data_are_left_alone(file: Path) -> None:
    train, reserve, _ = digits(3, 1000, 400, 10)
    made = poison(train, build("badnet", rate=0.05, target=3, size=4), 0)
    truth = np.zeros(len(train), bool)
    truth[made.planted] = True
    params = {
        "transfer.tune": "last",
        "transfer.encoder": str(file),
        "steps_least": 40,
        "passes": 1.0,
        "scout_steps": 150,
        "batch": 128,
        "share": 0.03,
        "runs": 1,
    }
    found, clean = (audit(part, reserve, setting="transfer", params=params, runtime=CPU).findings for part in (made.dataset, train))
    assert [c.index for c in found.classes if c.suspect] == [3]
    assert found.flagged[truth].mean() > 0.9
    assert found.flagged[~truth].mean() < 0.02
    assert not clean.found


def test_all_that_read_pictures_are_defined() -> None:
    named = defined_in("transfer")
    assert {"ct", "asset", "ss", "ac", "scan", "spectre", "beatrix", "strip", "sentinet", "frequency", "abl"} <= set(named)
    assert not {"tabular", "audio-stego"} & set(named)


def test_what_cannot_be_is_named(file: Path, data: tuple[Dataset, ...], tmp_path: Path) -> None:
    (train, reserve, _), known = data, Transfer(str(file))
    with pytest.raises(InputError, match=r"encoder: the setting transfer starts from a trained one and none is given.*--encoder FILE"):
        audit(train, reserve, setting="transfer", runtime=CPU)
    with pytest.raises(InputError, match=r"encoder: .*none\.npz"):
        audit(train, reserve, setting=Transfer(str(tmp_path / "none.npz")), runtime=CPU)
    with pytest.raises(InputError, match="encoder: reads pictures of 1 channels, those of the data have 3"):
        audit(*(Dataset.of_arrays(np.repeat(part.inputs, 3, axis=3), part.labels) for part in (train, reserve)), setting=known, runtime=CPU)
    with pytest.raises(InputError, match="tune: got 'first', allowed is one of all, last"):
        audit(train, reserve, setting="transfer", params={"transfer.tune": "first"}, runtime=CPU)
    with pytest.raises(InputError, match="epochs 0"):
        Transfer(str(file), epochs=0)


def test_only_networks_on_pictures_are_saved(data: tuple[Dataset, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = Dataset.of_arrays(rng.normal(size=(40, 2)), np.arange(40) % 2, kind="table", columns=(Column("a"), Column("b")))
    for network, match in (("mlp", "these are table data"), ("boosting", "boosting is none")):
        with pytest.raises(InputError, match=f"save: a network is saved as an encoder of other data; .*{match}"):
            train_victim(table, table, network=network, runtime=CPU, save=tmp_path / "encoder.npz")
    assert not list(tmp_path.iterdir())


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def archive(path: Path, data: Dataset) -> Path:
    np.savez(path, x=data.inputs, y=data.labels)
    return path


def test_commands_save_tune_and_audit(data: tuple[Dataset, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, reserve, test = (archive(tmp_path / f"{name}.npz", part) for name, part in zip(("train", "reserve", "test"), data, strict=True))
    saved, base = tmp_path / "encoder.npz", ("--device", "cpu", "--json")
    assert run("train", train, "--test", test, "--network", "small-narrow", "--epochs", 1, "--save", saved, *base) == 0
    assert read_encoder(saved).network == "small-narrow"
    capsys.readouterr()
    assert run("train", train, "--test", test, "--encoder", saved, "--tune", "last", "--epochs", 1, *base) == 0
    assert json.loads(capsys.readouterr().out)["runs"]["all samples"]["network"] == "small-narrow"
    quick = [word for pair in ("steps_least=5", "runs=1", "transfer.epochs=1", "transfer.tune=last") for word in ("--set", pair)]
    place = ("--reserve", reserve, "--out", tmp_path / "report")
    assert run("audit", train, *place, "--setting", "transfer", "--encoder", saved, *quick, *base) in (0, 1)
    findings = json.loads(capsys.readouterr().out)
    assert findings["settings"]["setting"]["tune"] == "last"


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("audit", "--encoder", "x.npz", "--reserve", "{train}"), "--encoder: is tuned to the data with --setting transfer"),
        (("train", "--test", "{train}", "--tune", "last"), "--tune: says how an encoder is tuned"),
        (("train", "--test", "{train}", "--tune", "first", "--encoder", "x.npz"), "tune: got 'first', allowed is one of all, last"),
        (("train", "--test", "{train}", "--network", "small", "--encoder", "x.npz"), "leave one of them out"),
        (("train", "--test", "{train}", "--encoder", "{train}"), "is none, as `tocsin train --save` writes them"),
        (("train", "--test", "{train}", "--save", "{train}"), "exists; nothing is ever overwritten"),
        (("train", "--test", "{train}", "--save", "y.npz", "--without", "f.csv"), "save one of them at a time"),
    ],
)
def test_mistakes_on_the_command_line_are_named(
    words: tuple[str, ...], match: str, data: tuple[Dataset, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = archive(tmp_path / "train.npz", data[2])
    command, *rest = (word.format(train=train) for word in words)
    assert run(command, train, *rest) == 2
    assert match in " ".join(capsys.readouterr().err.split())
