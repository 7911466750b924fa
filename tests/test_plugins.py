"""A registry finds what its room registers, once, and answers what it does not know with what it does."""

import sys

import pytest

from trainwright import plugins
from trainwright.errors import UnknownNameError
from trainwright.plugins import Registry


@pytest.fixture
def room(tmp_path, monkeypatch):
    """An importable package with two modules, each of which registers one thing in `room_of_tests.things`."""
    package = tmp_path / "room_of_tests"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from trainwright.plugins import Registry\n"
        "things = Registry(name='things', what='optimizer', where='optimizer.name', room='room_of_tests')\n"
    )
    for name in ("adam", "sgd"):
        (package / f"{name}.py").write_text(
            f'from room_of_tests import things\n\n\n@things.register("{name}")\ndef build(): return "{name}"\n'
        )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("room_of_tests")]:
        del sys.modules[name]


def test_a_module_in_the_room_is_found_without_being_named_anywhere(room):
    from room_of_tests import things

    assert things.names() == ["adam", "sgd"]
    assert things.get("sgd")() == "sgd"


def test_the_modules_of_a_room_are_loaded_when_a_name_is_first_looked_up(room):
    from room_of_tests import things

    before = "room_of_tests.adam" in sys.modules
    things.get("adam")

    assert (before, "room_of_tests.adam" in sys.modules) == (False, True)


def test_an_unknown_name_is_answered_with_the_nearest_and_all(room):
    from room_of_tests import things

    with pytest.raises(UnknownNameError) as caught:
        things.get("adan")

    assert str(caught.value) == (
        "optimizer.name: no such optimizer 'adan'. Did you mean 'adam'? Known optimizers: adam, sgd."
    )


def test_checking_a_name_loads_no_module_of_the_room(room):
    from room_of_tests import things

    things.check("adam")
    with pytest.raises(UnknownNameError) as caught:
        things.check("adan")

    assert str(caught.value) == (
        "optimizer.name: no such optimizer 'adan'. Did you mean 'adam'? Known optimizers: adam, sgd."
    )
    assert "room_of_tests.adam" not in sys.modules


def test_a_name_is_registered_once():
    things: Registry[int] = Registry(name="things", what="loss", where="loss.name", room="trainwright.report")
    things.register("hinge")(1)

    with pytest.raises(ValueError, match=r"^loss 'hinge' is registered twice$"):
        things.register("hinge")(2)


def test_registering_gives_the_thing_back():
    things: Registry[type] = Registry(name="things", what="loss", where="loss.name", room="trainwright.report")

    assert things.register("int")(int) is int


def test_a_room_that_fails_to_load_fails_every_time(room, tmp_path):
    (tmp_path / "room_of_tests" / "broken.py").write_text("raise ImportError('no such library')\n")
    from room_of_tests import things

    for _ in range(2):
        with pytest.raises(ImportError, match="no such library"):
            things.names()


REGISTRIES = {name: thing for name, thing in vars(plugins).items() if isinstance(thing, Registry)}


@pytest.mark.parametrize(
    ("registry", "name"),
    [("optimizers", "adamw"), ("schedules", "cosine"), ("losses", "cross-entropy"), ("tasks", "classification")],
)
def test_the_names_that_recipes_use_are_there(registry, name):
    assert name in REGISTRIES[registry].names()


@pytest.mark.parametrize("registry", REGISTRIES)
def test_checking_without_loading_knows_every_name_that_loading_finds(registry):
    for name in REGISTRIES[registry].names():
        REGISTRIES[registry].check(name)

    with pytest.raises(UnknownNameError) as loaded:
        REGISTRIES[registry].get("no such")
    with pytest.raises(UnknownNameError) as unloaded:
        REGISTRIES[registry].check("no such")
    assert str(unloaded.value) == str(loaded.value)


def test_looking_up_a_name_loads_no_neighbour_of_its_module(room, tmp_path):
    (tmp_path / "room_of_tests" / "broken.py").write_text("raise ImportError('no such library')\n")
    from room_of_tests import things

    assert things.get("sgd")() == "sgd"
    assert "room_of_tests.adam" not in sys.modules
