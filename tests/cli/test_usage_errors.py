"""Slips of the keyboard: exit code 2, told what is meant, before anything heavy is loaded and before anything is written."""

import json
import subprocess
import sys

import pytest

WRONG = {
    "unknown option": ["train", "photos", "--epoch", "3"],
    "unknown command": ["trian", "photos"],
    "no data": ["train"],
    "wrong number": ["train", "photos", "--epochs", "many"],
    "number out of range": ["train", "photos", "--epochs", "0"],
    "wrong value": ["train", "photos", "--set", "optimizer.lr=-1"],
    "no value": ["train", "photos", "--set", "optimizer.lr"],
    "unknown key": ["train", "photos", "--set", "optimiser.lr=1"],
    "a section": ["train", "photos", "--set", "optimizer=adam"],
    "no such recipe file": ["train", "photos", "--recipe", "absent.yaml"],
    "unknown published recipe": ["recipes", "show", "storry"],
    "unknown subcommand": ["runs", "lst"],
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG.keys())
def test_wrong_usage_ends_with_2_and_says_why_on_stderr(cli, arguments):
    done = cli(*arguments)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG.keys())
def test_wrong_usage_is_one_json_object_for_programs(cli, arguments):
    done = cli(*arguments, "--json")

    assert done.code == 2
    assert list(done.json) == ["schema", "kind", "message", "where", "cure"]
    assert done.json["schema"] == "trainwright.error/1"
    assert done.json["kind"] in ("usage", "recipe", "unknown-name")
    assert done.json["message"] in done.err


MEANT = {
    "optimizer": (["--set", "optimizer.name=adanw"], "Did you mean 'adamw'?"),
    "schedule": (["--set", "schedule.name=cosin"], "Did you mean 'cosine'?"),
    "loss": (["--set", "loss.name=cross-entrpy"], "Did you mean 'cross-entropy'?"),
    "network": (["--set", "network.name=resnet81"], "Did you mean 'resnet18'?"),
    "recipe": (["--recipe", "storry"], "Did you mean 'story'?"),
    "key": (["--set", "optimizer.lrr=1"], "Did you mean 'optimizer.lr'?"),
    "key without its section": (["--set", "lr=1"], "Did you mean 'optimizer.lr'?"),
    "option": (["--epoch", "3"], "--epochs"),
    "mirror": (["--mirrors", "mlfow"], "mlflow"),
}


@pytest.mark.parametrize(("options", "hint"), MEANT.values(), ids=MEANT.keys())
def test_a_name_that_does_not_exist_is_answered_with_the_one_that_was_meant(cli, digits, tmp_path, options, hint):
    done = cli("train", digits, *options, "--runs", tmp_path / "runs")

    assert done.code == 2
    assert hint in done.err
    assert not (tmp_path / "runs").exists()


def test_a_command_that_does_not_exist_is_answered_with_the_one_that_was_meant(cli):
    assert "Did you mean 'train'?" in cli("trian", "photos").err


@pytest.mark.parametrize("command", ["lr", "train", "improve", "tune", "inspect"])
@pytest.mark.parametrize(("option", "value", "other"), [("task", "detection", "regression"), ("seed", "1", "2")])
def test_an_option_and_a_set_that_contradict_each_other_are_refused(cli, digits, command, option, value, other):
    more = ["--more-data"] if command == "inspect" else []

    done = cli(command, digits, f"--{option}", value, "--set", f"{option}={other}", *more)

    assert done.code == 2
    assert (
        f"--{option}: {option} is given twice: {value} by --{option}, {other} by --set. Leave one of them out."
        in done.err
    )


def test_several_unknown_keys_are_told_at_once(cli):
    done = cli("train", "photos", "--set", "optimizer.lrr=1", "--set", "epoch=3")

    assert "optimizer.lrr" in done.err
    assert "epoch: no such key" in done.err


PROGRAM = """
import json, sys
from trainwright.cli.main import main
code = main(json.loads(sys.argv[1]))
print(json.dumps({"code": code, "torch": "torch" in sys.modules}))
"""


@pytest.mark.parametrize(
    "options",
    [
        ["--set=optimizer.name=adanw"],
        ["--set=network.name=resnet81"],
        ["--recipe=storry"],
        ["--set=epochs=none"],
        ["--set=network.weights=absent.pth", "--set=network.name=resnet18"],
        ["--mirrors=mlfow"],
        [],
    ],
    ids=" ".join,
)
def test_what_is_wrong_is_told_without_waiting_for_torch(options, tmp_path):
    command = ["train", str(tmp_path / "absent"), *options]

    done = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(command)], capture_output=True, text=True)

    assert json.loads(done.stdout)["torch"] is False
    assert json.loads(done.stdout)["code"] in (1, 2, 3)
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("command", ["inspect", "train"])
def test_data_that_is_not_there_ends_with_3_and_its_path(cli, command, tmp_path):
    done = cli(command, tmp_path / "absent", "--json")

    assert done.code == 3
    assert done.json["kind"] == "data"
    assert str(tmp_path / "absent") in done.err


def test_data_that_cannot_be_trained_on_ends_with_3(cli, tmp_path):
    (tmp_path / "data" / "cats").mkdir(parents=True)

    done = cli("train", tmp_path / "data", "--runs", tmp_path / "runs", "--json")

    assert (done.code, done.json["schema"]) == (3, "trainwright.error/1")
    assert not (tmp_path / "runs").exists()


def test_pretrained_weights_without_a_network_name_the_weights_and_three_ways_out(tmp_path, digits):
    import os

    inherited = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment = {**inherited, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    command = ["train", str(digits), "--set", "network.name=resnet18", "--set", "network.weights=pretrained", "--json"]

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(command)], capture_output=True, text=True, env=environment
    )

    error, after = (json.loads(line) for line in done.stdout.splitlines())
    assert after == {"code": 1, "torch": False}
    assert error["kind"] == "weights"
    assert "'resnet18'" in error["message"]
    assert str(tmp_path / "hub") in error["message"]
    assert "http://127.0.0.1:9 cannot be reached" in error["message"]
    assert [f"({number})" in error["cure"] for number in (1, 2, 3)] == [True] * 3
