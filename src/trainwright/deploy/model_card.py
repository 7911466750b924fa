"""The model card: what a model is, what it was trained on, how good it is and where it fails, for people who were not there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainwright.recipe import NetworkSpec

PIPELINES = {  # names that model hubs sort by
    "classification": "image-classification",
    "segmentation": "image-segmentation",
    "detection": "object-detection",
    "regression": "image-feature-extraction",
}
MAKING = ("backbone", "width", "blocks", "norm")  # keys of a network without which its tensors find no place
MOST_CLASSES = 30  # written out in the tables
UNKNOWN = "unknown"  # licence: nobody but the owner of the data can say it
SAYING = {  # the lines of the card's code that say in words what the answers to the first image mean
    "classification": ('print(about["names"][label[0]], probabilities[0, label[0]])',),
    "regression": ('print(dict(zip(about["names"], values[0].tolist())))',),
    "segmentation": ('print({about["names"][place] for place in set(masks[0].flatten().tolist())})',),
    "detection": (
        'found = [(about["names"][place], float(score)) for place, score in zip(labels[0], scores[0]) if place >= 0]',
        "print(found)",
    ),
}
TO_BE_SAID = "*To be filled in by whoever hands the model on.*"


def model_card(
    *,
    result: Mapping[str, Any],
    manifest: Mapping[str, Any],
    exported: Mapping[str, Any],
    certificate: Mapping[str, Any],
    openings: Sequence[Mapping[str, Any]],
    recipe_yaml: str,
) -> str:
    """Markdown with the front matter of model hubs. It needs no other file to be understood.

    result: `trainwright.run/1`. exported: `trainwright.export/1`. certificate: `trainwright.certificate/1`. openings: of the test
    part, the first one first.
    """
    parts = [
        _front_matter(exported),
        f"# {manifest.get('name') or exported['run']}: {exported['task']}\n\n{_summary(result, exported)}",
        f"## Scores\n\n{_scores(result, exported, openings)}",
        f"## What the diagnosis found\n\n{_findings(result, exported)}",
        f"## Data\n\n{_data(manifest, exported)}",
        f"## Use\n\n{_use(exported)}",
        f"## Parity\n\n{_parity(certificate)}",
        f"## Intended use, and what it is not for\n\n{_intended()}",
        f"## Licence\n\nUnknown: the licences of the data, and of the weights that the training started from, decide what it may "
        f"be. {TO_BE_SAID}",
        f"## How it was trained\n\n{_training(result, manifest, exported)}\n\n```yaml\n{recipe_yaml.strip()}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(exported: Mapping[str, Any]) -> str:
    network = exported["recipe"]["network"]["name"]
    lines = [
        f"license: {UNKNOWN}  # fill in",
        f"pipeline_tag: {PIPELINES.get(exported['task'], 'other')}",
        f"tags: [trainwright, {network}]",
    ]
    return "---\n" + "\n".join(lines) + "\n---"


def _summary(result: Mapping[str, Any], exported: Mapping[str, Any]) -> str:
    height, width = exported["input"]["size"]
    network = exported["recipe"]["network"]
    start = "published weights" if network["weights"] == "pretrained" else f"{network['weights']} weights"
    mirrored = " An answer is the mean of those to the image and to its mirror image." if _mirrors(exported) else ""
    return (
        f"`{network['name']}` from {start}, {result['parameters']:,} parameters, for {_answers(exported)}. It looks at RGB "
        f"images of {height} × {width} pixels.{mirrored} Run `{exported['run']}`, weights SHA-256 "
        f"`{exported['weights_sha256']}`."
    )


def _mirrors(exported: Mapping[str, Any]) -> bool:
    return bool(exported.get("test_time_flip", False))


def _temperature(exported: Mapping[str, Any]) -> float:
    return float(exported.get("temperature", 1.0))


def _nothing_unseen(exported: Mapping[str, Any]) -> bool:
    """Whether the validation images were trained on too."""
    return bool(exported["recipe"].get("data", {}).get("train_on") == "train+val")


def _answers(exported: Mapping[str, Any]) -> str:
    names, task = exported["names"], exported["task"]
    listed = ", ".join(names[:MOST_CLASSES]) + (" …" if len(names) > MOST_CLASSES else "")
    one, several = ("number", "numbers") if task == "regression" else ("class", "classes")
    return f"{task} of {len(names)} {one if len(names) == 1 else several}: {listed}"


def _scores(result: Mapping[str, Any], exported: Mapping[str, Any], openings: Sequence[Mapping[str, Any]]) -> str:
    metric, interval = result["metric"], result["intervals"]["score"]
    rows = ["| images | score | 95 % interval |", "|---|---|---|"]
    if openings:
        test = openings[0]["test"]
        rows.append(f"| test ({openings[0]['images']:,} images) | {_number(test['score'])} | {_between(test)} |")
    if not _nothing_unseen(exported):
        rows.append(f"| validation | {_number(result['score']['val'])} | {_between(interval)} |")
    rows.append(f"| train | {_number(result['score']['train'])} | |")
    lines = [f"Measured by {metric}.", "", *rows, ""]
    lines.append(openings[0]["note"] if openings else _unopened(exported))
    gap = result["gap"]
    if gap["value"] is not None:
        lines.append(
            f"Gap between unseen and train error: {100 * gap['value']:.1f} points, 95 % interval {_between(gap, 100)}."
        )
    lines += ["", f"Verdict: **{result['verdict']}**."]
    per_class = sorted(result["per_class"].items(), key=lambda pair: pair[1])[:MOST_CLASSES]
    if per_class:
        lines += ["", "The weakest classes first, on validation:" if len(per_class) > 1 else "On validation:", ""]
        lines += ["| class | score | 95 % interval |", "|---|---|---|"]
        of_class = result["intervals"]["per_class"]
        lines += [f"| {_cell(name)} | {_number(score)} | {_between(of_class.get(name))} |" for name, score in per_class]
    return "\n".join(lines)


def _unopened(exported: Mapping[str, Any]) -> str:
    if _nothing_unseen(exported):
        return "The validation images were trained on and the test part was not opened: no figure here is of unseen images."
    return "The test part was not opened: choices were made by validation."


def _findings(result: Mapping[str, Any], exported: Mapping[str, Any]) -> str:
    """What holds, then what could not be told: both are limits of what is known of the model."""
    lines = list(_listed(result["findings"], "yes"))
    if _nothing_unseen(exported):
        nothing = "The validation images were trained on too, so that none was left to look for faults with."
        return "\n".join([*lines, "", nothing] if lines else [nothing])
    unsure = [finding["rule"] for finding in result["findings"] if finding["verdict"] == "cannot-tell"]
    if not lines:
        lines = ["No fault was found."]
    if unsure:
        lines += ["", f"Could not be told with these images: {', '.join(unsure)}."]
    return "\n".join(lines)


def _listed(findings: Sequence[Mapping[str, Any]], verdict: str) -> Iterator[str]:
    for finding in findings:
        if finding["verdict"] == verdict:
            yield f"- **{finding['rule']}**: {finding['evidence']} {finding['advice']}".rstrip()


def _data(manifest: Mapping[str, Any], exported: Mapping[str, Any]) -> str:
    dataset, split = manifest["dataset"], manifest["split"]
    validated = (
        f"among them the {split['val']:,} validation images"
        if _nothing_unseen(exported)
        else f"{split['val']:,} validated on"
    )
    parts = f"{split['train']:,} images were trained on, {validated}, {split['test']:,} kept for the test"
    lines = [
        f"{manifest.get('name') or 'A dataset given by a program'}: {parts}. Fingerprint `{dataset['fingerprint']}`."
    ]
    if dataset["left_out"]:
        lines.append(f"{dataset['left_out']:,} files could not be used and were left out.")
    counts = {part: values for part, values in dataset["counts"].items() if values}
    if counts and exported["task"] != "regression":
        unit = {"segmentation": "pixels", "detection": "boxes"}.get(exported["task"], "images")
        names = exported["names"][:MOST_CLASSES]
        lines += ["", f"| {unit} | {' | '.join(counts)} |", "|---" * (len(counts) + 1) + "|"]
        lines += [
            f"| {_cell(name)} | {' | '.join(f'{values.get(name, 0):,}' for values in counts.values())} |"
            for name in names
        ]
    return "\n".join(lines)


def _use(exported: Mapping[str, Any]) -> str:
    files, outputs = exported["files"], ", ".join(exported["outputs"])
    lines = []
    if "model.onnx" in files:
        lines += [
            "`model.onnx` takes uint8 RGB pixels [N, H, W, 3]; normalization and what makes answers of the outputs are inside"
            f"{_inside(exported)}. `reader.py` reads image files exactly as the training did, and needs numpy and Pillow alone:",
            _code(
                "import json",
                "import onnxruntime",
                "from reader import read_images",
                "",
                'about = json.load(open("export.json"))',
                'session = onnxruntime.InferenceSession("model.onnx")',
                f'({outputs},) = session.run(None, {{"images": read_images(["photo.jpg"], about["input"])}})',
                *SAYING.get(exported["task"], ()),
            ),
            "Classes, or number columns, are counted as in `names` of `export.json`, or `classes` of the model's metadata.",
        ]
    if "model.pt2" in files:
        lines += [
            "`model.pt2` is the same as a torch.export program, whose answers have names:",
            _code(
                "import json",
                "import torch",
                "from reader import read_images",
                "",
                'spec = json.load(open("export.json"))["input"]',
                'model = torch.export.load("model.pt2").module()',
                'answers = model(torch.from_numpy(read_images(["photo.jpg"], spec)))',
            ),
        ]
    if "model.safetensors" in files:
        lines += [
            "`model.safetensors` holds the weights. Tensors named `network.…` are the network's; pixels of 0–255 are normalized "
            f"by `pixels * scale + shift`, which are in the file too.{_outside(exported)}",
            _code(*_loading(exported)),
        ]
    return "\n\n".join(lines)


def _inside(exported: Mapping[str, Any]) -> str:
    """What of the answers is in a graph, and in weights is not."""
    parts = ["the mirror image"] if _mirrors(exported) else []
    parts += [f"the temperature of {_temperature(exported):.4g}"] if _temperature(exported) != 1 else []
    return "".join(f", and so is {part}" for part in parts)


def _outside(exported: Mapping[str, Any]) -> str:
    said = []
    if _mirrors(exported):
        said.append("The mean with the mirror image is no part of them: it is in the code below.")
    if _temperature(exported) != 1:
        said.append(
            f"Nor are they divided by the temperature of {_temperature(exported):.4g}, as logits have to be for calibrated "
            "probabilities; the certificate holds the weights against the model without it."
        )
    return "".join(f" {sentence}" for sentence in said)


def _loading(exported: Mapping[str, Any]) -> list[str]:
    """Code that makes answers of the weights alone, line by line; of networks of ours, which need this package, another run."""
    network, maker = exported["recipe"]["network"], exported["network_of"]
    if maker == "trainwright" or (maker == "timm" and network.get("norm") == "group"):
        return _starting_a_run(exported)
    if maker == "timm":
        sized = f", img_size={exported['input']['size'][0]}" if exported.get("network_is_sized") else ""
        made = f'network = timm.create_model("{network["name"]}", num_classes={len(exported["names"])}{sized})'
        imports, make = ["import json", "import timm", "import torch"], [made]
    else:
        imports, make = (
            ["import json", "import torch"],
            ["network = ...  # the nn.Module that was trained, made by your own code"],
        )
    return [
        *imports,
        "from safetensors.torch import load_file",
        "from reader import read_images",
        "",
        *make,
        'tensors = load_file("model.safetensors")',
        'network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})',
        "network.eval()",
        'spec = json.load(open("export.json"))["input"]',
        'pixels = torch.from_numpy(read_images(["photo.jpg"], spec)).permute(0, 3, 1, 2)',
        "with torch.no_grad():",
        '    images = pixels * tensors["scale"] + tensors["shift"]',
        *(f"    {line}" for line in _answering(exported)),
    ]


def _answering(exported: Mapping[str, Any]) -> list[str]:
    task, temperature = exported["task"], _temperature(exported)
    back = ".flip(-1)" if task == "segmentation" else ""
    lines = ["outputs = network(images)"]
    if _mirrors(exported):
        lines = [f"outputs = (network(images) + network(images.flip(-1)){back}) / 2"]
    if task == "classification":
        divided = f"(outputs / {temperature!r})" if temperature != 1 else "outputs"
        lines.append(f"probabilities = {divided}.softmax(dim=1)")
    if task == "regression":
        info = exported["info"]
        std = [deviation or 1.0 for deviation in info["std"]]
        lines.append(f"values = outputs.double() * torch.tensor({std}) + torch.tensor({list(info['mean'])})")
    if task == "segmentation":
        lines.append("masks = outputs.argmax(dim=1)")
    return lines


def _starting_a_run(exported: Mapping[str, Any]) -> list[str]:
    network, usual = exported["recipe"]["network"], NetworkSpec().model_dump(mode="json")
    own = {key: value for key, value in network.items() if key in MAKING and value != usual.get(key)}
    changes = {"network.name": network["name"], **{f"network.{key}": value for key, value in own.items()}}
    changes |= {"network.weights": "model.safetensors"} | ({"test_time_flip": True} if _mirrors(exported) else {})
    written = (
        f'"{key}": {json.dumps(value) if isinstance(value, str) else repr(value)}' for key, value in changes.items()
    )
    return [
        "import trainwright as tw",
        "",
        "# A new run that starts from these weights; to predict with them, use model.onnx or the run itself.",
        f'tw.train("photos/", changes={{{", ".join(written)}}})',
    ]


def _parity(certificate: Mapping[str, Any]) -> str:
    lines = [
        f"Held against the model itself on all {certificate['images']:,} validation images, from the image file on "
        "(`certificate.txt`, `certificate.json`).",
        "",
        "| file | agreement | largest difference | bytes |",
        "|---|---|---|---|",
    ]
    for name, made in certificate["files"].items():
        largest = f"{made['largest_difference']:.2g} ({made['largest_difference_of']})"
        lines.append(f"| {name} | {made['agreement']:.5f} | {largest} | {made['bytes']:,} |")
    if trained := certificate.get("trained"):
        lines += [
            "",
            f"The model itself agrees by {trained['agreement']:.5f} ({trained['agreement_of']}) with the answers that it was "
            "judged by after training.",
        ]
    if certificate.get("note"):
        lines += ["", certificate["note"]]
    return "\n".join(lines)


def _intended() -> str:
    return (
        "For images like those it was trained on. The scores above hold for such images only: other cameras, places or times are "
        "not covered by them, and an image that shows nothing of what it learned still gets an answer. "
        f"{TO_BE_SAID}"
    )


def _training(result: Mapping[str, Any], manifest: Mapping[str, Any], exported: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in exported["packages"].items())
    return (
        f"{result['epochs']} epochs in {result['seconds']:.0f} s, {manifest['precision']['name']}, on "
        f"{manifest['machine'].get('gpu') or manifest['machine']['processor'] or manifest['machine']['device']}; trainwright "
        f"{manifest['code']['version']}. Exported with {packages}. The recipe, every value filled in:"
    )


def _code(*lines: str) -> str:
    return "```python\n" + "\n".join(lines) + "\n```"


def _cell(text: str) -> str:
    """Text that does not break a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"


def _between(interval: Mapping[str, Any] | None, times: float = 1.0) -> str:
    if interval is None or interval.get("low") is None:
        return ""
    return (
        f"{times * interval['low']:.{1 if times > 1 else 4}f} to {times * interval['high']:.{1 if times > 1 else 4}f}"
    )
