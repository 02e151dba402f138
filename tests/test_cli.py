"""The command line: exit codes, sentences, what goes to stdout and stderr. The audit itself is a stand-in here."""

from __future__ import annotations

import errno
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tocsin.cli import main
from tocsin.cli.console import Lines, harmless, span
from tocsin.cli.methods import described
from tocsin.cli.options import class_index, pairs
from tocsin.cli.outcome import explain, refuse_inside
from tocsin.data.builtin import digits
from tocsin.data.dataset import Dataset
from tocsin.detectors.base import ClassEvidence, Findings
from tocsin.errors import AuditIncomplete, InputError
from tocsin.poisoning import build, poison
from tocsin.report.model import CanaryResult, Report
from tocsin.runtime import Runtime

Run = Callable[..., SimpleNamespace]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process; gives code, out and err."""

    def call(*words: object) -> SimpleNamespace:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=int(ended.value.code or 0), out=out, err=err)

    return call


@pytest.fixture
def data(tmp_path: Path) -> SimpleNamespace:
    """Two .npz files of tiny pictures: ``train`` and ``reserve``."""
    rng = np.random.default_rng(0)
    for name in ("train", "reserve"):
        np.savez(tmp_path / f"{name}.npz", x=rng.integers(0, 256, (60, 16, 16, 3), dtype=np.uint8), y=np.arange(60) % 3)
    return SimpleNamespace(train=tmp_path / "train.npz", reserve=tmp_path / "reserve.npz", out=tmp_path / "out")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The audit replaced: flags the first ``flagged`` rows, or raises ``fails``; keeps what it was called with."""
    state = SimpleNamespace(flagged=0, fails=None, calls=[])

    def audit(train: Dataset, reserve: Dataset, *, runtime: Runtime, **options: Any) -> Report:
        state.calls.append({"train": train, "reserve": reserve, "runtime": runtime, **options})
        assert runtime.checkpoints is not None
        runtime.checkpoints.mkdir(parents=True, exist_ok=True)
        (runtime.checkpoints / f"round-{len(state.calls)}").touch()
        runtime.progress("round 1", 0.5)
        if state.fails is not None:
            raise state.fails
        flags = np.arange(len(train)) < state.flagged
        classes = tuple(ClassEvidence(k, n, 20, int(flags[train.labels == k].sum()), 1.0, 0.5, False) for k, n in enumerate(train.classes))
        findings = Findings("ct", "fast", np.linspace(1, 0, len(train), dtype=np.float32), flags, classes, 0.9)
        return Report(train, reserve, findings, (CanaryResult("patch", 150, 149, 0.003),), {"seed": runtime.seed}, (), 1.0)

    monkeypatch.setattr(importlib.import_module("tocsin.auditing"), "audit", audit)
    return state


def audit_words(data: SimpleNamespace, *more: object) -> tuple[object, ...]:
    return ("audit", data.train, "--reserve", data.reserve, "--out", data.out, *more)


@pytest.mark.parametrize(("flagged", "code"), [(0, 0), (3, 1)])
def test_exit_code_tells_the_verdict(run: Run, data: SimpleNamespace, fake: SimpleNamespace, flagged: int, code: int) -> None:
    fake.flagged = flagged
    done = run(*audit_words(data))
    assert done.code == code
    assert "of 150 planted patch samples (0.3 %) we found 149" in done.out
    assert str(data.out / "index.html") in done.out
    assert ("samples look poisoned" in done.out) == bool(flagged)
    assert {f.name for f in data.out.iterdir()} == {"index.html", "findings.csv", "findings.json", "kept.csv"}


@pytest.mark.parametrize("flagged", [0, 2])
def test_json_is_the_document_and_nothing_else(run: Run, data: SimpleNamespace, fake: SimpleNamespace, flagged: int) -> None:
    fake.flagged = flagged
    done = run(*audit_words(data, "--json"))
    assert json.loads(done.out) == json.loads((data.out / "findings.json").read_text())
    assert done.code == bool(flagged)


