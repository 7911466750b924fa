"""Pascal VOC: a folder of images beside one of XML files, one an image, at the root, in part folders, or with ImageSets/Main."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from trainwright.data.box_faults import Annotation, RawBox
from trainwright.data.box_layout import (
    BoxRow,
    Pair,
    files_below,
    ignored_parts,
    images_by_stem,
    make_box_table,
    number,
    pairs,
    part_of,
    read_small,
    relative,
    unmatched,
    unpaired,
    without_suffix,
)
from trainwright.data.problems import Problem, counted, few, printable
from trainwright.data.table import SampleTable
from trainwright.errors import DataError

ANNOTATION_FOLDERS = frozenset({"annotations"})
SETS = Path("ImageSets", "Main")
EDGES = ("xmin", "ymin", "xmax", "ymax")


def holds_voc(path: Path) -> bool:
    """Whether a folder has images beside XML files, at its root or in its part folders."""
    found = pairs(path, ANNOTATION_FOLDERS)
    return any(name.lower().endswith(".xml") for pair in found for name in files_below(pair.annotations))


def read_voc(root: Path) -> SampleTable:
    """The table of a Pascal VOC folder: classes are those of all objects. Raises DataError that names every bad file.

    xmin, ymin, xmax and ymax are taken as edges, as torchvision does, though VOC's own count pixels from 1. An image without
    an annotation and an annotation without an image are left out; one without objects is a background image.
    """
    rows: list[BoxRow] = []
    problems = [*unpaired(root, ANNOTATION_FOLDERS), *ignored_parts(root, ANNOTATION_FOLDERS)]
    found: list[str] = []
    for pair in pairs(root, ANNOTATION_FOLDERS):
        rows += _rows(pair, root, problems, found)
    if (sets := _sets(root, found)) and not any(row.part for row in rows):
        rows = list(_in_parts(rows, sets, problems))
    names = {box.label for row in rows for box in row.annotation.boxes if box.label is not None}
    return make_box_table(root, rows, names=names, problems=problems, found=found)


def read_annotation(file: Path, name: str) -> Annotation:
    """The annotation in an XML file, which is called `name` in problems. Raises DataError where it is not one of VOC's."""
    tree = _parsed(file)
    if tree.tag != "annotation":
        raise DataError(f"its root is <{printable(tree.tag)}>, not <annotation>.", where=name)
    return Annotation(
        file=name,
        boxes=tuple(_box(node, place) for place, node in enumerate(tree.iter("object"), 1)),
        width=_pixels(tree.findtext("size/width")),
        height=_pixels(tree.findtext("size/height")),
    )


def _rows(pair: Pair, root: Path, problems: list[Problem], found: list[str]) -> Iterator[BoxRow]:
    """The images of one pair of folders that have an annotation. What is left out is added to `problems`."""
    images = images_by_stem(pair.images, found)
    files = {
        without_suffix(name): pair.annotations / name
        for name in files_below(pair.annotations)
        if name.lower().endswith(".xml")
    }
    no_annotation = [relative(pair.images / images[stem], root) for stem in images.keys() - files.keys()]
    no_image = [relative(files[stem], root) for stem in files.keys() - images.keys()]
    message = (
        "left out: there is no annotation of the same name. Add one, without objects where there is nothing to find."
    )
    problems += unmatched("no-annotation", no_annotation, message)
    message = "left out: there is no image of the same name. Add it, or remove the annotation."
    problems += unmatched("no-image", no_image, message)
    for stem in sorted(images.keys() & files.keys()):
        name = relative(files[stem], root)
        try:
            annotation = read_annotation(files[stem], name)
        except DataError as error:
            found.append(f"{printable(name)}: {error.message}")
            continue
        path = relative(pair.images / images[stem], root)
        yield BoxRow(path=path, annotation=annotation, part=pair.part or part_of(images[stem]))


def _sets(root: Path, found: list[str]) -> dict[str, set[str]]:
    """Names of images by part, as ImageSets/Main lists them; trainval counts where it is not given in two."""
    listed: dict[str, set[str]] = {}
    for part in ("train", "val", "test", "trainval"):
        file = root / SETS / f"{part}.txt"
        if file.is_file():
            try:
                lines = read_small(file).decode("utf-8-sig").splitlines()
            except (DataError, UnicodeDecodeError):
                found.append(f"{relative(file, root)}: cannot be read as UTF-8 text.")
                continue
            listed[part] = {line.split()[0] for line in lines if line.strip()}
    both = listed.pop("trainval", None)
    if both is not None and "train" not in listed:
        listed["train"] = both - listed.get("val", set())
    seen: set[str] = set()
    for part, names in listed.items():
        if again := sorted(names & seen):
            found.append(
                f"{(SETS / part).as_posix()}.txt: {counted(len(again), 'image')} of another part: {few(again)}."
            )
        seen |= names
    return listed if any(listed.values()) else {}


def _in_parts(rows: list[BoxRow], sets: Mapping[str, set[str]], problems: list[Problem]) -> Iterator[BoxRow]:
    """`rows` with their parts; those that no list names are left out."""
    parts = {name: part for part, names in sets.items() for name in names}
    unlisted, known = [], set()
    for row in rows:
        stem = without_suffix(row.path.split("/", 1)[1])  # below the images' folder
        known.add(stem)
        if stem in parts:
            yield BoxRow(path=row.path, annotation=row.annotation, part=parts[stem])
        else:
            unlisted.append(row.path)
    message = f"left out: {SETS.as_posix()} names them in no part. Add them to train.txt, val.txt or test.txt."
    problems += unmatched("no-part", unlisted, message)
    message = f"{SETS.as_posix()} names images that are not there or have no annotation. Add them, or strike them off."
    problems += unmatched("no-image", parts.keys() - known, message)


def _box(node: ElementTree.Element, place: int) -> RawBox:
    label = unicodedata.normalize("NFC", (node.findtext("name") or "").strip())
    left, top, right, bottom = (number(node.findtext(f"bndbox/{edge}")) for edge in EDGES)
    if not label:
        return RawBox(None, left, top, right, bottom, f"object {place} without a name")
    return RawBox(label, left, top, right, bottom, f"object {place}")


def _pixels(text: str | None) -> int:
    value = number(text)
    return int(value) if value > 0 else 0


class _Plain:
    """What XMLParser builds a tree with, but for documents that declare a type: their entities could grow without bound."""

    def __init__(self) -> None:
        tree = ElementTree.TreeBuilder()
        self.start, self.end, self.data, self.close = tree.start, tree.end, tree.data, tree.close

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise DataError("it declares a document type (DOCTYPE), which is not read. Remove the declaration.")


def _parsed(file: Path) -> ElementTree.Element:
    """The root of an XML file. Raises DataError with the line where it is not well formed."""
    parser = ElementTree.XMLParser(target=_Plain())
    try:
        parser.feed(read_small(file))
        root: ElementTree.Element = parser.close()
    except ElementTree.ParseError as error:
        line, column = error.position
        raise DataError(f"line {line}, column {column + 1}: not XML ({error.msg.split(':')[0]}).") from None
    except (LookupError, ValueError) as error:  # an encoding that is not known
        if isinstance(error, DataError):
            raise
        raise DataError(f"not XML ({error}).") from None
    return root
