"""`trainwright diagnose`."""

from __future__ import annotations

from dataclasses import replace

from trainwright.cli.diagnose import as_object, show_diagnosis
from trainwright.cli.show import show_findings
from trainwright.diagnosis.evidence import ProbeResult
from trainwright.records import Finding, Interval
from trainwright.workflows.diagnose import Diagnosis


def within(value: float) -> Interval:
    return Interval(value=value, low=value, high=value)


FOUND = Diagnosis(
    run="20261122-0117",
    verdict="underfits",
    findings=(
        Finding(rule="too-small", verdict="yes", evidence="Train error 30.0 %.", advice="To try: a larger network."),
        Finding(rule="overfits", verdict="no", evidence="", advice=""),
    ),
    probes={
        "wider": ProbeResult(
            name="wider",
            before={"network.width": 8},
            changes={"network.width": 32},
            train_error=within(0.1),
            val_error=within(0.2),
            steps=1200,
            seconds=34.4,
        ),
        "learning-rate": ProbeResult(name="learning-rate", state="needless", note="The rate is as the test suggests."),
    },
    would_tell=("longer",),
)


def test_a_diagnosis_is_the_verdict_its_findings_the_probes_and_what_would_tell_more() -> None:
    assert show_diagnosis(FOUND).splitlines() == [
        "run        20261122-0117",
        "verdict    underfits",
        "",
        "● too-small: yes. Train error 30.0 %.",
        "  → To try: a larger network.",
        "· not: overfits",
        "",
        "probes",
        "  wider: network.width 8 → 32: train error 10.0 %, unseen error 20.0 %; 1,200 steps, 34 s",
        "  learning-rate: The rate is as the test suggests.",
        "",
        "to tell    trainwright diagnose 20261122-0117 --probe longer",
    ]


def test_of_how_many_train_images_its_errors_are_is_said() -> None:
    some = replace(FOUND, images_scored={"train": 108, "val": 109}, images={"train": 436, "val": 109})
    every = replace(FOUND, images_scored={"train": 436, "val": 500}, images={"train": 436, "val": 500})

    assert show_diagnosis(some).splitlines()[2] == "train      scored on 108 of its 436 images, drawn for this"
    assert show_diagnosis(every) == show_diagnosis(FOUND)


def test_what_cannot_be_told_for_the_same_reason_is_said_once() -> None:
    doubts = [
        {
            "rule": rule,
            "verdict": "cannot-tell",
            "evidence": "Train error 30.0 %.",
            "advice": f"The probe {probe} would tell.",
        }
        for rule, probe in (("under-trained", "longer"), ("too-small", "wider"))
    ]

    assert show_findings(doubts) == [
        "? under-trained, too-small: cannot tell. Train error 30.0 %.",
        "  → The probes longer, wider would tell: 'trainwright diagnose RUN --probe longer --probe wider'.",
    ]
    assert show_findings(doubts[:1])[1] == "  → The probe longer would tell: 'trainwright diagnose RUN --probe longer'."


def test_as_json_it_says_its_schema() -> None:
    content = as_object(FOUND)

    assert (content["schema"], content["verdict"]) == ("trainwright.diagnosis/1", "underfits")
    assert content["probes"]["wider"]["val_error"] == {"value": 0.2, "low": 0.2, "high": 0.2}


def test_a_run_that_is_not_there_is_an_error_with_a_cure(cli, tmp_path) -> None:
    done = cli("diagnose", "last", "--runs", str(tmp_path))

    assert done.code == 1
    assert "runs" in done.err
