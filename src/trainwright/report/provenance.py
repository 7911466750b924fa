"""What was asked of a run, and how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainwright.report.markup import Html, element, joined
from trainwright.report.openings import opened
from trainwright.report.tables import Column, rows_of, table
from trainwright.report.values import RunValues
from trainwright.report.wording import command, end_of, moment, recipe_value

GIVEN = "Its data was given by Python code, which has to give it again:"


def asked(values: RunValues) -> Html:
    """The data and every value of the recipe, with where it is from."""
    changed = [one for one in values.recipe if one.given]
    data = values.manifest.get("dataset") or {}
    split = values.manifest.get("split") or {}
    known = {part: f"{part} {split[part]:,}" for part in ("train", "val", "test") if split.get(part)}
    if not values.unseen and "val" in known:
        known["val"] = f"{known['val']} of them"
    parts = ", ".join(known.values())
    named = values.recipe_name or "no published one"
    about = rows_of(
        [
            (
                "data",
                f"{end_of(str((data.get('source') or {}).get('path') or values.data_name), 1)}: {data.get('task', '')}, {parts}",
            ),
            ("published recipe", named),
            ("why that one", "; ".join(values.choice)),
            ("part of", _study(values)),
        ]
    )
    columns = [
        Column(title="value"),
        Column(title="is"),
        Column(title="published" if values.recipe_name else "default"),
        Column(title="set by"),
        Column(title="source", long=True),
    ]

    def rows(some: Sequence[Any]) -> list[list[Any]]:
        return [
            [
                one.key,
                element("code", recipe_value(one.value)),
                element("code", recipe_value(one.published)),
                one.given or ("published recipe" if values.recipe_name else "default"),
                one.source,
            ]
            for one in some
        ]

    against = f"recipe {values.recipe_name}" if values.recipe_name else "the defaults"
    different = (
        table(columns[:4], [row[:4] for row in rows(changed)], caption=f"What differs from {against}")
        if changed
        else element("p", f"Every value is that of {against}.")
    )
    whole = element(
        "details",
        element("summary", f"All {len(values.recipe)} values of the recipe"),
        table(columns, rows(values.recipe), caption="The recipe, every value filled in"),
    )
    return joined([about, different, whole])


def repeated(values: RunValues) -> Html:
    """Commands, seeds, fingerprints and versions; and every look at the test part."""
    manifest = values.manifest
    words = [str(word) for word in manifest.get("command") or ()]
    if words and words[0].endswith((".py", "trainwright")):
        words[0] = "trainwright"
    data, split, seeds = (manifest.get(key) or {} for key in ("dataset", "split", "seeds"))
    again = on_its_data(manifest, "train", folder=values.folder)
    packages = manifest.get("packages") or {}
    code = manifest.get("code") or {}
    return joined(
        [
            [element("p", "The command that made it:"), element("pre", command(*words))] if words else None,
            _reproduced(values, from_files=again is not None) if values.result is not None else None,
            [element("p", "Only trained, from the same data and recipe:"), element("pre", again)] if again else None,
            rows_of(
                [
                    ("seeds", ", ".join(f"{name} {seed}" for name, seed in seeds.items())),
                    ("data fingerprint", element("code", data.get("fingerprint", ""))),
                    ("split", element("code", split.get("digest", ""))),
                    ("weights", element("code", (values.result or {}).get("weights_sha256", ""))),
                    ("code", f"trainwright {code.get('version')}, sources {str(code.get('sources_sha256'))[:12]}"),
                    ("versions", ", ".join(f"{name} {version}" for name, version in packages.items())),
                    ("system", (manifest.get("machine") or {}).get("system")),
                    ("begun", moment(values.created)),
                    ("folder", element("code", end_of(values.folder))),
                ]
            ),
            opened(values.openings),
        ]
    )


def _reproduced(values: RunValues, *, from_files: bool) -> Html:
    """The command that trains a finished run again and says whether the same came out."""
    if not from_files:
        return joined([element("p", GIVEN), element("pre", f'tw.reproduce("{values.folder}", data=…)')])
    said = "Trained again, and compared with this run: identical, within noise, or differs because of what."
    again = command("trainwright", "reproduce", values.folder)
    return joined([element("p", said), element("pre", again)])


def on_its_data(manifest: Mapping[str, Any], verb: str, *more: str, folder: str) -> str | None:
    """The command that does something with a run's data and recipe, as they were read then; None where its data was given by
    Python code. verb: train, improve. more: further options. folder: of the run."""
    source = (manifest.get("dataset") or {}).get("source") or {}
    if not source.get("path"):
        return None
    read = [f"--{name}={source[name]}" for name in ("target", "task") if source.get(name)]
    return command("trainwright", verb, source["path"], *read, "--recipe", f"{folder}/recipe.yaml", *more)


def _study(values: RunValues) -> Html | str | None:
    if values.study is None:
        return None
    name, link = values.study
    return element("a", name, href=link) if link else name
