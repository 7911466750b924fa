"""What every command says of itself."""

import re

import pytest

COMMANDS = [
    [],
    ["inspect"],
    ["lr"],
    ["train"],
    ["improve"],
    ["tune"],
    ["finalise"],
    ["resume"],
    ["demo"],
    ["diagnose"],
    ["report"],
    ["export"],
    ["explain"],
    ["register"],
    ["reproduce"],
    ["slices"],
    ["predict"],
    ["sync"],
    ["ui"],
    ["runs"],
    ["runs", "list"],
    ["runs", "show"],
    ["runs", "compare"],
    ["runs", "best"],
    ["recipes"],
    ["recipes", "list"],
    ["recipes", "show"],
    ["recipes", "choose"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_ends_well_with_an_example(cli, command):
    done = cli(*command, "--help")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: {' '.join(['trainwright', *command])} ")
    assert re.search(rf"^ +{' '.join(['trainwright', *command])} *", done.out.partition("Example")[2], re.MULTILINE)


def test_every_command_is_examined_here(cli):
    listed = cli("--help").out.partition("Commands:")[2].partition("Examples:")[0]

    assert set(re.findall(r"^  (\w+) ", listed, re.MULTILINE)) == {command[0] for command in COMMANDS if command}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_short_form_of_help_says_the_same(cli, command):
    assert cli(*command, "-h").out == cli(*command, "--help").out


@pytest.mark.parametrize(
    "command",
    [
        ["lr"],
        ["train"],
        ["resume"],
        ["inspect"],
        ["export"],
        ["register"],
        ["reproduce"],
        ["slices"],
        ["predict"],
        ["demo"],
    ],
    ids=" ".join,
)
def test_commands_that_take_long_can_be_quiet_and_speak_json(cli, command):
    text = cli(*command, "--help").out

    assert "--quiet" in text
    assert "--json" in text


def test_the_version_is_that_of_the_package(cli):
    import trainwright

    assert cli("--version").out == f"trainwright {trainwright.__version__}\n"


def test_the_summary_of_commands_is_not_cut_off(cli):
    summaries = [cli(*command, "--help").out.partition("Commands:")[2] for command in ([], ["runs"], ["recipes"])]

    assert [summary.count("...") for summary in summaries] == [0, 0, 0]


def test_no_command_at_all_shows_the_help(cli):
    done = cli()

    assert done.code == 2
    assert "Commands:" in done.out + done.err
