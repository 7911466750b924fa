"""Every command on the pages is what the program has, and does what it is printed for: each page is tried from top to bottom."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from markdown_it import MarkdownIt

from trainwright.cli.main import app

ROOT = Path(__file__).parents[2]
APART = ("docs/log.md", "docs/decisions/")  # what was done once, and choices: nobody is told to type anything there
PAGES = sorted(
    name
    for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    if not (name := path.relative_to(ROOT).as_posix()).startswith(APART)
)
SHELL, PYTHON, SHOWN = ("console", "shell"), "python", ("text", "yaml", "json")

# Trainings as printed take minutes to hours. Here a printed duration or count gets this value …
SHORT = {"--epochs": "1", "--budget": "40s", "--trials": "2", "--full-trainings": "2"}
# … and a command that leaves its count to a recipe or to a default gets one.
ADDED = {
    "trainwright train": "--epochs 1",
    "trainwright lr": "--epochs 1",
    "trainwright improve": "--epochs 1",
    "trainwright tune": "--epochs 3",
    "trainwright inspect photos/ --labels": "--epochs 1",
    "trainwright inspect photos --labels": "--epochs 1",
    "trainwright inspect photos --more-data": "--epochs 1",
}
SHORT_PYTHON = {'"epochs": 10': '"epochs": 1'}

# What is not run, and why; it is parsed all the same.
NOT_RUN = {
    "make demo": "eight epochs of 1,797 digits; tests/cli has the demo",
    "make test": "this is one of its tests",
    "pip install": "needs the network",
    "ray start": "needs machines",
    "trainwright tune photos/ --budget 2h --executor ray": "needs that cluster; tests/execution has one",
    "trainwright train photos --recipe finetune-default": "its weights come from the hub",
    "trainwright train photos/ --recipe finetune-default": "its weights come from the hub",
    "trainwright train photos/ --recipe linear-probe": "its weights come from the hub",
    "trainwright train blood-cells --recipe detection-retinanet": "its weights come from the hub",
    "torchrun --nproc-per-node 4": "four processes; tests/workflows/test_processes.py has two",
    "trainwright train photos/ --processes 4": "needs four GPUs; tests/workflows/test_processes.py has two processes",
    "trainwright ui": "serves until Ctrl-C; tests/cli has it",
    "tensorboard --logdir": "serves until Ctrl-C",
    "MLFLOW_TRACKING_URI=": "serves until Ctrl-C; tests/workflows/test_register.py has the server",
}
NOT_RUN_PYTHON = {("docs/export.md", "ask_server.py"): "asks that server; tests/workflows/test_register.py does"}
# What a page takes for granted: done before its first command.
BEFORE = {
    "docs/export.md": "trainwright train photos/ --epochs 1 --quiet",
    "docs/report.md": "trainwright train photos/ --epochs 1 --quiet",
    "docs/reproduce.md": "trainwright train photos/ --epochs 1 --quiet && cp -r runs copied && "
    "trainwright train photos/ --epochs 1 --seed 1 --quiet",
}
# Names that a block of Python leaves to the reader.
GIVEN = {
    ("README.md", 1): """
import itertools, numpy as np, torch, trainwright as tw
from trainwright.batch import Batch
from trainwright.plugins import losses, tasks
from trainwright.recipe import LossSpec
from trainwright.records import TargetInfo
def items(n): return [(torch.rand(3, 16, 16), i % 2) for i in range(n)]
class Items(torch.utils.data.Dataset):
    classes = ("a", "b")
    def __init__(self, n): self.items = items(n)
    def __len__(self): return len(self.items)
    def __getitem__(self, i): return self.items[i]
mine, others = Items(48), Items(24)
class MyNet(torch.nn.Sequential):
    def __init__(self): super().__init__(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 2))
