"""What masks of a dataset hold: classes, pixels, faults, what is remembered of them, and how they are laid beside images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainwright.data import mask_targets, masks, memory
from trainwright.data.augment import Moves
from trainwright.data.fingerprint import Fingerprint, from_facts, read_facts
from trainwright.data.mask_layout import read_masks
from trainwright.data.mask_targets import MaskTargets
from trainwright.data.problems import Problem
from trainwright.data.table import SampleTable
from trainwright.data.targets import Stored
from trainwright.errors import DataError
from trainwright.records import IGNORED

HEIGHT, WIDTH = 12, 16
COLOURS = np.array([[128, 128, 128], [0, 0, 0], [128, 64, 128], [64, 0, 64]], dtype=np.uint8)
NAMES = "sky\nvoid\nroad\ncar\n"
COLOURED = "sky 128 128 128\nvoid 0 0 0\nroad 128 64 128\ncar 64 0 64\n"
Look = Callable[..., SampleTable]


@pytest.fixture(autouse=True)
def _any_age_is_old_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files just written are remembered too, so that tests need not wait."""
    monkeypatch.setattr(memory, "SETTLED_NS", -(10**12))


def random_masks(count: int = 6) -> list[np.ndarray]:
    return list(np.random.default_rng(1).integers(0, 4, (count, HEIGHT, WIDTH), dtype=np.uint8))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes masks as PNG files 0.png, 1.png … below `part`, each beside a grey image, and classes.txt."""

    def run(masks: Sequence[np.ndarray], *, classes: str = "", part: str = "", name: str = "dataset") -> Path:
        root = tmp_path / name
        for folder in ("images", "masks"):
            (root / part / folder).mkdir(parents=True)
        for index, mask in enumerate(masks):
            Image.new("RGB", (WIDTH, HEIGHT), (index, 0, 0)).save(root / part / "images" / f"{index}.png")
            Image.fromarray(mask).save(root / part / "masks" / f"{index}.png")
        if classes:
            (root / "classes.txt").write_text(classes)
        return root

    return run


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """A function that gives the table of a folder with its masks looked at, remembering in a folder of this test."""

    def run(root: Path, **options: int) -> SampleTable:
        table, cache_dir = read_masks(root), tmp_path / "memory"
        facts = read_facts(table, cache_dir=cache_dir)
        workers = options.get("workers", 0)
        targets = table.targets.looked_at(table, facts, workers=workers, progress=None, cache_dir=cache_dir)
        return replace(table, targets=targets)

    return run


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the masks that are read from now on."""
    names: list[str] = []
    read = masks.read_mask

    def counting(path: Path, colours: np.ndarray | None) -> np.ndarray:
        names.append(path.name)
        return read(path, colours)

    monkeypatch.setattr(mask_targets, "read_mask", counting)
    return names


def masks_of(table: SampleTable) -> MaskTargets:
    assert isinstance(table.targets, MaskTargets)
    return table.targets


def texts(table: SampleTable) -> list[str]:
    return [table.targets.text(row) for row in range(len(table))]


def judged(table: SampleTable, tmp_path: Path) -> Fingerprint:
    return from_facts(table, read_facts(table, cache_dir=tmp_path / "memory"))


def told(table: SampleTable) -> list[Problem]:
    return list(table.targets.problems(table, table.targets.usable()))


# ---- classes and pixels ----


def test_pixels_of_each_scored_class_are_counted(write: Callable[..., Path], look: Look) -> None:
    masks = random_masks()
    table = look(write(masks, classes=NAMES))
    assert table.classes == ("sky", "road", "car")
    assert table.targets.counts(np.array([1, 4])) == {
        name: int((masks[1] == number).sum() + (masks[4] == number).sum())
        for name, number in {"sky": 0, "road": 2, "car": 3}.items()
    }
    assert table.targets.usable().all()
    assert told(table) == []


