from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tocsin.bench.choices import AttackChoice, DetectorChoice, VictimChoice
from tocsin.bench.grid import Grid, read_grid
from tocsin.errors import InputError
from tocsin.learning import FitSettings

ROOT = Path(__file__).parents[2]

FULL = """
seeds = [0, 3]
retrain = true
[[data]]
builtin = "digits"
[[data]]
name = "mine"
train = "train.npz"
reserve = 40
test = "test.npz"
size = 16
[[victim]]
network = ["small", "resnet18-narrow"]
epochs = 2
flip = true
[[attack]]
name = "none"
[[attack]]
name = "badnet"
rate = [0.01, 0.02]
target = [0, 1]
[[attack]]
name = "tact"
rate = 0.01
cover_classes = [5, 7]
[[attack]]
name = "TaCT"
cover_classes = [[5, 7], [3, 4]]
[[detector]]
name = "ct"
preset = ["fast", "paper"]
alpha = 0.05
[[detector]]
name = "corner"
oracle = "truth.rate"
canaries = false
"""


def read(folder: Path, text: str) -> Grid:
    for name in ("train", "test"):
        np.savez(folder / f"{name}.npz", x=np.zeros((60, 8, 8, 1), np.uint8), y=np.arange(60) % 3)
    (folder / "g.toml").write_text(text)
    return read_grid(folder / "g.toml")


def prints(grid: Grid) -> dict[tuple[str, int], str]:
    return {(data.name, seed): f"{data.name}-{seed}" for data in grid.data for seed in grid.seeds}


def test_lists_stand_for_their_members(tmp_path: Path) -> None:
    grid = read(tmp_path, FULL)
    assert [a.label for a in grid.attacks] == [
        "none",
        "badnet 1 % target=0",
        "badnet 1 % target=1",
        "badnet 2 % target=0",
        "badnet 2 % target=1",
        "tact 1 % cover_classes=5,7",
        "tact 0.3 % cover_classes=5,7",
        "tact 0.3 % cover_classes=3,4",
    ]
    assert [a.build().target for a in grid.attacks[1:5]] == [0, 1, 0, 1]
    assert [d.label for d in grid.detectors] == ["ct alpha=0.05", "ct paper alpha=0.05", "corner oracle=truth.rate without canaries"]
    assert [(v.network, v.fit.epochs, v.flip) for v in grid.victims] == [("small", 2, True), ("resnet18-narrow", 2, True)]
    assert (grid.seeds, grid.retrain) == ((0, 3), True)
    assert (grid.data[0].train, grid.data[0].reserve) == (6000, 1000)
    assert (grid.data[1].train, grid.data[1].reserve, grid.data[1].size) == ((tmp_path / "train.npz").resolve(), 40, 16)
    cells = grid.cells(prints(grid))
    assert len(cells) == 2 * 2 * 8 * 3 * 2
    assert len({c.key for c in cells}) == len(cells)
    assert [c.seed for c in cells] == [0] * 96 + [3] * 96  # the first seed's table is full first


def test_the_same_cell_twice_is_one(tmp_path: Path) -> None:
    grid = read(tmp_path, FULL.replace("cover_classes = [[5, 7], [3, 4]]", "rate = 0.01\ncover_classes = [[5, 7]]"))
    assert len(grid.cells(prints(grid))) == 2 * 2 * 6 * 3 * 2


def test_a_victim_without_a_name_is_the_usual_one_of_the_kind() -> None:
    from tocsin.kinds import ImageKind, SpeechKind
    from tocsin.learning import usual_settings

    choice = VictimChoice()
    assert choice.on(ImageKind((0.0,), (1.0,))) == ("small", FitSettings())
    assert choice.on(SpeechKind(8000, 0.0, 1.0)) == ("tc-resnet8", usual_settings("tc-resnet8"))
    assert VictimChoice("kwt-1", fit=FitSettings(epochs=2)).on(SpeechKind(8000, 0.0, 1.0)) == ("kwt-1", FitSettings(epochs=2))
    assert choice.label == "usual network"
    assert choice.id != VictimChoice("small").id


def test_the_key_is_all_that_decides_on_the_numbers(tmp_path: Path) -> None:
    """Each change of a setting is another cell; order and file names are not."""
    grid = read(tmp_path, FULL)
    (cell, *_) = grid.cells(prints(grid))
    (again, *_) = read(tmp_path, "# moved\n" + FULL).cells(prints(grid))
    assert again.key == cell.key
    spelled = AttackChoice("badnet", {"rate": 0.003, "target": 0})
    assert spelled.id == AttackChoice("badnet").id  # a default said aloud changes nothing
    assert spelled.id != AttackChoice("badnet", {"rate": 0.004}).id
    assert DetectorChoice("corner", settings={"oracle": 0.01}).id != DetectorChoice("corner", settings={"oracle": "truth.rate"}).id
    assert DetectorChoice("corner").id != DetectorChoice("corner", canaries=False).id
    assert VictimChoice().id != VictimChoice(fit=FitSettings(epochs=9)).id
    (other, *_) = grid.cells({place: f"{text}!" for place, text in prints(grid).items()})
    assert other.key != cell.key  # the data changed under the same name


