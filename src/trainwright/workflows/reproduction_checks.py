"""What differs between a recorded training and one about to repeat it, looked for before it starts: the likely causes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from trainwright.data.memory import Facts
from trainwright.data.problems import counted, few
from trainwright.recipe import RANDOM, Recipe
from trainwright.tracking.run_folder import RunFolder
from trainwright.training.device import computes
from trainwright.training.names import CUSTOM
from trainwright.training.ranks import batch_norms
from trainwright.workflows.compare import flat_values
from trainwright.workflows.crew import processes_of
from trainwright.workflows.manifest import machine, packages, sources_sha256, start_sha256
from trainwright.workflows.prepare import Prepared
from trainwright.workflows.recorded_images import changed_images, changed_pixels, images_of, recorded_images
from trainwright.workflows.run import recipe_of

UNCONCERNED = ("mlflow", "tensorboard")  # they copy the record, in a process of their own
BEFORE_ANY = ("torch", "torchvision", "timm")  # packages that compute, named before those that read or describe
SHOWN = 12  # letters of a hash: enough to tell two apart
ABSENT = "not there"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something that is not as it was. then, now: plain JSON.

    another: whether this makes it another training, as other images or another recipe do; otherwise the same training is
    computed in another way, as by another number of threads, and may end in other last bits. said: a sentence.
    """

    what: str
    then: Any
    now: Any
    another: bool
    said: str
    details: Mapping[str, Any] = field(default_factory=dict)


def differences(
    folder: RunFolder,
    prepared: Prepared,
    *,
    remembered: Mapping[str, Facts] | None = None,
    weights_given: bool = False,
    processes: int = 1,
) -> tuple[Difference, ...]:
    """All that is recorded of a finished run and differs now, the likeliest causes first.

    prepared: what is about to train, under the thread count that it will train with. remembered: what was known of the data's
    files before they were read again. weights_given: somebody said where the weights to start from lie now. processes: that
    will train it.
    """
    recipe = tuple(_recipe(folder, weights_given=weights_given))
    return (
        *_data(folder, prepared, remembered or {}),
        *recipe,
        *_start(folder.manifest, prepared, seed_differs=any(one.what == "seed" for one in recipe)),
        *_processes(folder.manifest, prepared, processes),
        *_code(folder.manifest),
        *_machine(folder.manifest, prepared),
        *_packages(folder.manifest),
    )


def _data(folder: RunFolder, prepared: Prepared, remembered: Mapping[str, Facts]) -> Iterator[Difference]:
    then, now = folder.manifest["dataset"], prepared.dataset
    split_then, split_now = folder.manifest["split"]["digest"], prepared.split.digest
    if list(now.classes) != list(then["classes"]):
        gone, added = ([name for name in one if name not in other] for one, other in _both_ways(then, now.classes))
        said = "; ".join(f"{few(names)} {what}" for names, what in ((gone, "gone"), (added, "new")) if names)
        yield Difference(
            what="classes",
            then=list(then["classes"]),
            now=list(now.classes),
            another=True,
            said=f"the classes are others than then: {said or 'their order changed'}",
        )
    if now.digest != then["fingerprint"]:
        which, details = _changed(folder, prepared, remembered)
        same_content = split_then == split_now
        how = "the images of each part and their targets are the same, under other names" if same_content else which
        yield Difference(
            what="data",
            then=then["fingerprint"],
            now=now.digest,
            another=not same_content,
            said=f"the data has changed since: {how}",
            details=details,
        )
    elif split_then != split_now:
        which = _changed(folder, prepared, {})[0]
        said = f"the same data is split otherwise: {which}"
        yield Difference(what="split", then=split_then, now=split_now, another=True, said=said)


