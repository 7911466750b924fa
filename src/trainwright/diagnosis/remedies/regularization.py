"""Weight decay, dropout, averaged weights, early stopping, smoothed labels: what keeps weights and answers from extremes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainwright.diagnosis.remedies.case import (
    BACKBONED,
    CUSTOM,
    SMOOTHED,
    USUAL,
    WEIGHED,
    Case,
    Remedy,
)

# Weight decay to begin with, and the most that is tried, each by how the optimizer decays (docs/ingredients.md).
DECOUPLED = ("adamw", "nadamw", "adopt", "muon", "schedule-free-adamw")
FIRST_DECAY = {
    True: 0.05,
    False: 5e-4,
}  # Touvron et al., arXiv:2012.12877, Table 9; Zagoruyko and Komodakis, arXiv:1605.07146 §3
MOST_DECAY = {True: 0.5, False: 5e-3}  # ours: ten times as much
MORE_DECAY = 3.0  # ours: half a decade, the steps in which decay is usually searched
DROPOUT = 0.3  # ours: below the 0.5 of Srivastava et al., which was for layers of thousands of units
BLOCK_DROPOUT = 0.3  # Zagoruyko and Komodakis, arXiv:1605.07146 §3, on CIFAR
DROP_PATH = 0.1  # Touvron et al., arXiv:2012.12877, Table 9
SMOOTHING = 0.1  # Szegedy et al., arXiv:1512.00567 §7
WINDOW = 0.05  # of the training, over which weights are averaged; ours: 1/(1 - decay) steps, long enough to smooth the last ones
SLOWEST, QUICKEST = 0.9999, 0.9
PATIENCE = 5  # in how many parts the training is cut: one without a better score ends it; ours
LESS = 0.1  # times weight decay, where there is too much regularization; ours
NO_HEAD_DROPOUT = ("faster-rcnn", "retinanet", "fcos")


def _decay(case: Case) -> Mapping[str, Any] | None:
    spec = case.recipe.optimizer
    if spec.name in ("rprop", "lamb", "lion"):  # none, or of another kind
        return None
    kind = spec.name in DECOUPLED
    decay = round(spec.weight_decay * MORE_DECAY, 6) or FIRST_DECAY[kind]
    return {"optimizer.weight_decay": decay} if decay <= MOST_DECAY[kind] else None


def _decoupled(case: Case) -> Mapping[str, Any] | None:
    """AdamW in place of Adam, at the same lr."""
    if case.recipe.optimizer.name != "adam":
        return None
    return {"optimizer.name": "adamw", "optimizer.weight_decay": FIRST_DECAY[True]}


def _dropout(case: Case) -> Mapping[str, Any] | None:
    network = case.recipe.network
    if network.dropout or network.name == CUSTOM or network.name in NO_HEAD_DROPOUT:
        return None
    has_place = case.regular or network.name in BACKBONED
    return {"network.dropout": DROPOUT} if has_place else None


def _block_dropout(case: Case) -> Mapping[str, Any] | None:
    return None if case.recipe.network.block_dropout or not case.is_ours else {"network.block_dropout": BLOCK_DROPOUT}


def _drop_path(case: Case) -> Mapping[str, Any] | None:
    return None if case.recipe.network.drop_path or not case.regular else {"network.drop_path": DROP_PATH}


def _smoothing(case: Case) -> Mapping[str, Any] | None:
    smooths = case.loss in SMOOTHED and not case.lone_dice
    return {"loss.label_smoothing": SMOOTHING} if smooths and not case.recipe.loss.label_smoothing else None


def _average(case: Case) -> Mapping[str, Any] | None:
    recipe = case.recipe
    if recipe.ema_decay is not None or recipe.optimizer.name == "schedule-free-adamw":
        return None
    decay = 1 - 1 / max(1.0, WINDOW * case.steps)
    return {"ema_decay": round(min(SLOWEST, max(QUICKEST, decay)), 4)}


def _early(case: Case) -> Mapping[str, Any] | None:
    recipe = case.recipe
    patience = max(3, recipe.epochs // PATIENCE)
    if recipe.schedule.name == "reduce-on-plateau":
        patience = max(patience, 2 * recipe.schedule.patience)
    changes: dict[str, Any] = {}
    if recipe.early_stop is None and patience < recipe.epochs - 1:  # later it is without effect
        changes["early_stop"] = patience
    if recipe.keep != "best":
        changes["keep"] = "best"
    return changes or None


def _less_dropout(case: Case) -> Mapping[str, Any] | None:
    network = case.recipe.network
    names = ("dropout", "block_dropout", "drop_path")
    return {f"network.{name}": 0.0 for name in names if getattr(network, name)} or None


def _less_decay(case: Case) -> Mapping[str, Any] | None:
    decay = case.recipe.optimizer.weight_decay
    return {"optimizer.weight_decay": round(decay * LESS, 6)} if decay > 1e-6 else None


def _no_smoothing(case: Case) -> Mapping[str, Any] | None:
    return {"loss.label_smoothing": 0.0} if case.recipe.loss.label_smoothing else None


def _balanced(case: Case) -> Mapping[str, Any] | None:
    weighs = case.loss in WEIGHED and not case.lone_dice and case.facts.task in ("classification", "segmentation")
    return {"loss.class_weights": "balanced"} if weighs and case.recipe.loss.class_weights is None else None


def _absolute(case: Case) -> Mapping[str, Any] | None:
    return {"loss.name": "mae"} if case.facts.task == "regression" and case.loss in ("huber", "mse") else None


REMEDIES = (
    Remedy(
        name="weight-decay",
        family="decay",
        answers={"overfits": 0.4, USUAL: 0.2},
        changes=_decay,
        reason="Small weights give smooth answers.",
        effect="weight decay 0.05 where it is decoupled, 0.0005 where it is added; three times as much where there is some",
        source="Krogh and Hertz, NeurIPS 1991; decoupled: Loshchilov and Hutter, arXiv:1711.05101",
        share=0.05,
        origin="ours: a guess to order trials by",
    ),
    Remedy(
        name="adamw",
        family="decay",
        answers={"overfits": 0.5, USUAL: 0.3},
        changes=_decoupled,
        reason="Adam's steps undo a decay that is added to the gradient; AdamW's is not scaled by them.",
        effect="AdamW with weight decay 0.05 in place of Adam, at the same lr",
        source="Loshchilov and Hutter, arXiv:1711.05101 §2",
        share=0.1,
        origin="Loshchilov and Hutter, arXiv:1711.05101: about 15 % of the test error on CIFAR-10 and ImageNet32x32",
    ),
    Remedy(
        name="dropout",
        family="noise",
        answers={"overfits": 0.4},
        changes=_dropout,
        reason="No feature may rely on another one being there.",
        effect="dropout 0.3 before the head",
        source="Srivastava et al., JMLR 15 (2014) 1929",
        share=0.08,
        origin="Srivastava et al., JMLR 15 (2014) 1929, Table 3: 15.60 → 14.32 % on CIFAR-10 in the last layers",
    ),
    Remedy(
        name="block-dropout",
        family="noise",
        answers={"overfits": 0.3},
        changes=_block_dropout,
        reason="Dropout between the convolutions of a block, which batch norm alone does not regularize enough.",
        effect="dropout 0.3 inside of blocks",
        source="Zagoruyko and Komodakis, arXiv:1605.07146 §2.4",
        share=0.03,
        origin="Zagoruyko and Komodakis, arXiv:1605.07146: 4.00 → 3.89 % on CIFAR-10, 19.25 → 18.85 % on CIFAR-100",
        cost=1.05,
    ),
    Remedy(
        name="stochastic-depth",
        family="noise",
        answers={"overfits": 0.35, USUAL: 0.15},
        changes=_drop_path,
        reason="Whole blocks are left out by chance, so that the rest has to do without them.",
        effect="stochastic depth 0.1",
        source="Huang et al., arXiv:1603.09382 §3",
        share=0.06,
        origin="a third, ours for networks of few blocks, of Huang et al., arXiv:1603.09382: 6.41 → 5.23 % on CIFAR-10 "
        "with 110 layers",
    ),
    Remedy(
        name="label-smoothing",
        family="labels",
        answers={"over-confident": 0.7, "noisy-labels": 0.6, "overfits": 0.35, "label-ceiling": 0.2, USUAL: 0.2},
        changes=_smoothing,
        reason="The true class is asked for with 0.9 and not with certainty, so that answers are less sure.",
        effect="label smoothing 0.1",
        source="Szegedy et al., arXiv:1512.00567 §7; surety: Müller et al., arXiv:1906.02629; noise: Lukasik et al., "
        "arXiv:2003.02819",
        share=0.02,
        origin="Szegedy et al., arXiv:1512.00567 §7: 0.2 points of ImageNet's error; calibration gains more than accuracy",
    ),
    Remedy(
        name="averaged-weights",
        family="averaging",
        answers={"overfits": 0.4, "unstable": 0.5, "noisy-labels": 0.3, USUAL: 0.4},
        changes=_average,
        reason="The mean of the last weights lies in the middle of the valley that single steps jump about in.",
        effect="an exponential average of the weights over the last twentieth of the training",
        source="Izmailov et al., arXiv:1803.05407; exponential: Morales-Brotons et al., arXiv:2411.18704",
        share=0.07,
        origin="Izmailov et al., arXiv:1803.05407, Table 1: 80.82 → 82.15 % right on CIFAR-100 with Wide-ResNet-28-10",
        cost=1.02,
    ),
    Remedy(
        name="early-stopping",
        family="length",
        answers={"overfits": 0.25, "noisy-labels": 0.5, "over-confident": 0.3, "saturated-early": 0.2},
        changes=_early,
        reason="What is learned last is learned by heart: the best epoch is kept, and its like are not waited for long.",
        effect="the best epoch is kept, and training ends after a fifth of the epochs without a better one",
        source="Prechelt, Early Stopping – But When? (1998); noisy labels: Li et al., arXiv:1903.11680",
        share=0.03,
        origin="ours: a guess to order trials by",
    ),
    Remedy(
        name="less-dropout",
        family="less",
        answers={"over-regularized": 0.7, "cannot-fit": 0.2},
        changes=_less_dropout,
        reason="A network whose parts are missing all the time cannot learn what it has room for.",
        effect="dropout, dropout inside of blocks and stochastic depth off",
        source="Srivastava et al., JMLR 15 (2014) 1929, §7.3: too much of it underfits",
        share=0.2,
        origin="ours: a guess to order trials by",
    ),
    Remedy(
        name="less-decay",
        family="less",
        answers={"over-regularized": 0.5, "too-small": 0.15},
        changes=_less_decay,
        reason="Weights that are pulled to zero too hard cannot grow to what the images ask for.",
        effect="a tenth of the weight decay",
        source="Krogh and Hertz, NeurIPS 1991",
        share=0.1,
        origin="ours: a guess to order trials by",
    ),
    Remedy(
        name="sharp-labels",
        family="less",
        answers={"over-regularized": 0.2},
        changes=_no_smoothing,
        reason="A network that cannot fit its labels does not need to be kept from being sure of them.",
        effect="label smoothing off",
        source="Müller et al., arXiv:1906.02629",
        share=0.02,
        origin="ours: a guess to order trials by",
    ),
    Remedy(
        name="balanced-classes",
        family="labels",
        answers={"imbalance-hidden": 0.6},
        changes=_balanced,
        reason="A rare class counts as much as a common one, which accuracy alone never asks for.",
        effect="class weights balanced: rare classes gain, and accuracy over all may lose",
        source="King and Zeng 2001; Cui et al., arXiv:1901.05555; for what imbalance does: Buda et al., arXiv:1710.05381",
        share=0.03,
        origin="ours: a guess to order trials by; the classes' own scores gain more than the accuracy over all",
    ),
    Remedy(
        name="absolute-loss",
        family="labels",
        answers={"noisy-labels": 0.5, "label-ceiling": 0.2},
        changes=_absolute,
        reason="A wrong number counts by its size and not by its square.",
        effect="the absolute error as the loss",
        source="Huber, Annals of Mathematical Statistics 35 (1964) 73",
        share=0.05,
        origin="ours: a guess to order trials by",
    ),
)
