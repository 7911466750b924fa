"""`import trainwright as tw`: the names that programs rely on."""

import subprocess
import sys

import pytest

import trainwright as tw


def test_the_public_names_are_sorted_and_without_doubles():
    assert tw.__all__ == sorted(set(tw.__all__))


@pytest.mark.parametrize("name", tw.__all__)
def test_every_public_name_is_there(name):
    assert getattr(tw, name).__doc__


def test_the_public_names_are_these():
    assert tw.__all__ == [
        "Dataset",
        "FitSettings",
        "Recipe",
        "Run",
        "RunOptions",
        "Study",
        "TrainwrightError",
        "diagnose",
        "evaluate",
        "explain",
        "export",
        "facts_of",
        "finalise",
        "fit",
        "improve",
        "list_runs",
        "load_recipe",
        "lr_range_test",
        "open_dataset",
        "open_run",
        "predict",
        "recipes",
        "register",
        "reproduce",
        "resume",
        "resume_study",
        "slices_of",
        "sync",
        "train",
        "tune",
        "write_report",
    ]


def test_names_for_type_checkers_are_the_public_ones():
    listed = {name for name in dir(tw) if not name.startswith("_")}

    assert listed == set(tw.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'trainwright' has no attribute 'trian'"):
        _ = tw.trian


def test_importing_loads_nothing_heavy():
    program = (
        "import sys, trainwright; print(sorted({'torch', 'numpy', 'timm', 'mlflow', 'pydantic'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