def test_masks_of_colours_and_of_numbers_have_the_same_text(write: Callable[..., Path], look: Look) -> None:
    masks = random_masks()
    numbers = look(write(masks, classes=NAMES, name="numbers"))
    colours = look(write([COLOURS[mask] for mask in masks], classes=COLOURED, name="colours"))
    assert texts(numbers) == texts(colours)
    assert len(set(texts(numbers))) == len(masks)
    assert numbers.classes == colours.classes


def test_the_text_tells_nothing_of_how_ignored_pixels_were_written(write: Callable[..., Path], look: Look) -> None:
    mask = random_masks(1)[0]
    with_void = write([mask], classes=NAMES, name="void")
    with_255 = write([np.where(mask == 1, IGNORED, mask).astype(np.uint8)], classes=NAMES, name="255")
    assert texts(look(with_void)) == texts(look(with_255))


def test_without_a_list_classes_are_the_numbers_up_to_the_highest_of_train(
    write: Callable[..., Path], look: Look
) -> None:
    train, val = random_masks(2), random_masks(1)
    val[0][0, 0] = 7
    val[0][5, :3] = 9
    root = write(train, part="train")
    write(val, part="val", name="other")
    (root.parent / "other" / "val").rename(root / "val")
    table = look(root)
    assert table.classes == ("0", "1", "2", "3")
    assert table.targets.usable().tolist() == [True, True, False]
    (problem,) = [problem for problem in told(table) if problem.kind == "unknown-class"]
    assert (problem.severity, problem.files) == ("error", ("val/masks/0.png",))
    assert problem.message == (
        "it has values of no class: 9 (3 pixels), 7 (1 pixel). List values like these in classes.txt, or correct the mask."
    )


def test_an_image_stands_for_its_rarest_class(write: Callable[..., Path], look: Look) -> None:
    sky, ignored, road = (np.full((HEIGHT, WIDTH), number, np.uint8) for number in (0, 1, 2))
    both, car = sky.copy(), sky.copy()
    both[0] = 2
    car[0, 0], car[1] = 3, 2
    table = look(write([sky, both, car, road, ignored], classes=NAMES))
    # sky has 2.9 images of pixels, road 1.2, car a single pixel
    assert list(table.targets.strata()) == ["sky", "road", "car", "road", ""]
    assert not table.targets.every_stratum_in_every_part


def test_masks_have_no_array(write: Callable[..., Path], look: Look) -> None:
    with pytest.raises(AssertionError, match="ask for their source"):
        look(write(random_masks(), classes=NAMES)).targets.array(np.array([0]))


# ---- what is wrong ----


def test_a_mask_of_another_size_than_its_image_is_left_out(write: Callable[..., Path], look: Look) -> None:
    masks = random_masks()
    masks[2] = masks[2][:, :10]
    masks[4] = np.ascontiguousarray(masks[4].T)
    table = look(write(masks, classes=NAMES))
    assert table.targets.usable().tolist() == [True, True, False, True, False, True]
    odd, turned = told(table)
    assert (odd.kind, odd.severity, odd.files) == ("mask-size-differs", "error", ("images/2.png", "masks/2.png"))
    assert odd.message == "left out: the mask is 10 x 12 pixels, its image 16 x 12. Make them the same size."
    assert "the mask is 12 x 16 pixels, its image 16 x 12." in turned.message
    assert turned.message.endswith("Cameras note how a picture is to be turned (EXIF): turn the mask too.")


def test_a_mask_that_cannot_be_read_is_left_out(write: Callable[..., Path], look: Look, tmp_path: Path) -> None:
    root = write(random_masks(), classes=NAMES)
    (root / "masks" / "1.png").write_bytes(b"")
    (root / "masks" / "3.png").write_bytes((root / "masks" / "3.png").read_bytes()[:-30])
    table = look(root)
    assert [(problem.kind, problem.severity, problem.files) for problem in told(table)] == [
        ("mask-empty", "error", ("masks/1.png",)),
        ("mask-truncated", "error", ("masks/3.png",)),
    ]
    assert judged(table, tmp_path).usable.tolist() == [True, False, True, False, True, True]
    assert table.targets.text(1) == ""


