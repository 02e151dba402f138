from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from tests.report.build import HOSTILE, report
from tocsin.decisions import apply
from tocsin.report.charts import bin_scores, histogram
from tocsin.report.model import Report
from tocsin.report.page import PICTURED, render
from tocsin.report.pictures import mean_picture, picture_uri, png_data_uri

ODD_IDS = ['it\'s "quoted".png', "=HYPERLINK(1)", "a,b;c\td.png", "line\nbreak\r.png", "</script><!--.png", "'=x", "-5", "日本/ß.png"]


class _Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == name]


def _odd_report() -> Report:
    ids = [f"{i}{HOSTILE[i % 2]}" for i in range(120)]
    ids[1 : 3 * len(ODD_IDS) : 3] = ODD_IDS  # every third sample is of the target class
    return report(ids=ids, classes=(*HOSTILE, "=1+1"), flagged=40)


def test_hostile_names_become_text_only() -> None:
    page = _Tags(render(_odd_report()))
    assert [attrs.get("type") for attrs in page.named("script")] == ["application/json", None]
    assert all(str(attrs["src"]).startswith("data:image/") for attrs in page.named("img"))
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]


def test_nothing_is_fetched() -> None:
    text = render(_odd_report())
    # the name space of SVG is not needed inside HTML, so no address at all may appear
    assert not re.search(r"https?:|//[a-z0-9-]+\.|@import|url\(", text)
    for tag, attrs in _Tags(text).tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attrs.get(name) or "data:").startswith(("data:", "#")), (tag, attrs)


def test_policy_allows_our_script_and_no_other() -> None:
    text = render(report())
    policy = next(attrs["content"] for attrs in _Tags(text).named("meta") if attrs.get("http-equiv") == "Content-Security-Policy")
    script = text.rsplit("<script>", 1)[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}';" in policy


def test_data_block_holds_ids_unchanged() -> None:
    made = _odd_report()
    block = render(made).split('id="tocsin-data">')[1].split("</script>")[0]
    assert "<" not in block
    ids = json.loads(block)["ids"]
    assert {ids[str(s.row)] for s in made.suspects} == {s.id for s in made.suspects}


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 3), (5, 9, 3)])
@pytest.mark.parametrize("flagged", [0, 1, 40])
def test_every_suspect_can_be_ticked(shape: tuple[int, ...], flagged: int) -> None:
    boxes = [attrs for attrs in _Tags(render(report(shape=shape, flagged=flagged))).named("input") if attrs.get("class") == "tick"]
    assert sum("checked" in attrs for attrs in boxes) == flagged
    assert sum("checked" not in attrs for attrs in boxes) == 24


def test_many_suspects_keep_the_page_small(monkeypatch: pytest.MonkeyPatch) -> None:
    made = report(samples=20_000, classes=("a", "b"), flagged=6_000, shape=(16, 16, 3))
    page = _Tags(text := render(made))
    assert len(text) < 6_000_000
    assert sum(str(attrs.get("alt", "")).startswith("suspect") for attrs in page.named("img")) == PICTURED
    assert sum("checked" in attrs for attrs in page.named("input")) == 6_000
    monkeypatch.setattr("tocsin.report.page.LISTED", 1_000)
    text = render(made)
    data = json.loads(text.split('id="tocsin-data">')[1].split("</script>")[0])
    assert len(data["unlisted"]) == 5_000
    assert "5,000 suspects, too many" in text


def test_large_noisy_pictures_keep_the_page_small() -> None:
    assert len(render(report(samples=600, classes=("a", "b"), flagged=250, shape=(160, 160, 3)))) < 6_000_000


def test_many_classes_and_a_kind_without_pictures() -> None:
    text = render(report(samples=430, classes=tuple(f"sign {k}" for k in range(43)), kind="smell"))
    assert "The other 31 classes" in text
    assert not _Tags(text).named("img")


def test_all_flagged_or_no_evidence_still_renders() -> None:
    made = report(samples=6, flagged=2, reserve=6)
    made.findings.flagged[:] = True
    assert "every sample of this class is flagged" in render(made)


