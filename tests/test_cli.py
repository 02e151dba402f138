"""The command line: exit codes, sentences, what goes to stdout and stderr. The audit itself is a stand-in here."""

from __future__ import annotations

import errno
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Run
from tocsin.cli.console import Lines, harmless, span
from tocsin.cli.methods import described
from tocsin.cli.options import class_index, pairs
from tocsin.cli.outcome import explain, refuse_inside
from tocsin.data.dataset import Dataset
from tocsin.detectors.base import ClassEvidence, Findings
from tocsin.errors import AuditIncomplete, InputError
from tocsin.report.model import CanaryResult, Report
from tocsin.runtime import Runtime


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
    assert (call["preset"], call["canaries"], call["detector"]) == ("paper", False, None)
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