def test_the_same_fault_of_many_masks_is_one_problem(write: Callable[..., Path], look: Look) -> None:
    table = look(write([COLOURS[mask] for mask in random_masks()], classes=NAMES))
    colours, classes = told(table)
    assert (colours.kind, len(colours.files)) == ("mask-no-colours", 6)
    assert (classes.kind, classes.severity) == ("too-few-classes", "error")
    assert classes.message.startswith("no class has pixels in the usable masks that are learned from.")


def test_values_and_colours_of_no_class_are_named(write: Callable[..., Path], look: Look) -> None:
    masks = random_masks(3)
    masks[1][0, :2] = 200
    coloured = [COLOURS[mask] for mask in random_masks(3)]
    coloured[2][0, :5] = (1, 2, 3)
    (value,) = told(look(write(masks, classes=NAMES, name="numbers")))
    (colour,) = told(look(write(coloured, classes=COLOURED, name="colours")))
    assert (value.kind, value.files) == ("unknown-class", ("masks/1.png",))
    assert (colour.kind, colour.files) == ("unknown-class", ("masks/2.png",))
    assert "it has values of no class: 200 (2 pixels)." in value.message
    assert "it has colours of no class: (1, 2, 3) (5 pixels)." in colour.message


def test_masks_without_a_scored_pixel_are_named_and_used(write: Callable[..., Path], look: Look) -> None:
    masks = random_masks()
    masks[0][:] = 1
    masks[5][:] = IGNORED
    table = look(write(masks, classes=NAMES))
    (problem,) = told(table)
    assert (problem.kind, problem.severity) == ("nothing-scored", "warning")
    assert problem.files == ("masks/0.png", "masks/5.png")
    assert table.targets.usable().all()


def test_a_class_without_a_pixel_in_a_part_is_named(write: Callable[..., Path], look: Look) -> None:
    train, val = random_masks(3), random_masks(2)
    for mask in train:
        mask[mask == 0] = 2
    for mask in val:
        mask[mask >= 2] = 0
    root = write(train, part="train", classes=NAMES)
    write(val, part="val", name="other")
    (root.parent / "other" / "val").rename(root / "val")
    assert [(problem.kind, problem.severity, problem.message) for problem in told(look(root))] == [
        (
            "class-absent",
            "warning",
            "no pixel in train of sky: what is not there cannot be learned. Add images of it, or take it out of the "
            "classes.",
        ),
        (
            "class-absent",
            "warning",
            "no pixel in val of road, car: what is not there is not judged. Add images of it, or take it out of the "
            "classes.",
        ),
    ]


def test_a_part_without_a_scored_pixel_cannot_be_judged_on(write: Callable[..., Path], look: Look) -> None:
    root = write(random_masks(3), part="train", classes=NAMES)
    write([np.full_like(mask, 255) for mask in random_masks(2)], part="val", name="other")
    (root.parent / "other" / "val").rename(root / "val")
    *_, problem = told(look(root))
    assert (problem.kind, problem.severity) == ("nothing-to-judge", "error")
    assert problem.message == (
        "no usable mask in val has a scored pixel: nothing can be judged there. Label it, or leave it out."
    )


def test_one_class_is_too_few_to_learn_from(write: Callable[..., Path], look: Look) -> None:
    masks = [np.where(mask > 1, np.uint8(255), np.uint8(0)) for mask in random_masks()]
    (problem,) = told(look(write(masks)))
    assert (problem.kind, problem.severity) == ("too-few-classes", "error")
    assert problem.message == (
        "only '0' has pixels in the usable masks that are learned from. At least two classes are needed. Pixels of 255 "
        "are ignored; if they are a class, write 'background 0 0 0' and 'object 255 255 255' into classes.txt."
    )


def test_that_advice_helps(write: Callable[..., Path], look: Look) -> None:
    masks = [np.where(mask > 1, np.uint8(255), np.uint8(0)) for mask in random_masks()]
    table = look(write(masks, classes="background 0 0 0\nobject 255 255 255\n"))
    assert told(table) == []
    assert table.targets.counts(np.array([0])) == {
        "background": int((masks[0] == 0).sum()),
        "object": int((masks[0] == 255).sum()),
    }


