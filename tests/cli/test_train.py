"""`train`, `resume` and `demo` from the command line: what is printed where, what is written, how it ends."""

import errno

import pytest
from torch import nn

import trainwright as tw
from trainwright import files
from trainwright.training import batch_size
from trainwright.workflows import judge
from trainwright.workflows import run as workflow


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing takes five times as long as training; tests/workflows looks at the pictures."""
    monkeypatch.setattr(judge, "_draw", lambda *arguments: None)


def test_a_training_prints_a_page_and_tells_its_progress_on_stderr(cli, digits, small, tmp_path):
    done = cli("train", digits, *small, "--epochs", 2, "--runs", tmp_path / "runs")

    (run,) = tw.list_runs(tmp_path / "runs")
    assert done.code == 0
    heads = [line.split()[0] for line in done.out.splitlines() if line[:1].strip()]
    assert heads[:5] == ["run", "accuracy", "classes", "gap", "verdict"]
    assert run.run_id in done.out
    assert "epoch 1/2" in done.err
    assert "epoch 2/2" in done.err
    assert "epoch 2/2" not in done.out


def test_json_is_one_object_and_the_one_in_the_run_folder(cli, digits, small, tmp_path):
    done = cli("train", digits, *small, "--epochs", 1, "--runs", tmp_path / "runs", "--json")

    assert next(iter(done.json.items())) == ("schema", "trainwright.run/1")
    assert done.json == tw.open_run("last", tmp_path / "runs").result
    assert done.out.count("\n") == 1


def test_quiet_prints_nothing_on_stderr(cli, digits, small, tmp_path):
    done = cli("train", digits, *small, "--epochs", 1, "--runs", tmp_path / "runs", "--quiet")

    assert (done.code, done.err) == (0, "")
    assert done.out != ""


def test_nothing_is_coloured(cli, digits, small, tmp_path):
    done = cli("train", digits, *small, "--epochs", 1, "--runs", tmp_path / "runs")

    assert "\x1b" not in done.out + done.err


def test_options_become_the_recipe_and_the_command_is_recorded(cli, digits, small, tmp_path):
    cli("train", digits, *small, "--epochs", 1, "--seed", 7, "--set", "augment.flip=0.25", "--runs", tmp_path / "runs")

    run = tw.open_run("last", tmp_path / "runs")
    assert (run.recipe.epochs, run.recipe.seed, run.recipe.augment.flip) == (1, 7, 0.25)


def test_a_dry_run_shows_the_whole_recipe_and_writes_nothing(cli, digits, small, tmp_path):
    done = cli("train", digits, *small, "--dry-run", "--runs", tmp_path / "runs")

    (tmp_path / "shown.yaml").write_text(done.out)
    recipe = tw.load_recipe(tmp_path / "shown.yaml")
    assert done.code == 0
    assert (recipe.task, recipe.network.width) == ("classification", 8)
    assert "train 102, val 26, test 22 images" in " ".join(done.out.split()) or "# train " in done.out
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_for_programs_is_one_object(cli, digits, small, tmp_path):
    done = cli("train", digits, *small, "--dry-run", "--json", "--runs", tmp_path / "runs")

    assert done.json["schema"] == "trainwright.plan/1"
    assert sum(done.json["images"].values()) == 150
    assert done.json["recipe"]["task"] == "classification"


@pytest.mark.parametrize("name", ["mine.yaml", "mine"])
def test_a_recipe_file_is_taken_whatever_it_is_called(cli, digits, small, tmp_path, name):
    (tmp_path / name).write_text("title: my own\nepochs: 3\n")

    done = cli("train", digits, *small, "--recipe", tmp_path / name, "--dry-run", "--json")

    assert (done.json["recipe"]["title"], done.json["recipe"]["epochs"]) == ("my own", 3)


def test_a_setting_of_the_environment_gives_way_to_an_option(cli, digits, small, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINWRIGHT_RUNS", str(tmp_path / "of the environment"))

    cli("train", digits, *small, "--epochs", 1)
    cli("train", digits, *small, "--epochs", 1, "--runs", tmp_path / "asked for")

    assert [len(tw.list_runs(tmp_path / name)) for name in ("of the environment", "asked for")] == [1, 1]


def test_a_csv_file_is_trained_on(cli, digits, small, tmp_path):
    rows = [f"{file.relative_to(digits.parent)},{file.parent.name}" for file in sorted(digits.rglob("*.png"))]
    table = digits.parent / "labels.csv"
    table.write_text("\n".join(["path,digit", *rows]))

    done = cli("train", table, "--target", "digit", *small, "--epochs", 1, "--runs", tmp_path / "runs", "--json")

    assert (done.code, done.json["metric"]) == (0, "accuracy")


def test_a_loss_that_is_not_a_number_ends_with_1_and_the_cure(cli, digits, small, tmp_path):
    wild = ["--set=optimizer.name=sgd", "--set=optimizer.lr=1e30", "--set=clip_norm=null"]

    done = cli("train", digits, *small, *wild, "--runs", tmp_path / "runs", "--json")

    assert done.code == 1
    assert done.json["kind"] == "non-finite-loss"
    assert "optimizer.lr" in done.json["cure"]
    assert "Traceback" not in done.err


def test_a_full_disk_ends_with_5_and_the_run_resumes(cli, digits, small, tmp_path, monkeypatch):
    def full(path, data):
        raise files.explain_full_disk(OSError(errno.ENOSPC, "No space left on device"), path)

    command = ["train", digits, *small, "--epochs", 1, "--runs", tmp_path / "runs"]
    with monkeypatch.context() as patched:
        patched.setattr("trainwright.training.checkpoint.write_atomically", full)
        failed = cli(*command, "--json")
    resumed = cli("resume", "last", "--runs", tmp_path / "runs", "--mirrors=none", "--json")

    assert (failed.code, failed.json["kind"]) == (5, "out-of-resources")
    assert "Free some space, then resume." in failed.err
    assert (resumed.code, resumed.json["epochs"]) == (0, 1)


def test_memory_that_runs_out_ends_with_5(cli, monkeypatch, digits, small, tmp_path):
    def out_of_memory(*arguments, **more):
        raise MemoryError

    monkeypatch.setattr(workflow, "prepare", out_of_memory)

    done = cli("train", digits, *small, "--runs", tmp_path / "runs", "--json")

    assert (done.code, done.json["kind"]) == (5, "out-of-resources")


def test_a_folder_that_cannot_be_written_ends_with_1_and_its_name(cli, digits, small, tmp_path):
    (tmp_path / "runs").write_text("a file in the way")

    done = cli("train", digits, *small, "--runs", tmp_path / "runs", "--json")

    assert done.code == 1
    assert str(tmp_path / "runs") in done.err
    assert "Traceback" not in done.err


class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3 * 16 * 16, 3)

    def forward(self, images_NCHW):
        return self.head(images_NCHW.flatten(1))


def test_a_network_of_ones_own_cannot_be_resumed_from_here_and_is_told_how(cli, digits, tmp_path):
    recipe = tw.Recipe().changed({"data.image_size": 16, "epochs": 3})
    tw.train(digits, recipe, model=Mine(), runs=tmp_path, mirrors=(), stop_asked=lambda: True)

    done = cli("resume", "last", "--runs", tmp_path, "--mirrors=none")

    assert done.code == 2
    assert "tw.resume(run, model=model)" in done.err


def test_resuming_a_finished_run_prints_its_result(cli, two_runs, runs):
    done = cli("resume", "last", "--runs", runs, "--mirrors=none", "--json")

    assert done.json == two_runs[1].result


def test_resuming_nothing_is_told(cli, tmp_path):
    done = cli("resume", "last", "--runs", tmp_path)

    assert done.code == 1
    assert "no such run 'last'" in done.err


def test_an_error_nobody_foresaw_is_not_hidden(cli, monkeypatch, digits, small, tmp_path):
    def broken(*arguments, **more):
        raise AssertionError("our own mistake")

    monkeypatch.setattr(workflow, "prepare", broken)

    with pytest.raises(AssertionError, match="our own mistake"):
        cli("train", digits, *small, "--runs", tmp_path / "runs")


@pytest.mark.slow
def test_the_demo_learns_the_digits(cli, tmp_path):
    done = cli("demo", "--runs", tmp_path / "runs", "--mirrors=none", "--json")

    assert done.code == 0
    assert done.json["score"]["val"] > 0.95
    assert tw.open_run("last", tmp_path / "runs").finished


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_founding_story_overfits(cli, real_data, tmp_path):
    done = cli(
        "train", real_data("cats-dogs"), "--recipe", "story", "--runs", tmp_path / "runs", "--mirrors=none", "--json"
    )

    assert done.json["verdict"] == "overfits"
    assert done.json["score"]["train"] >= 0.86
    assert done.json["gap"]["low"] > 0.05


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_network_of_timm_trains_on_flowers_at_224_pixels(cli, real_data, tmp_path):
    options = ["--set", "network.name=resnet18", "--epochs", 2, "--runs", tmp_path / "runs", "--mirrors=none", "--json"]

    done = cli("train", real_data("flowers12"), *options)

    assert (done.code, done.json["recipe"]["data"]["image_size"], done.json["epochs"]) == (0, 224, 2)


def of_any_size(small):
    """The options without their batch size, which --batch-size would contradict."""
    return [option for option in small if "batch_size" not in option]


@pytest.fixture
def quick_measurement(monkeypatch):
    """Rounds of two timed steps."""
    monkeypatch.setattr(batch_size, "ROUND_SECONDS", 0.0)


def test_a_batch_size_is_measured_and_the_table_shown(cli, digits, small, tmp_path, quick_measurement):
    done = cli(
        "train",
        digits,
        *of_any_size(small),
        "--epochs",
        1,
        "--batch-size",
        "auto",
        "--runs",
        tmp_path / "runs",
        "--json",
    )

    table = done.json["measured"]["batch_size"]
    assert (done.code, done.json["recipe"]["batch_size"]) == (0, table["chosen"])
    assert [row["batch_size"] for row in table["rows"]] == [8]  # of 102 train images 16 would leave six steps an epoch
    assert {"images_per_second", "memory_bytes", "steps_per_epoch"} <= table["rows"][0].keys()
    assert "batch size   images/s" in done.err
    assert "one size alone shows nothing, the recipe's 64 stays" in done.err


def test_a_dry_run_shows_the_table_and_the_number_too(cli, digits, small, tmp_path, quick_measurement):
    done = cli(
        "train", digits, *of_any_size(small), "--batch-size", "auto", "--dry-run", "--json", "--runs", tmp_path / "runs"
    )

    assert done.json["recipe"]["batch_size"] == done.json["measured"]["batch_size"]["chosen"]
    assert "batch size   images/s" in done.err
    assert not (tmp_path / "runs").exists()


def test_a_rate_that_is_given_stays_with_another_batch_size(cli, digits, small):
    """The options of `small` set it."""
    done = cli("train", digits, *of_any_size(small), "--batch-size", 10, "--dry-run", "--json")

    assert (done.json["recipe"]["batch_size"], done.json["recipe"]["optimizer"]["lr"]) == (10, 0.01)


@pytest.mark.slow
def test_another_batch_size_finds_the_rate_anew(cli, digits, small, tmp_path):
    without_lr = [option for option in small if "lr" not in option and "batch_size" not in option]

    done = cli("train", digits, *without_lr, "--batch-size", 8, "--epochs", 4, "--runs", tmp_path / "runs", "--json")

    assert "batch size 8 instead of 64: the learning rate is found anew" in done.err
    assert done.code == 0
    assert done.json["recipe"]["batch_size"] == 8
    assert done.json["lr"]["used"] == done.json["recipe"]["optimizer"]["lr"]


@pytest.mark.parametrize("given", ["0", "-3", "many", "6.4", ""])
def test_a_batch_size_that_is_none_ends_with_2_and_the_cure(cli, digits, given):
    done = cli("train", digits, "--batch-size", given)

    assert done.code == 2
    assert done.err == (
        f"error: --batch-size: expected a number of images from 1 up, or auto, got {given!r}. "
        "For example --batch-size 64.\n"
    )


def test_a_dry_run_for_programs_has_what_was_asked_and_what_the_range_test_found(
    cli, digits, small, monkeypatch, lr_range_of
):
    monkeypatch.setattr("trainwright.workflows.settle.range_of", lambda *_, **__: lr_range_of("found"))

    done = cli("train", digits, *small, "--recipe", "story", "--set=optimizer.lr=null", "--dry-run", "--json")

    assert (done.json["recipe"]["optimizer"]["lr"], done.json["lr_range"]["suggestion"]) == (0.013, 0.013)
    assert done.json["asked"]["recipe"] == "story"
    assert done.json["asked"]["changes"]["optimizer.lr"] is None


def test_help_says_what_becomes_of_the_rate(cli):
    said = " ".join(cli("train", "--help").out.split())

    assert "--set batch_size=N leaves the rate alone" in said