def _both_ways(then: Mapping[str, Any], classes: tuple[str, ...]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    return (then["classes"], classes), (classes, then["classes"])


def _changed(folder: RunFolder, prepared: Prepared, remembered: Mapping[str, Facts]) -> tuple[str, dict[str, Any]]:
    """(which images, in words; the same as JSON), as far as the record allows."""
    recorded = recorded_images(folder)
    if recorded is not None:
        found = changed_images(recorded, images_of(prepared.dataset, prepared.split))
        said = found.said() or "no image, its target or its part; what a part was given by is not kept image by image"
        return said, found.as_json()
    fingerprint = folder.manifest["dataset"]["fingerprint"]
    pixels = changed_pixels(prepared.dataset, remembered, fingerprint)
    if pixels is not None:
        have = "has" if len(pixels) == 1 else "have"
        said = (
            f"{counted(len(pixels), 'image')} {have} other pixels: {few(pixels)} (known from the cache of fingerprints)"
        )
        return said, {"pixels": {"count": len(pixels), "paths": pixels[:100]}}
    return f"which images is not known, as this run keeps no list of them; {_told(folder, prepared)}", {}


def _told(folder: RunFolder, prepared: Prepared) -> str:
    """What the record of a run without a list of images tells of them: counts, and the names of those it was judged on."""
    then, now = folder.manifest["dataset"]["counts"], prepared.dataset.counts
    counts = [
        f"{name} ({part}): {then.get(part, {}).get(name, 0):,} then, {now.get(part, {}).get(name, 0):,} now"
        for part in {**then, **now}
        for name in {**then.get(part, {}), **now.get(part, {})}
        if then.get(part, {}).get(name, 0) != now.get(part, {}).get(name, 0)
    ]
    file, gone = folder.path / "answers" / "val.npz", []
    if file.is_file():
        with np.load(file, allow_pickle=False) as saved:
            known = set(prepared.dataset.table.paths)
            gone = [path for path in saved["paths"].tolist() if path not in known]
    said = [few(counts)] if counts else ["there are as many of each class as then"]
    return "; ".join([*said, *([f"gone from the validation part: {few(gone)}"] if gone else [])])


def _recipe(folder: RunFolder, *, weights_given: bool) -> Iterator[Difference]:
    """Where recipe.yaml, which is trained, says something else than the result and the seeds that were recorded with it."""
    now = flat_values(recipe_of(folder).model_dump(mode="json"))
    then = flat_values((folder.result() or {}).get("recipe") or {})
    then |= {"seed": folder.manifest["seeds"]["recipe"], "data.split_seed": folder.manifest["seeds"]["split"]}
    for key in sorted(then.keys() & now.keys(), key=lambda key: key != "seed"):
        if then[key] != now[key] and not (weights_given and key == "network.weights"):
            yield Difference(
                what=key,
                then=then[key],
                now=now[key],
                another=True,
                said=f"recipe.yaml says {key} {now[key]}, the run was trained with {then[key]}",
            )


def _start(manifest: Mapping[str, Any], prepared: Prepared, *, seed_differs: bool) -> Iterator[Difference]:
    """Weights that the network starts from, of runs that keep their hash. Another seed draws others: it says so itself."""
    then = (manifest.get("start") or {}).get("sha256")
    recipe = prepared.recipe
    now = start_sha256(prepared.model.network) if then is not None else None
    if then == now or (seed_differs and _drawn(recipe)):
        return
    said = "the network starts from other weights than then"
    if recipe.network.name == CUSTOM:
        said = "the network given starts from other weights than the one then, or is another one"
    elif recipe.network.weights != RANDOM:
        said = f"the weights that the network starts from ({recipe.network.weights}) are others than then"
    yield Difference(what="starting weights", then=then, now=now, another=not _drawn(recipe), said=said)


def _drawn(recipe: Recipe) -> bool:
    """Whether the first weights are random numbers of ours: others of them are what another seed would give."""
    return recipe.network.weights == RANDOM and recipe.network.name != CUSTOM


def _code(manifest: Mapping[str, Any]) -> Iterator[Difference]:
    then, now = manifest["code"]["sources_sha256"], sources_sha256()
    if then != now:
        said = f"trainwright's own code has changed since (sources {then[:SHOWN]} then, {now[:SHOWN]} now)"
        yield Difference(what="code", then=then, now=now, another=False, said=said)


def _machine(manifest: Mapping[str, Any], prepared: Prepared) -> Iterator[Difference]:
    """Device, its kind, threads and precision. What is not recorded, as by older versions, is not compared."""
    then, now = dict(manifest["machine"]), machine(prepared.device)
    named = {
        "device": "device",
        "gpu": "GPU",
        "processor": "processor",
        "instructions": "processor instructions",
        "torch_threads": "threads",
    }
    then["device"], now["device"] = (str(of["device"]).partition(":")[0] for of in (then, now))
    on_gpu = then["device"] == now["device"] == "cuda"
    others = False
    for key, what in named.items():
        if then.get(key) in (None, now.get(key)) or (key == "gpu" and not on_gpu):
            continue
        others = others or key != "torch_threads"
        yield Difference(
            what=what,
            then=then[key],
            now=now.get(key),
            another=False,
            said=f"{what}: {then[key]} then, {now.get(key)} now",
        )
    precision = prepared.recipe.precision
    if others and not computes(precision, torch.device(prepared.device)):
        yield Difference(
            what="precision",
            then=precision,
            now=precision,
            another=False,
            said=f"the run was trained in {precision}, for which this {now['device']} has no instructions: it rounds elsewhere",
        )


def _processes(manifest: Mapping[str, Any], prepared: Prepared, now: int) -> Iterator[Difference]:
    """How many share each step: sums in another order, and where batch norm is in the network, of other images."""
    then, norms = processes_of(manifest), bool(batch_norms(prepared.model))
    if then != now:
        why = ", and batch norm sees other images at a time" if norms else ""
        said = f"processes that share each step: {then} then, {now} now{why}"
        yield Difference(what="processes", then=then, now=now, another=norms, said=said)


def _packages(manifest: Mapping[str, Any]) -> Iterator[Difference]:
    then, now = manifest["packages"], packages()
    names = [name for name in {**then, **now} if name not in UNCONCERNED and then.get(name) != now.get(name)]
    for name in sorted(names, key=lambda name: name not in BEFORE_ANY):
        versions = then.get(name, ABSENT), now.get(name, ABSENT)
        yield Difference(
            what=name,
            then=then.get(name),
            now=now.get(name),
            another=False,
            said=f"{name}: {versions[0]} then, {versions[1]} now",
        )