def test_quiet_says_nothing(run: Run, data: SimpleNamespace, fake: SimpleNamespace) -> None:
    fake.flagged = 1
    done = run(*audit_words(data, "--quiet"))
    assert (done.code, done.out, done.err) == (1, "", "")


def test_progress_goes_to_stderr(run: Run, data: SimpleNamespace, fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.cli.console.SECONDS_BETWEEN_LINES", 0.0)
    done = run(*audit_words(data, "--json"))
    assert "tocsin: round 1 50 %" in done.err
    assert all(line.startswith("tocsin: ") for line in done.err.splitlines())
    assert json.loads(done.out)


def test_options_reach_the_audit(run: Run, data: SimpleNamespace, fake: SimpleNamespace) -> None:
    run(*audit_words(data, "--preset", "paper", "--seed", 7, "--device", "cpu", "--no-canaries"))
    call = fake.calls[0]
    assert (call["preset"], call["canaries"], call["detector"]) == ("paper", False, "ct")
    assert (call["runtime"].seed, call["runtime"].device) == (7, "cpu")
    assert (len(call["train"]), len(call["reserve"])) == (60, 60)


def test_checkpoints_stay_after_a_failure_and_go_after_success(run: Run, data: SimpleNamespace, fake: SimpleNamespace) -> None:
    fake.fails = KeyboardInterrupt()
    done = run(*audit_words(data))
    assert done.code == 130
    assert "the same command resumes" in done.err
    assert (data.out / ".checkpoints" / "round-1").exists()
    fake.fails = AuditIncomplete("the clock ran out")
    assert run(*audit_words(data, "--no-resume")).code == 3
    assert [f.name for f in (data.out / ".checkpoints").iterdir()] == ["round-2"]
    fake.fails = None
    assert run(*audit_words(data)).code == 0
    assert not (data.out / ".checkpoints").exists()


FAILURES = [
    (InputError("labels: of cheese"), 2, "labels: of cheese"),
    (AuditIncomplete("no time"), 3, "no time"),
    (MemoryError(), 3, "out of memory"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), 3, "out of memory"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 3, "out of memory"),
    (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 3, "the disk is full while writing /x/y"),
    (OSError("131072 requested and 8192 written"), 3, "the disk is full"),
    (OSError(errno.EIO, "Input/output error"), 3, "refused a read or write"),
    (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 2, "/x/y: permission denied"),
    (RuntimeError("shape '[3]' is invalid"), 3, "this is a bug in tocsin; run with --traceback"),
    (KeyError("k"), 3, "this is a bug in tocsin; run with --traceback"),
    (EOFError(), 3, "this is a bug in tocsin; run with --traceback"),
    (RecursionError("too deep"), 3, "this is a bug in tocsin; run with --traceback"),
]


@pytest.mark.parametrize(("why", "code", "words"), FAILURES, ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else None)
def test_a_failure_is_a_sentence_and_never_a_verdict(
    run: Run, data: SimpleNamespace, fake: SimpleNamespace, why: Exception, code: int, words: str
) -> None:
    fake.fails = why
    done = run(*audit_words(data, "--quiet"))
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert "Traceback" not in done.err


def test_traceback_on_demand_wherever_it_stands(run: Run, data: SimpleNamespace, fake: SimpleNamespace) -> None:
    fake.fails = KeyError("k")
    for words in (("--traceback", *audit_words(data)), audit_words(data, "--traceback")):
        done = run(*words)
        assert done.code == 3
        assert "Traceback (most recent call last)" in done.err