BAD = """
seeds = [0, 0]
retrain = "yes"
detectors = 3
[[data]]
builtin = "digitz"
[[data]]
train = "trian.npz"
reserve = 0
tset = "test.npz"
[[data]]
name = "mine"
train = "trian.npz"
reserve = 0
[[victim]]
network = "smal"
epochs = 0
[[victim]]
epoch = 3
[[attack]]
name = "badnett"
[[attack]]
name = "badnet"
rate = [0.01, 2, "much"]
taget = 3
[[attack]]
name = "blend"
rate = []
[[attack]]
rate = 0.1
[[detector]]
name = "ct"
preset = "slow"
[[detector]]
name = "corner"
threshold = true
"""
SAID = [
    "unknown key 'detectors'; did you mean 'detector'? (allowed: seeds, retrain, data, attack, detector, victim)",
    "seeds: got [0, 0]",
    "retrain: got 'yes', allowed is true or false",
    "[[data]] 1: builtin: got 'digitz'; did you mean 'digits'?",
    "[[data]] 2: unknown key 'tset'; did you mean 'test'?",
    "trian.npz: no such file or folder; did you mean 'train.npz'?",
    "[[data]] 3 (mine): reserve: got 0, allowed is a path, or a whole number of samples from 1",
    "[[data]] 3 (mine): test: missing",
    "[[victim]] 1 (smal): network: got 'smal'; did you mean 'small'?",
    "[[victim]] 1 (smal): epochs and batch: got 0 and 128",
    "[[victim]] 2: unknown key 'epoch'; did you mean 'epochs'?",
    "[[attack]] 1 (badnett): name: unknown 'badnett'; did you mean 'badnet'?",
    "[[attack]] 2 (badnet): attack badnet: unknown setting 'taget'; did you mean 'target'?",
    "rate: got 'much', allowed is a number",
    "[[attack]] 3 (blend): rate: an empty list",
    "[[attack]] 4: name: got None, allowed is one of none, badnet",
    "[[detector]] 1 (ct): preset: got 'slow'",
    "[[detector]] 2 (corner): threshold: got True, allowed is a number",
]


def test_all_mistakes_at_once_each_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read(tmp_path, BAD)
    said = str(refused.value)
    assert [phrase for phrase in SAID if phrase not in said] == []
    assert len(said.splitlines()) - 1 == int(re.search(r"has (\d+) mistakes", said)[1])  # type: ignore[index]
    assert len(set(said.splitlines())) == len(said.splitlines())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds = [0]\nname = = 1\n", "is not a TOML file: .*line 2"),
        ("", "data: missing; at least one"),
        ('data = "digits"', r"data: the data sets are tables; write \[\[data\]\]"),
        (FULL.replace('name = "mine"', 'name = "digits"'), r"the name 'digits' is used more than once"),
        (FULL.replace("rate = [0.01, 0.02]", "rate = 2"), r"\[\[attack\]\] 2 \(badnet\): .*rate"),
        (FULL.replace("seeds = [0, 3]", "seeds = 3"), r"seeds: got 3, allowed is a list"),
        (FULL.replace("canaries = false", 'canaries = "no"'), "canaries: got 'no'"),
        (FULL.replace('builtin = "digits"', 'builtin = "digits"\nsize = 3'), "size and root belong to data in files"),
    ],
)
def test_one_mistake(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_grid(tmp_path / "none.toml")


def test_single_tables_need_no_double_brackets(tmp_path: Path) -> None:
    grid = read(tmp_path, '[data]\nbuiltin = "digits"\n[attack]\nname = "none"\n[detector]\nname = "ct"\n')
    assert (len(grid.data), len(grid.attacks), grid.victims, grid.seeds) == (1, 1, (VictimChoice(),), (0,))


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "grids").glob("*.toml")), ids=lambda path: path.name)
def test_the_shipped_grids_can_be_read(path: Path, tmp_path: Path) -> None:
    text = path.read_text("utf-8")
    (tmp_path / path.name).write_text(text, "utf-8")
    for name in re.findall(r'^(?:train|reserve|test) = "(.+)"', text, re.MULTILINE):  # data that are made first, beside the grid
        (tmp_path / name).touch()
    assert read_grid(tmp_path / path.name).attacks


def test_the_documented_grid_can_be_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "bench.md").read_text("utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    for name in ("train", "clean", "test"):
        (tmp_path / name).mkdir()
    (tmp_path / "doc.toml").write_text(text)
    grid = read_grid(tmp_path / "doc.toml")
    assert len(grid.cells(prints(grid))) == int(re.search(r"stands for (\d+) cells", page)[1])  # type: ignore[index]