recipe = tw.Recipe().changed({"epochs": 1, "batch_size": 16})
model, device, schedule = MyNet(), torch.device("cpu"), lambda progress: 1.0
task = tasks.get("classification")(TargetInfo(names=("a", "b")), losses.get("cross-entropy")(LossSpec()))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
batches = itertools.repeat(Batch(images_NCHW=torch.rand(8, 3, 16, 16), target=torch.arange(8) % 2, rows_N=np.arange(8)))
"""
}
# Elsewhere there are none: a first MLflow store takes longer than a small training.
MIRRORS = {"docs/how-to/tracking.md": "mlflow,tensorboard"}
# What is printed, where that is the point.
SAYS = {"python model/ask.py photo.jpg": r"photo\.jpg  (cat|dog)  [01]\.\d{3}\n"}
ENDS = {"trainwright lr": (0, 4)}  # of a few made pictures it may be unable to tell, which is an answer


@dataclass(frozen=True)
class Block:
    """One fenced block of a page: its language, its file name where it has one, its text, and which of its language it is."""

    language: str
    title: str
    text: str
    number: int


def blocks(page: str) -> list[Block]:
    found: list[Block] = []
    for token in MarkdownIt("commonmark").parse((ROOT / page).read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            language, _, rest = token.info.partition(" ")
            title = match[1] if (match := re.search(r'title="([^"]+)"', rest)) else ""
            found.append(Block(language, title, token.content, sum(block.language == language for block in found)))
    return found


def commands(block: Block) -> list[str]:
    """What is typed, a line each, without the comment behind it."""
    lines = block.text.splitlines()
    typed = [line[2:] for line in lines if line.startswith("$ ")] if block.language == "console" else lines
    return [re.sub(r"\s+#( .*)?$", "", line) for line in typed if line.strip()]


def printed() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in blocks(page):
            if block.language in SHELL:
                yield from ((page, command) for command in commands(block))


def programs() -> list[tuple[str, Block]]:
    return [(page, block) for page in PAGES for block in blocks(page) if block.language == PYTHON]


def shortened(command: str) -> str:
    """The command with its durations and counts made small."""
    for option, value in SHORT.items():
        command = re.sub(rf"({option}) \S+", rf"\1 {value}", command)
    more = [
        options for start, options in ADDED.items() if command.startswith(start) and options.split()[0] not in command
    ]
    return " ".join([command, *more[:1]])


def reason(command: str) -> str | None:
    return next((why for start, why in NOT_RUN.items() if command.startswith(start)), None)


def calls(command: str) -> list[list[str]]:
    """The words of each program in a line: pipes and redirections divide, variables before a program go."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|>&")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if word in ("|", "&&"):
            parts.append([])
        elif not (not parts[-1] and re.match(r"[A-Z_]+=", word)):
            parts[-1].append(word)
    return [part[: part.index(">")] if ">" in part else part for part in parts]


# ---- what is printed, against what there is: fast ----


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page):
    assert {block.language for block in blocks(page)} <= {*SHELL, PYTHON, *SHOWN}


@pytest.mark.parametrize(("page", "command"), list(printed()), ids=lambda value: value)
def test_every_option_that_is_printed_exists(page, command):
    known = {"trainwright", "make", "pip", "find", "python", "mlflow", "ray", "tensorboard", "torchrun"}
    for words in calls(command):
        assert words[0] in known
        if words[0] == "trainwright":
            parse(words[1:])


@pytest.mark.parametrize(
    ("page", "span"),
    sorted(
        {
            (page, span)
            for page in PAGES
            for span in re.findall(r"`(trainwright [a-z][^`]*)`", (ROOT / page).read_text(encoding="utf-8"))
        }
    ),
    ids=lambda value: value,
)
def test_a_command_within_a_sentence_has_its_options_too(page, span):
    command, path = typer.main.get_command(app), span.split()[1:]
    while path and path[0] in getattr(command, "commands", {}):
        command = command.commands[path.pop(0)]
    options = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}

    assert not hasattr(command, "commands") or path == []
    assert {word.split("=")[0] for word in path if word.startswith("--")} <= options | {"--help"}


def parse(words: list[str]) -> None:
    """Raise where the program has no such command or option, or one of its arguments is missing."""
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    assert not hasattr(command, "commands"), f"no such command: {words}"
    command.make_context("trainwright", list(words))