BAD_USAGE = [
    (["audit"], "DATA"),
    (["audit", "TRAIN", "--reserve", "RESERVE", "--nonsense"], "--nonsense"),
    (["audit", "TRAIN", "--reserve", "RESERVE", "--seed", "x"], "--seed"),
    (["audit", "TRAIN"], "tocsin reserve DATA"),
    (["audit", "nowhere", "--reserve", "RESERVE", "--out", "OUT"], "nowhere"),
    (["audit", "TRAIN", "--reserve", "nowhere", "--out", "OUT"], "nowhere"),
    (["audit", "TRAIN", "--reserve", "RESERVE", "--out", "TRAIN"], "is a file"),
    (["audit", "TRAIN", "--reserve", "RESERVE", "--out", "OUT", "--set", "rounds"], "KEY=VALUE"),
    (["audit", "TRAIN", "--reserve", "RESERVE", "--out", "OUT", "--set", "a=1", "--set", "a=2"], "more than once"),
    (["audti"], "audti"),
    (["poison", "TRAIN", "--out", "OUT", "--attack", "badnets"], "did you mean 'badnet'"),
    (["poison", "TRAIN", "--out", "OUT", "--target", "9"], "no class '9'"),
    (["poison", "TRAIN", "--out", "OUT", "--rate", "7"], "rate"),
    (["poison", "TRAIN", "--out", "OUT", "--set", "sice=4"], "did you mean 'size'"),
    (["poison", "TRAIN"], "--out"),
    (["train", "TRAIN"], "--test"),
    (["train", "TRAIN", "--test", "RESERVE", "--network", "huge"], "huge"),
    (["train", "TRAIN", "--test", "RESERVE", "--epochs", "0"], "epochs"),
    (["apply", "TRAIN", "nowhere.csv", "--out", "OUT"], "nowhere.csv"),
    (["reserve", "TRAIN", "--out", "OUT", "-n", "0"], "0"),
]


@pytest.mark.parametrize(("words", "said"), BAD_USAGE, ids=lambda v: " ".join(v[:9]) if isinstance(v, list) else None)
def test_usage_and_input_errors(run: Run, data: SimpleNamespace, fake: SimpleNamespace, words: list[str], said: str) -> None:
    places = {"TRAIN": data.train, "RESERVE": data.reserve, "OUT": data.out}
    done = run(*(places.get(word, word) for word in words))
    assert done.code == 2, done.err
    assert said in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not data.out.exists()


def test_report_is_not_written_among_the_data(run: Run, tmp_path: Path, data: SimpleNamespace, fake: SimpleNamespace) -> None:
    (tmp_path / "folder" / "cat").mkdir(parents=True)
    done = run("audit", tmp_path / "folder", "--reserve", data.reserve, "--out", tmp_path / "folder" / "report")
    assert done.code == 2
    assert "inside the data folder" in done.err
    assert not (tmp_path / "folder" / "report").exists()


