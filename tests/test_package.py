"""What holds for the whole repository: layering, lightness, size of files, links, and what no file may name."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

import tocsin

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tocsin"
MODULES = sorted(SOURCE.rglob("*.py"))

# Which layer a module belongs to, by the first part of its name below tocsin (a longer name wins). A module may import from its own
# layer and from lower ones. The numbers are the drawing in docs/architecture.md.
LAYERS = {
    "errors": 0,
    "runtime": 0,
    "params": 0,
    "stats": 1,
    "data": 1,
    "kinds": 2,
    "networks": 2,
    "learning": 3,
    "boosting": 3,
    "tuning": 3,
    "contrastive": 3,
    "attacks": 4,
    "poisoning": 4,
    "canaries": 4,
    "detectors": 4,
    "paradigms": 4,
    "defenses": 4,
    "victim": 5,
    "report": 5,
    "decisions": 5,
    "reserve": 5,
    "panel": 5,
    "auditing": 6,
    "demo": 7,
    "bench": 7,
    "cli": 8,
    "__main__": 9,
}


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> list[tuple[str, int]]:
    """Modules of tocsin that ``path`` imports, with the line; imports for the type checker alone do not count."""
    found = []

    class Walk(ast.NodeVisitor):
        def visit_If(self, node: ast.If) -> None:
            if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            found.extend((a.name, node.lineno) for a in node.names)

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            # `from tocsin import demo` names a module below tocsin
            names = [f"tocsin.{a.name}" for a in node.names] if node.module == "tocsin" else [node.module or ""]
            found.extend((name, node.lineno) for name in names)

    Walk().visit(ast.parse(path.read_text("utf-8")))
    return [(name.removeprefix("tocsin."), line) for name, line in found if name.startswith("tocsin.")]


def layer(name: str) -> int | None:
    return LAYERS.get(name.split(".")[0])


def test_every_module_has_a_layer() -> None:
    assert {module_name(p).split(".")[0] for p in MODULES} - {""} <= LAYERS.keys()


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_down(path: Path) -> None:
    own = layer(module_name(path))
    if own is None:
        pytest.skip("the package's public face looks its names up on first use")
    wrong = [f"line {line}: {name}" for name, line in imports(path) if layer(name) is not None and layer(name) > own]
    assert not wrong, f"{module_name(path)} (layer {own}) imports from above: {wrong}"


def test_the_walk_sees_an_upward_import(tmp_path: Path) -> None:
    source = tmp_path / "m.py"
    source.write_text("def f():\n    from tocsin.auditing import audit\nif TYPE_CHECKING:\n    from tocsin.cli import app\n")
    assert imports(source) == [("auditing", 2)]


@pytest.mark.parametrize("path", [p for p in MODULES if "cli" not in p.parts], ids=module_name)
def test_nothing_below_the_command_line_prints(path: Path) -> None:
    calls = [
        n.lineno for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"
    ]
    assert not calls


@pytest.mark.parametrize("statement", ["import tocsin", "from tocsin import Dataset, Runtime, InputError", "import tocsin.cli"])
def test_import_is_light(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint([m for m in ('torch', 'sklearn', 'scipy', 'pyarrow', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_public_names_resolve_and_stay_what_they_are() -> None:
    """A module named like a public function would hide it once imported."""
    code = (
        "import tocsin, tocsin.auditing, tocsin.data\nfor n in tocsin.__all__: getattr(tocsin, n)\n" * 2 + "assert callable(tocsin.audit)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_file_names_a_package_host() -> None:
    # written in pieces so that this file does not name them either
    hosts = [
        "py" + "pi.org",
        "pythonhosted" + ".org",
        "npm" + "js",
        "download." + "pytorch",
        "conda" + ".anaconda",
        "index" + "-url",
        "find" + "-links",
    ]
    pattern = re.compile("|".join(map(re.escape, hosts)).encode())
    assert [str(p.relative_to(ROOT)) for p in tracked() if pattern.search(p.read_bytes())] == []


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks"])
def test_files_stay_short(folder: str) -> None:
    long = {str(p.relative_to(ROOT)): n for p in (ROOT / folder).rglob("*.py") if (n := len(p.read_text("utf-8").splitlines())) > 400}
    assert not long


LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|(?:src|href)=\"([^\"]+)\"")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")])


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ +(.+?) *$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    broken = []
    for target in (a or b for a, b in LINK.findall(text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def test_constraints_pin_every_dependency() -> None:
    pinned = {
        re.split(r"[=; ]", line)[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"
    }
    declared = set(re.findall(r"^ +\"([A-Za-z0-9_.-]+)>=", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    declared |= set(re.findall(r"\"([a-z]+)>=[\d.]+\"", (ROOT / "pyproject.toml").read_text())) - {"hatchling"}
    assert {"torch", "numpy", "typer", "pytest", "pyarrow"} <= declared
    assert declared <= pinned


def method_of(page: str, which: str, folder: Path) -> type[Any]:
    """The class of the documented example, imported from a file of its own as a contributor's would be."""
    code = re.search(rf"<!-- tested: {which} -->\n```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    source = folder / f"documented_{which}.py"
    source.write_text(code[1])
    spec = importlib.util.spec_from_file_location(source.stem, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[source.stem] = module
    spec.loader.exec_module(module)
    (found,) = (c for c in vars(module).values() if isinstance(c, type) and c.__module__ == source.stem)
    return found


def test_adding_a_method_takes_its_file_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/add-a-method.md is right: with nothing but its file and its place in the registry, a method works from the command line."""
    from tocsin.attacks import ATTACKS
    from tocsin.cli import main
    from tocsin.detectors import DETECTORS

    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(words)
        return int(ended.value.code or 0)

    page = (ROOT / "docs" / "add-a-method.md").read_text("utf-8")
    monkeypatch.setitem(ATTACKS, "dot", method_of(page, "attack", tmp_path))
    monkeypatch.setitem(DETECTORS, "loud", method_of(page, "detector", tmp_path))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 100, (400, 16, 16, 3), dtype=np.uint8), np.arange(400) % 2
    np.savez(tmp_path / "reserve.npz", x=x[200:], y=y[200:])
    x[3] = 255
    np.savez(tmp_path / "train.npz", x=x[:200], y=y[:200])
    train, reserve, red, out = (str(tmp_path / name) for name in ("train.npz", "reserve.npz", "red.npz", "out"))

    assert run("methods") == 0
    listing = capsys.readouterr().out
    assert "value=255  Brightness of the pixel." in listing
    assert "factor=1.5  How much brighter than the brightest reserve sample." in listing
    assert run("poison", train, "--attack", "dot", "--rate", "0.1", "--set", "value=200", "--out", red) == 0
    assert int((tocsin.load(red).inputs[:, 0, 0] == 200).all(axis=1).sum()) == 20
    words = ("audit", train, "--reserve", reserve, "--detector", "loud", "--no-canaries", "--out", out)
    assert run(*words) == 1
    assert json.loads((tmp_path / "out" / "findings.json").read_text())["suspects"][0]["id"] == "3"
    assert run(*words, "--set", "factor=9") == 0
    assert run(*words, "--set", "facter=9") == 2
