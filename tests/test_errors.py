"""The exception tree is the one that is drawn, each exception is what a caller would try, and the texts say the cure."""

import builtins
import inspect
import pickle
import re

import pytest

from trainwright import errors
from trainwright.errors import (
    DataError,
    MissingPackageError,
    OutOfResourcesError,
    RecipeError,
    TrainwrightError,
    UnknownNameError,
    WeightsError,
    did_you_mean,
    unknown_name,
)

CLASSES = [thing for thing in vars(errors).values() if inspect.isclass(thing) and issubclass(thing, TrainwrightError)]


def drawn_tree() -> dict[str, tuple[str | None, str | None, int]]:
    """Name → (parent, built-in, exit code), read from the drawing at the top of the module."""
    tree: dict[str, tuple[str | None, str | None, int]] = {}
    above: list[str] = []
    for line in inspect.getdoc(errors).splitlines():
        found = re.match(r"([│├└─ ]*)(\w+Error)(?: \((\w+)\))? +exit (\d)", line)
        if found:
            branch, name, builtin, code = found.groups()
            depth = len(branch) // 3
            above[depth:] = [name]
            tree[name] = (above[depth - 1] if depth else None, builtin, int(code))
    return tree


def test_the_drawing_names_every_class_and_no_other():
    assert set(drawn_tree()) == {cls.__name__ for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_class_stands_where_it_is_drawn(cls):
    parent, builtin, code = drawn_tree()[cls.__name__]

    bases = [base.__name__ for base in cls.__bases__]

    assert bases == [name for name in (parent or "Exception", builtin) if name]
    assert builtin is None or issubclass(cls, getattr(builtins, builtin))
    assert cls.exit_code == code


def test_every_kind_is_a_word_of_its_own():
    kinds = [cls.kind for cls in CLASSES]

    assert len(set(kinds)) == len(kinds)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", kind) for kind in kinds)


def test_the_text_says_where_what_and_cure():
    error = DataError("holds no images.", where="photos", cure="Give a folder of class folders.")

    assert str(error) == "photos: holds no images. Give a folder of class folders."


def test_the_text_of_an_error_without_place_and_cure_is_its_message():
    assert str(TrainwrightError("something failed.")) == "something failed."


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_survives_the_way_from_another_process(cls):
    error = cls("no space.", where="runs", cure="Free some.")

    arrived = pickle.loads(pickle.dumps(error))

    assert type(arrived) is cls
    assert (str(arrived), arrived.where, arrived.cure) == ("runs: no space. Free some.", "runs", "Free some.")


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (RecipeError, ValueError),
        (UnknownNameError, LookupError),
        (OutOfResourcesError, MemoryError),
        (WeightsError, OSError),
        (MissingPackageError, ImportError),
    ],
)
def test_the_built_in_that_a_caller_would_try_catches_it(cls, builtin):
    with pytest.raises(builtin, match="it is so"):
        raise cls("it is so")


def test_an_unknown_name_is_answered_with_the_nearest_one_and_all_of_them():
    error = unknown_name("adanw", ["sgd", "adamw", "adam"], where="optimizer.name")

    assert str(error) == ("optimizer.name: no such name 'adanw'. Did you mean 'adamw'? Known names: adam, adamw, sgd.")


def test_an_unknown_name_that_is_near_to_nothing_is_answered_with_all_names():
    error = unknown_name("zzz", ["adam", "sgd"], where="optimizer.name", what="optimizer")

    assert str(error) == "optimizer.name: no such optimizer 'zzz'. Known optimizers: adam, sgd."


def test_did_you_mean_says_nothing_when_nothing_is_known():
    assert did_you_mean("adam", []) == ""