def test_refuse_inside_sees_through_links(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    with pytest.raises(InputError):
        refuse_inside(tmp_path / "link" / "out", tmp_path / "data")
    refuse_inside(tmp_path / "data-2", tmp_path / "data")


def test_terminal_escapes_in_names_are_not_printed(run: Run, data: SimpleNamespace, fake: SimpleNamespace) -> None:
    fake.fails = InputError("class '\x1b[2J\x07cat\u202e' is odd\nsecond line")
    done = run(*audit_words(data, "--quiet"))
    assert "\x1b" not in done.err
    assert "\u202e" not in done.err
    assert done.err.splitlines()[-1] == "second line"


def test_help_names_every_command_and_the_exit_codes(run: Run) -> None:
    done = run("--help")
    assert done.code == 0
    assert all(word in done.out for word in ("audit", "poison", "train", "apply", "reserve", "demo", "methods", "suspects found", "130"))


def test_help_and_version_start_light() -> None:
    code = (
        "import sys, tocsin.cli\ntry: tocsin.cli.main([sys.argv[1]])\n"
        "except SystemExit: print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    for word in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", code, word], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "False False"


def test_a_closed_pipe_is_no_bug(data: SimpleNamespace) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "tocsin", "methods"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_methods_lists_each_setting_with_its_sentence(run: Run) -> None:
    from tocsin.attacks import ATTACKS
    from tocsin.detectors import DETECTORS

    plain, listing = run("methods").out, json.loads(run("methods", "--json").out)
    assert [m["name"] for m in listing["attacks"]] == list(ATTACKS)
    assert [m["name"] for m in listing["detectors"]] == list(DETECTORS)
    for method in [*ATTACKS.values(), *DETECTORS.values()]:
        told = described(method)
        assert told["summary"]
        assert told["name"] in plain
        assert all(setting["meaning"] for setting in told["settings"]), told


@given(st.dictionaries(st.text("abc_", min_size=1), st.text("xyz=, ", min_size=0)))
def test_pairs_splits_at_the_first_equals_sign(settings: dict[str, str]) -> None:
    assert pairs([f"{k}={v}" for k, v in settings.items()]) == {k: v.strip() for k, v in settings.items()}


@given(st.text())
def test_harmless_text_is_printable_and_of_the_same_length(text: str) -> None:
    clean = harmless(text)
    assert len(clean) == len(text)
    assert clean.replace("\n", "").isprintable()


def test_class_by_name_before_number() -> None:
    assert class_index("1", ("2", "1", "0")) == 1
    assert class_index("1", ("cat", "dog")) == 1
    with pytest.raises(InputError, match="did you mean 'dog'"):
        class_index("dgo", ("cat", "dog"))


def test_plain_progress_is_a_line_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    lines = Lines(lambda: now)
    for step in range(100):
        lines("round 1", step / 100)
        now += 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 9
    assert said[4] == "tocsin: round 1 50 %, about 50 s left"


@given(st.floats(0, 1e6))
def test_span_never_says_sixty_seconds(seconds: float) -> None:
    assert "60 s" not in span(seconds)


@given(st.sampled_from([OSError, ValueError, RuntimeError, KeyError, MemoryError, EOFError, SystemError]), st.text())
def test_no_exception_explains_as_a_verdict(kind: type[Exception], text: str) -> None:
    assert explain(kind(text)).code in {2, 3}


def test_from_poison_to_a_clean_copy(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands fit together on a folder of pictures; nothing in it changes."""
    rng = np.random.default_rng(0)
    for folder, count in (("train", 120), ("test", 30)):
        for row in range(count):
            place = tmp_path / folder / ("cat", "dog & <b>", "eel")[row % 3]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(place / f"{row}.png")
    monkeypatch.chdir(tmp_path)
    before = {p: p.read_bytes() for p in Path("train").rglob("*.png")}

    assert run("poison", "train", "--attack", "badnet", "--rate", 0.1, "--target", "dog & <b>", "--out", "red").code == 0
    planted = json.loads(Path("red/tocsin-poison.json").read_text())["planted"]
    assert len(planted) == 12
    assert all(name.startswith("dog & <b>/") for name in planted)
    assert run("poison", "train", "--out", "red").code == 2

    Path("decisions.csv").write_text("id,decision\n" + "".join(f"{name},remove\n" for name in planted))
    done = run("train", "red", "--test", "test", "--without", "decisions.csv", "--epochs", 1, "--json", "--quiet")
    result = json.loads(done.out)
    assert (result["attack"]["attack"], result["attack"]["target"]) == ("badnet", 1)
    assert [r["samples"] for r in result["runs"].values()] == [120, 108]
    assert all(0 <= r["asr"] <= 1 for r in result["runs"].values())
    assert "without decisions.csv" in run("train", "red", "--test", "test", "--without", "decisions.csv", "--epochs", 1).out

    assert "108 of 120 samples kept" in run("apply", "red", "decisions.csv", "--out", "kept").out
    assert len(list(Path("kept").rglob("*.png"))) == 108
    assert run("apply", "red", "decisions.csv", "--out", "kept.csv").code == 0
    assert run("train", "kept.csv", "--root", "red", "--test", "test", "--epochs", 1).code == 0
    assert run("apply", "train", "decisions.csv", "--out", "other").code == 2
    assert run("apply", "train", "decisions.csv", "--out", "train/kept").code == 2

    assert run("reserve", "train", "-n", 30, "--out", "vet").code == 0
    done = run("reserve", "train", "--decisions", "vet/candidates.csv", "--out", "vetted")
    assert done.code == 0
    assert "--reserve vetted/reserve" in done.out
    assert len(list(Path("vetted/reserve").rglob("*.png"))) == 30
    assert {p: p.read_bytes() for p in Path("train").rglob("*.png")} == before


def test_a_real_audit_finds_an_obvious_backdoor(run: Run, tmp_path: Path) -> None:
    """Nothing replaced: digits with a patch on 4 % of them, through the fast preset, to the exit code and the report."""
    train, reserve, _ = digits(5, train=1500, reserve=400, test=10)
    red = poison(train, build("badnet", rate=0.04, target=7), 5)
    np.savez(tmp_path / "red.npz", x=red.dataset.inputs, y=red.dataset.labels)
    np.savez(tmp_path / "clean.npz", x=reserve.inputs, y=reserve.labels)
    done = run("audit", tmp_path / "red.npz", "--reserve", tmp_path / "clean.npz", "--out", tmp_path / "out", "--device", "cpu", "--json")
    assert done.code == 1, done.err
    suspects = {int(s["id"]) for s in json.loads(done.out)["suspects"]}
    planted = set(red.planted.tolist())
    assert len(suspects & planted) >= 0.9 * len(planted)
    assert len(suspects - planted) <= 0.01 * len(train)
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"index.html", "findings.csv", "findings.json", "kept.csv"}


def test_sounds_go_through_every_command(tmp_path: Path, run: Run) -> None:
    sf = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 6)):
        for k in range(count):
            for name, pitch in (("high", 1500), ("low", 300)):
                path = tmp_path / split / name / f"{k}.{('wav', 'flac')[k % 2]}"
                path.parent.mkdir(parents=True, exist_ok=True)
                length = 2000 + 20 * k  # the test clips are shorter: they are brought to the training data's length
                sf.write(path, 0.2 * np.sin(2 * np.pi * pitch * np.arange(length) / 8000) + rng.normal(0, 0.01, length), 8000)
    drawn = run("reserve", tmp_path / "train", "-n", 20, "--out", tmp_path / "vet")
    assert drawn.code == 0
    assert (tmp_path / "vet" / "contact_sheet.html").read_text("utf-8").count("<audio") == 20
    taken = run("reserve", tmp_path / "train", "--decisions", tmp_path / "vet" / "candidates.csv", "--out", tmp_path / "vetted")
    assert taken.code == 0
    assert len([path for path in (tmp_path / "vetted" / "reserve").rglob("*") if path.is_file()]) == 20
    refused = run("audit", tmp_path / "vetted" / "train.csv", "--root", tmp_path / "train", "--reserve", tmp_path / "vetted" / "reserve")
    assert (refused.code, "only 20 samples in all" in refused.err) == (2, True)  # and nothing about rates or lengths
    (tmp_path / "decisions.csv").write_text("id,decision\nhigh/0.wav,remove\n")
    assert run("apply", tmp_path / "train", tmp_path / "decisions.csv", "--out", tmp_path / "kept").code == 0
    assert (tmp_path / "kept" / "high" / "1.flac").read_bytes() == (tmp_path / "train" / "high" / "1.flac").read_bytes()
    assert not (tmp_path / "kept" / "high" / "0.wav").exists()
    trained = run("train", tmp_path / "train", "--test", tmp_path / "test", "--epochs", 1, "--json")
    assert trained.code == 0
    assert json.loads(trained.out)["runs"]["all samples"]["samples"] == 60
    made = run("poison", tmp_path / "train", "--attack", "tone", "--rate", 0.1, "--target", "low", "--out", tmp_path / "red")
    assert made.code == 0
    planted = json.loads((tmp_path / "red" / "tocsin-poison.json").read_text())["planted"]
    assert len(planted) == 6
    assert all((tmp_path / "red" / name).is_file() and name.startswith("low/") for name in planted)
    trained = run("train", tmp_path / "red", "--test", tmp_path / "test", "--epochs", 1, "--json")
    assert trained.code == 0
    assert json.loads(trained.out)["runs"]["all samples"]["asr"] is not None
    unfit = run("poison", tmp_path / "train", "--out", tmp_path / "blue")  # the default attack is one on pictures
    assert (unfit.code, "speech" in unfit.err) == (2, True)
    wrong = run("audit", tmp_path / "train", "--reserve", tmp_path / "test", "--kind", "image")
    assert (wrong.code, "no picture could be read" in wrong.err) == (2, True)