@pytest.mark.parametrize(("page", "block"), programs(), ids=lambda value: getattr(value, "number", value))
def test_what_a_program_on_a_page_imports_and_names_exists(page, block):
    tree = ast.parse(block.text)
    names: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module != "reader":  # reader.py lies beside an exported model
            module = importlib.import_module(str(node.module))
            names |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
        if isinstance(node, ast.Import):
            imported = {alias.asname or alias.name.split(".")[0]: alias for alias in node.names}
            names |= {
                name: importlib.import_module(alias.name if alias.asname else name) for name, alias in imported.items()
            }
    named = [
        (node.value.id, node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names
    ]

    assert [f"{name}.{attr}" for name, attr in named if not hasattr(names[name], attr)] == []


def test_tables_speak_of_what_is_printed():
    lines = [command for _, command in printed()]
    texts = [block.text for _, block in programs()]
    titles = {(page, key) for page, block in programs() for key in (block.title, block.number)}

    assert [start for start in (*NOT_RUN, *ADDED, *ENDS) if not any(line.startswith(start) for line in lines)] == []
    assert [option for option in SHORT if not any(f"{option} " in line for line in lines)] == []
    assert [part for part in SHORT_PYTHON if not any(part in text for text in texts)] == []
    assert {*NOT_RUN_PYTHON, *GIVEN} <= titles
    assert set(SAYS) <= set(lines)
    assert {*BEFORE, *MIRRORS} <= set(PAGES)


def test_shortening_changes_durations_and_counts_alone():
    def rest(command: str) -> str:
        return re.sub(rf" ({'|'.join(SHORT)}) \S+", "", command)

    assert [command for _, command in printed() if rest(shortened(command)) != rest(command)] == []
    assert {options.split()[0] for options in ADDED.values()} <= set(SHORT)


def test_what_is_run_and_what_is_not_is_all_there_is():
    lines = [command for _, command in printed()]

    assert len(lines) > 80
    assert sum(reason(line) is None for line in lines) > len(lines) * 0.7


# ---- the pages, tried from top to bottom: slow ----


@dataclass(frozen=True)
class Step:
    """One thing that a reader of a page does, and how it may end. file, text: what has to be written before."""

    printed: str
    command: str
    codes: tuple[int, ...] = (0,)
    file: str = ""
    text: str = ""


def steps(page: str) -> Iterator[Step]:
    """All that a page has to be done, from top to bottom, without what cannot be run."""
    for block in blocks(page):
        if block.title and block.language not in (PYTHON, *SHELL):
            yield Step(printed=block.title, command="true", file=block.title, text=block.text)
    if page in BEFORE:
        yield Step(printed="what the page takes for granted", command=BEFORE[page])
    for block in blocks(page):
        for command in commands(block) if block.language in SHELL else ():
            if reason(command) is None:
                codes = next((codes for start, codes in ENDS.items() if command.startswith(start)), (0,))
                yield Step(printed=command, command=shortened(command), codes=codes)
        if block.language == PYTHON and (page, block.title) not in NOT_RUN_PYTHON:
            file = block.title or f"block{block.number}.py"
            yield Step(block.text, f"python {file}", file=file, text=program(page, block))


def program(page: str, block: Block) -> str:
    """A block of Python with what it leaves to the reader before it, and with small counts."""
    text = GIVEN.get((page, block.number), "") + block.text
    for count, small in SHORT_PYTHON.items():
        text = text.replace(count, small)
    return text


def carry_out(step: Step, place: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    if step.file:
        (place / step.file).write_text(step.text)
    line = ["bash", "-eo", "pipefail", "-c", step.command]
    return subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, timeout=1800)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", [page for page in PAGES if any(True for _ in steps(page))])
def test_every_command_of_a_page_works_as_printed(page, place, environment):
    environment["TRAINWRIGHT_MIRRORS"] = MIRRORS.get(page, "none")

    for step in steps(page):
        done = carry_out(step, place, environment)

        assert done.returncode in step.codes, f"{page}: {step.printed}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        assert re.fullmatch(SAYS.get(step.printed, r"[\s\S]*"), done.stdout), f"{page}: {step.printed}\n{done.stdout}"