# ---- what is remembered ----


def test_a_second_look_reads_nothing_and_says_the_same(
    write: Callable[..., Path], look: Look, reads: list[str]
) -> None:
    masks = random_masks()
    masks[1][0, :2] = 200
    root = write(masks, classes=NAMES)
    first = look(root, workers=2)
    assert sorted(reads) == [f"{index}.png" for index in range(6)]
    reads.clear()
    second = look(root)
    assert reads == []
    assert (texts(first), told(first)) == (texts(second), told(second))
    assert masks_of(first).masks == masks_of(second).masks


def test_only_changed_masks_are_read_again(write: Callable[..., Path], look: Look, reads: list[str]) -> None:
    masks = random_masks()
    root = write(masks, classes=NAMES)
    before = texts(look(root))
    reads.clear()
    Image.fromarray(masks[0]).save(root / "masks" / "3.png")
    after = texts(look(root))
    assert reads == ["3.png"]
    assert after == [*before[:3], before[0], *before[4:]]


def test_masks_are_read_again_where_their_pixels_mean_something_else(
    write: Callable[..., Path], look: Look, reads: list[str]
) -> None:
    root = write(random_masks(), classes=NAMES)
    before = texts(look(root))
    reads.clear()
    (root / "classes.txt").write_text("sky\nbuilding\nroad\ncar\n")
    after = look(root)
    assert len(reads) == 6
    assert not set(texts(after)) & set(before)
    assert after.classes == ("sky", "building", "road", "car")


# ---- beside stored images ----


def stored(table: SampleTable, tmp_path: Path, *, rows: Sequence[int], size: tuple[int, int], fit: str) -> Stored:
    sides = np.full(len(table), WIDTH, np.int32), np.full(len(table), HEIGHT, np.int32)
    return Stored(
        root=table.root,
        rows=np.array(rows),
        size=size,
        fit=fit,
        widths=sides[0],
        heights=sides[1],
        cache_dir=tmp_path / "pixels",
    )


def test_masks_are_laid_beside_their_images_scored(write: Callable[..., Path], look: Look, tmp_path: Path) -> None:
    masks = random_masks()
    table = look(write(masks, classes=NAMES))
    source = table.targets.source(stored(table, tmp_path, rows=[0, 2, 5], size=(HEIGHT, WIDTH), fit="crop"))
    index_of = np.array([0, IGNORED, 1, 2], dtype=np.uint8)
    taken = source.take(np.array([5, 0]))
    assert taken.dtype == np.uint8
    assert np.array_equal(taken, index_of[np.stack([masks[5], masks[0]])])


def test_padding_is_ignored(write: Callable[..., Path], look: Look, tmp_path: Path) -> None:
    table = look(write([np.zeros((HEIGHT, WIDTH), np.uint8), np.full((HEIGHT, WIDTH), 2, np.uint8)], classes=NAMES))
    source = table.targets.source(stored(table, tmp_path, rows=[0, 1], size=(WIDTH, WIDTH), fit="pad"))
    expected = np.full((WIDTH, WIDTH), IGNORED, np.uint8)
    expected[2:-2] = 1
    assert np.array_equal(source.take(np.array([1]))[0], expected)


def test_masks_move_with_their_images(write: Callable[..., Path], look: Look, tmp_path: Path) -> None:
    table = look(write(random_masks(), classes=NAMES))
    source = table.targets.source(stored(table, tmp_path, rows=range(6), size=(HEIGHT, WIDTH), fit="crop"))
    taken = source.take(np.array([3, 4]))
    windows = np.array([[0, 0, WIDTH, HEIGHT]] * 2)
    moves = Moves(windows_N4=windows, flips_N=np.array([True, False]), size=(HEIGHT, WIDTH))
    moved = source.moved(taken.copy(), moves)
    assert np.array_equal(moved[0], taken[0][:, ::-1])
    assert np.array_equal(moved[1], taken[1])


