"""Learning rate, schedule, optimizer, length and norm: what a training that does not get there is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainwright.diagnosis.remedies.case import BACKBONED, CUSTOM, USUAL, Case, Remedy

BETTER_LR = "better_lr"  # among a finding's figures: a learning rate that a probe has found to learn better
LOWER = 0.1  # times lr; ours, a decade as in the advice of the rules
WARMUP = 0.05  # Goyal et al., arXiv:1706.02677 §2.2: 5 of 90 epochs
CLIP = 1.0  # Liu et al., arXiv:2103.14030 §A2.1
LONGER, LEAST_LONGER = 2.0, 1.25  # times the epochs; ours, as is the least that is worth a trial
FEWEST_STEPS = 10  # an epoch, that a larger batch has to leave: as `--batch-size auto` does
SMALL_BATCH = (
    16  # images, below which batch norm suffers: Wu and He, arXiv:1803.08494 §4.1, Figure 5 (16 a worker and fewer)
)
DECAYING = (
    "constant",
    "triangular",
    "triangular2",
    "exponential-range",
)  # schedules that do not end low, so a cosine may help
FRESH = {"schedule.final": None, "schedule.low": None, "schedule.cycles": None, "schedule.momentum": None}


def _found(case: Case) -> Mapping[str, Any] | None:
    spec = case.recipe.optimizer
    return {"optimizer.lr": None} if spec.lr is not None and spec.name != "rprop" else None


def _probed(case: Case) -> Mapping[str, Any] | None:
    lr, now = case.figures.get(BETTER_LR), case.recipe.optimizer.lr
    return {"optimizer.lr": lr} if lr is not None and lr > 0 and lr != now else None


def _lower(case: Case) -> Mapping[str, Any] | None:
    lr, better = case.recipe.optimizer.lr, case.figures.get(BETTER_LR)
    if lr is None or (better is not None and better > lr):  # a probe has proven a higher one
        return None
    return {"optimizer.lr": lr * LOWER}


def _warm(case: Case) -> Mapping[str, Any] | None:
    return {"schedule.warmup": WARMUP} if case.recipe.schedule.warmup < WARMUP and case.steps > 1 / WARMUP else None


def _clip(case: Case) -> Mapping[str, Any] | None:
    norm = case.recipe.clip_norm
    return {"clip_norm": CLIP} if norm is None or norm > CLIP else None


def _calm(case: Case) -> Mapping[str, Any] | None:
    warm, clip = _warm(case), _clip(case)
    return {**warm, **clip} if warm and clip else None


def _cosine(case: Case) -> Mapping[str, Any] | None:
    recipe = case.recipe
    if recipe.schedule.name not in DECAYING or recipe.optimizer.name in ("schedule-free-adamw", "rprop"):
        return None
    return {"schedule.name": "cosine", **FRESH}


def _cycle(case: Case) -> Mapping[str, Any] | None:
    recipe = case.recipe
    if recipe.schedule.name == "one-cycle" or recipe.optimizer.name in ("schedule-free-adamw", "rprop"):
        return None
    return {"schedule.name": "one-cycle", "schedule.warmup": 0.0, **FRESH}


def _longer(case: Case) -> Mapping[str, Any] | None:
    """Twice the epochs, or as many as the budget still has. Schedules are functions of progress, and stretch with them."""
    times = min(LONGER, case.facts.budget_epochs / case.recipe.epochs)
    return {"epochs": int(case.recipe.epochs * times)} if times >= LEAST_LONGER else None


def _adaptive(case: Case) -> Mapping[str, Any] | None:
    if case.recipe.optimizer.name not in ("sgd", "rmsprop", "adagrad", "rprop"):
        return None
    decay = case.recipe.optimizer.weight_decay
    return {
        "optimizer.name": "adamw",
        "optimizer.lr": None,
        "optimizer.weight_decay": 0.05 if decay else 0.0,
        "optimizer.betas": None,
        "optimizer.eps": None,
    }


def _group(case: Case) -> Mapping[str, Any] | None:
    """Not where weights were learned with batch norm; not for numbers, since it takes from an image how full it is."""
    network = case.recipe.network
    has_batch_norm = case.is_ours or (case.body.startswith("resnet") and not case.body.startswith("resnetv2"))
    if network.norm != "batch" or case.is_pretrained or not has_batch_norm or case.facts.task == "regression":
        return None
    return {"network.norm": "group"}


def _frozen(case: Case) -> Mapping[str, Any] | None:
    has_batch_norm = case.body.startswith("resnet") and not case.body.startswith("resnetv2")
    learned = case.published_weights and has_batch_norm and case.recipe.network.norm == "batch"
    return {"network.norm": "frozen"} if learned else None


def _batch(case: Case) -> Mapping[str, Any] | None:
    size = case.recipe.batch_size
    if not isinstance(size, int) or case.facts.train_count < FEWEST_STEPS * 2 * size or size > SMALL_BATCH:
        return None
    return {"batch_size": 2 * size, "optimizer.lr": None}


def _slower_below(case: Case) -> Mapping[str, Any] | None:
    network = case.recipe.network
    usual = case.published_weights and network.trainable == "all" and network.name not in (CUSTOM, *BACKBONED)
    return {"network.stage_lr_decay": 0.75} if usual and network.stage_lr_decay == 1 else None


REMEDIES = (
    Remedy(
        name="found-rate",
        family="optimization",
        answers={
            "learning-rate": 0.7,
            "diverged": 0.7,
            "unstable": 0.5,
            "cannot-fit": 0.5,
            "still-improving": 0.3,
            "saturated-early": 0.3,
        },
        changes=_found,
        reason="The largest rate at which the loss really falls is measured on this network and these images.",
        effect="the learning rate from the range test",
        source="Smith, arXiv:1506.01186 §3.3",
        share=0.3,
        origin="ours: a guess to order trials by",
        retune=True,
    ),
    Remedy(
        name="probed-rate",
        family="optimization",
        answers={"learning-rate": 0.85, "diverged": 0.8, "unstable": 0.6, "cannot-fit": 0.6},
        changes=_probed,
        reason="A short training at this rate has already learned better.",
        effect="the learning rate of the probe that learned better",
        source="Smith, arXiv:1803.09820 §4.1",
        share=0.3,
        origin="ours: a guess to order trials by",
    ),
    Remedy(
        name="lower-rate",
        family="optimization",
        answers={"diverged": 0.7, "unstable": 0.6, "learning-rate": 0.25, "batch-norm-broken": 0.2},
        changes=_lower,
        reason="Steps that overshoot do not come to rest.",
        effect="a tenth of the learning rate",
        source="Smith, arXiv:1506.01186 §3.3",
        share=0.3,
        origin="ours: a guess to order trials by",
    ),
    Remedy(
        name="warm-up-and-clipping",
        family="optimization",
        answers={"diverged": 0.5, "unstable": 0.6, "cannot-fit": 0.2},
        changes=_calm,
        reason="The first steps, and single wild ones, are kept from throwing the weights off.",
        effect="warm-up over a twentieth of the training, gradients clipped at norm 1",
        source="Goyal et al., arXiv:1706.02677 §2.2; Pascanu et al., arXiv:1211.5063 §3.2",
        share=0.1,
        origin="ours: a guess to order trials by",
        cost=1.02,
    ),
    Remedy(
        name="warm-up",
        family="optimization",
        answers={"diverged": 0.4, "unstable": 0.4, "learning-rate": 0.2},
        changes=_warm,
        reason="Fresh weights bear only small steps.",
        effect="warm-up over a twentieth of the training",
        source="Goyal et al., arXiv:1706.02677 §2.2",
        share=0.04,
        origin="Goyal et al., arXiv:1706.02677: 24.84 → 23.74 % on ImageNet in batches of 8,192",
    ),
    Remedy(
        name="clipping",
        family="optimization",
        answers={"diverged": 0.4, "unstable": 0.5},
        changes=_clip,
        reason="A single batch with a wild gradient cannot throw the weights off.",
        effect="gradients clipped at norm 1",
        source="Pascanu et al., arXiv:1211.5063 §3.2",
        share=0.05,
        origin="ours: a guess to order trials by",
        cost=1.02,
    ),
    Remedy(
        name="cosine-schedule",
        family="optimization",
        answers={"overfits": 0.4, "unstable": 0.5, "saturated-early": 0.6, "learning-rate": 0.3, USUAL: 0.5},
        changes=_cosine,
        reason="Steps that shrink to nothing end in the middle of the valley that a constant step jumps about in.",
        effect="the learning rate falls by half a cosine to 0",
        source="Loshchilov and Hutter, arXiv:1608.03983 §3; Li et al., arXiv:1905.04753",
        share=0.15,
        origin="ours: a guess; Chen et al., arXiv:2107.04197, rank a constant rate among the best three of their schedules in "
        "5 % of settings",
    ),
    Remedy(
        name="one-cycle",
        family="optimization",
        answers={"still-improving": 0.4, "learning-rate": 0.3, "saturated-early": 0.3},
        changes=_cycle,
        reason="A large rate in the middle of the training learns as much in fewer epochs.",
        effect="one cycle of lr up and down, momentum against it",
        source="Smith and Topin, arXiv:1708.07120; Smith, arXiv:1803.09820 §4.3",
        share=0.15,
        origin="ours: a guess to order trials by",
        retune=True,
    ),
    Remedy(
        name="longer",
        family="length",
        answers={"still-improving": 0.8, USUAL: 0.4},
        changes=_longer,
        reason="A training that still learns at its end gains by more steps, and one at rest hardly loses by them.",
        effect="twice the epochs, or as many as the budget has, the schedule stretched to them",
        source="Hoffer et al., arXiv:1705.08741",
        share=0.1,
        origin="ours: a guess to order trials by; Wightman et al., arXiv:2110.00476: 79.8 → 80.4 % right from 300 to 600 epochs",
    ),
    Remedy(
        name="other-optimizer",
        family="optimization",
        answers={"cannot-fit": 0.5, "learning-rate": 0.3, "diverged": 0.3},
        changes=_adaptive,
        reason="AdamW scales every step to the gradient's own size, and forgives a wrong learning rate more than SGD does.",
        effect="AdamW with a learning rate from the range test",
        source="Kingma and Ba, arXiv:1412.6980; Loshchilov and Hutter, arXiv:1711.05101",
        share=0.15,
        origin="ours: a guess to order trials by",
        retune=True,
    ),
    Remedy(
        name="group-norm",
        family="optimization",
        answers={"batch-norm-broken": 0.6},
        changes=_group,
        reason="Statistics are taken from each image, so there are none to be wrong in evaluation.",
        effect="group norm in place of batch norm",
        source="Wu and He, arXiv:1803.08494",
        share=0.2,
        cost=1.5,  # of small-resnet on a processor (docs/log.md)
        origin="ours: a guess; Wu and He, arXiv:1803.08494: 34.7 → 24.1 % on ImageNet in batches of 2 a worker",
    ),
    Remedy(
        name="frozen-norm",
        family="optimization",
        answers={"batch-norm-broken": 0.7},
        changes=_frozen,
        reason="The statistics that the weights were learned with fit them better than those of a few images.",
        effect="batch norm keeps the statistics that it came with",
        source="He et al., arXiv:1512.03385, Appendix A",
        share=0.2,
        origin="ours: a guess to order trials by",
    ),
    Remedy(
        name="larger-batch",
        family="optimization",
        answers={"batch-norm-broken": 0.5},
        changes=_batch,
        reason="Statistics of more images wander less.",
        effect="twice the batch, and a learning rate found for it",
        source="Wu and He, arXiv:1803.08494, on batches of few images",
        share=0.1,
        origin="ours: a guess to order trials by",
        retune=True,
    ),
    Remedy(
        name="slower-early-stages",
        family="capacity",
        answers={"overfits": 0.4, USUAL: 0.3},
        changes=_slower_below,
        reason="What early stages have learned from many images is kept, and late ones learn the new task.",
        effect="three quarters of the learning rate for each stage towards the input",
        source="Howard and Ruder, arXiv:1801.06146 §3.2; 0.75: He et al., arXiv:2111.06377, Table 9",
        share=0.05,
        origin="ours: a guess to order trials by",
    ),
)