def test_pictures_are_exact_up_to_64_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    for uri in (png_data_uri(pixels), picture_uri(pixels)):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))), pixels)
    large = Image.open(io.BytesIO(base64.b64decode(picture_uri(np.zeros((300, 200, 1), np.uint8)).split(",")[1])))
    assert large.size == (85, 128)


def test_mean_picture_shows_a_patch() -> None:
    rng = np.random.default_rng(0)
    ordinary = rng.integers(0, 200, (40, 8, 8, 3), dtype=np.uint8)
    suspects = rng.integers(0, 200, (40, 8, 8, 3), dtype=np.uint8)
    suspects[:, :2, :2] = 255
    made = mean_picture(suspects, ordinary)
    assert made is not None
    difference, alike = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("L"), float) for uri in (made.difference, made.alike)
    )
    assert difference[:2, :2].min() > difference[3:, 3:].max()
    assert alike[:2, :2].min() > 200 > 100 > alike[3:, 3:].max()
    assert mean_picture(suspects[:1], ordinary) is None


def test_bins_count_every_score_and_survive_wild_ones() -> None:
    scores = np.concatenate([np.random.default_rng(0).normal(0, 1, 1000), [1e9, -1e9, np.nan, np.inf]])
    binned = bin_scores([scores, np.array([50.0, 51.0])], 40)
    assert binned.counts.sum() == 1004
    assert binned.beyond
    assert 51 <= binned.edges[-1] < 100
    assert bin_scores([np.empty(0)], 5).counts.sum() == 0
    assert bin_scores([np.zeros(7)], 5).counts.sum() == 7


def test_the_threshold_is_drawn_when_no_score_reaches_it() -> None:
    scores = np.linspace(0, 1, 50)
    assert "threshold 1.5" in histogram([("kept", scores)], 1.5)
    assert "threshold" not in histogram([("kept", scores)], 100.0)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _in_browser(page: Path, profile: Path) -> str:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", f"--user-data-dir={profile}", "--virtual-time-budget=3000", "--dump-dom"]
    try:
        return subprocess.run([str(CHROMIUM), *flags, page.as_uri()], capture_output=True, timeout=60, check=True).stdout.decode()
    except (subprocess.SubprocessError, OSError) as why:
        pytest.skip(f"the browser does not run here: {why}")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize(("made", "removed"), [(_odd_report(), 40), (report(flagged=0), 0)])
def test_in_a_browser_the_script_runs_and_names_do_nothing(tmp_path: Path, made: Report, removed: int) -> None:
    dom = _in_browser(made.save(tmp_path / "report"), tmp_path / "profile")
    assert 'data-ready="yes"' in dom
    assert f'data-remove="{removed}"' in dom
    assert "data-pwned" not in dom.split(">", 2)[1]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_in_a_browser_ticks_are_downloaded_and_remembered(tmp_path: Path) -> None:
    made = _odd_report()
    page = made.save(tmp_path / "report")
    # A hand in place of the reviewer's; the policy has to go for it to move.
    hand = """<script>
    const told = (part) => typeof part === "string" ? part : "\ufffd";  // as it is made: to read a blob back takes as long as it likes
    window.Blob = class { constructor(parts) { document.body.dataset.csv = encodeURIComponent(parts.map(told).join("")); } };
    URL.createObjectURL = () => "#";
    document.querySelectorAll("#suspects .tick")[1].click();
    document.querySelector("#unflagged .tick").click();
    document.getElementById("download").click();
    document.body.dataset.stored = encodeURIComponent(Object.values(localStorage).join());
    </script>"""
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text("utf-8"))
    page.write_text(text.replace("</body>", hand + "</body>"), "utf-8")
    dom = _in_browser(page, tmp_path / "profile")
    saved = tmp_path / "decisions.csv"
    saved.write_bytes(unquote(re.search(r'data-csv="([^"]*)"', dom)[1]).encode())  # type: ignore[index]
    first = made.order[~made.flagged[made.order]][0]
    shown_first = [s for s in made.suspects if s.label == made.train.classes[1]]
    expected = ~made.flagged
    expected[shown_first[1].row], expected[first] = True, False
    assert np.array_equal(apply(made.train, saved), expected)
    stored = json.loads(unquote(re.search(r'data-stored="([^"]*)"', dom)[1]))  # type: ignore[index]
    assert set(stored) == {str(shown_first[1].row), str(first)}