def test_changed_masks_are_stored_anew(write: Callable[..., Path], look: Look, tmp_path: Path) -> None:
    masks = random_masks(2)
    root = write(masks, classes=NAMES)
    table = look(root)
    before = table.targets.source(stored(table, tmp_path, rows=[0], size=(HEIGHT, WIDTH), fit="crop"))
    Image.fromarray(masks[1]).save(root / "masks" / "0.png")
    table = look(root)
    after = table.targets.source(stored(table, tmp_path, rows=[0], size=(HEIGHT, WIDTH), fit="crop"))
    assert not np.array_equal(before.take(np.array([0])), after.take(np.array([0])))


def test_a_mask_that_has_gone_is_named(write: Callable[..., Path], look: Look, tmp_path: Path) -> None:
    root = write(random_masks(2), classes=NAMES)
    table = look(root)
    (root / "masks" / "0.png").unlink()
    with pytest.raises(DataError, match=r"masks/0\.png: it does not exist any more\."):
        table.targets.source(stored(table, tmp_path, rows=[0], size=(HEIGHT, WIDTH), fit="crop"))


# ---- in memory ----


def test_masks_in_memory_are_as_good_as_files(write: Callable[..., Path], look: Look, tmp_path: Path) -> None:
    masks = random_masks()
    table = look(write(masks))
    held = MaskTargets.from_arrays([mask.astype(np.int64) for mask in masks], ["0", "1", "2", "3"])
    rows = np.arange(6)
    assert len(held) == 6
    assert [held.text(row) for row in range(6)] == texts(table)
    assert (held.counts(rows), held.names) == (table.targets.counts(rows), table.classes)
    assert list(held.strata()) == list(table.targets.strata())
    source = held.source(stored(table, tmp_path, rows=[1, 2], size=(HEIGHT, WIDTH), fit="crop"))
    assert np.array_equal(source.take(np.array([2])), masks[2][None])


def test_masks_in_memory_are_held_against_their_images(write: Callable[..., Path], look: Look, tmp_path: Path) -> None:
    masks = random_masks()
    table = look(write(masks))
    masks[1] = masks[1][:5]
    held = MaskTargets.from_arrays(masks, ["a", "b", "c", "d"])
    facts = read_facts(table, cache_dir=tmp_path / "memory")
    held = held.looked_at(table, facts, workers=0, progress=None, cache_dir=None)
    assert held.usable().tolist() == [True, False, True, True, True, True]
    assert held.names == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), "from_arrays: mask 1: expected [H, W], got [4, 4, 3]."),
        (np.zeros((4, 4)), "from_arrays: mask 1: expected whole numbers, got float64. Convert it to uint8."),
        (
            np.array([[0, 7, 255, -1]]),
            "from_arrays: mask 1: values -1, 7 are no class. Numbers count from 0 to 1; 255 is ignored.",
        ),
    ],
)
def test_masks_in_memory_of_another_form_are_refused(mask: np.ndarray, message: str) -> None:
    with pytest.raises(DataError) as refusal:
        MaskTargets.from_arrays([np.zeros((4, 4), np.uint8), mask], ["a", "b"])
    assert str(refusal.value).startswith(message)


# ---- real data ----


def test_real_masks_are_read_without_an_error(real_data: Callable[[str], Path], look: Look) -> None:
    table = look(real_data("camvid-small"))
    assert [int((table.parts == part).sum()) for part in ("train", "val", "test", "")] == [367, 101, 0, 0]
    assert len(table.classes) == 11
    assert "void" not in table.classes
    assert table.targets.usable().all()
    assert [problem for problem in (*table.problems, *told(table)) if problem.severity == "error"] == []
    pixels = table.targets.counts(np.arange(len(table)))
    assert 0.9 < sum(pixels.values()) / (468 * 240 * 180) < 1  # the rest is void
    assert len(set(table.targets.strata())) > 1
