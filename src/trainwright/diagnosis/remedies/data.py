"""What has to be done to the data, or looked at by a person: advice that no recipe can express."""

from __future__ import annotations

from trainwright.diagnosis.remedies.case import Case, Remedy, advice
from trainwright.recipes.choice import FINE_TUNING


def _fetch_weights(case: Case) -> dict[str, object] | None:
    """Pre-trained weights that are not on this machine: only told, since nothing is fetched that nobody asked for."""
    known = case.facts.task in FINE_TUNING and not case.facts.pretrained and not case.is_pretrained
    return {} if known else None


NOT_TRIED = "ours: told, not tried; not ordered against what can be"

REMEDIES = (
    Remedy(
        name="more-images",
        family="data",
        answers={"overfits": 0.9},
        changes=advice,
        reason="A network cannot learn by heart what never comes twice.",
        effect="more labelled images: the error falls with a power of their number",
        source="Hestness et al., arXiv:1712.00409; Sun et al., arXiv:1707.02968",
        share=0.3,
        origin=NOT_TRIED,
    ),
    Remedy(
        name="fetch-pretrained-weights",
        family="data",
        answers={"overfits": 0.7, "too-small": 0.3},
        changes=_fetch_weights,
        reason="Features of many images need few more of one's own; the weights are not on this machine.",
        effect="name a recipe that fine-tunes (`trainwright recipes list`), which fetches its weights",
        source="Kornblith et al., arXiv:1805.08974; few images: He et al., arXiv:1811.08883",
        share=0.4,
        origin=NOT_TRIED,
    ),
    Remedy(
        name="check-the-code",
        family="data",
        answers={"cannot-fit": 0.5},
        changes=advice,
        reason="A sound training learns 64 images by heart: look at the images as the network gets them, and at their labels.",
        effect="look for a fault in labels, pixels, network or loss",
        source="Goodfellow, Bengio and Courville, Deep Learning (2016), §11.5: fit a tiny dataset",
        share=0.5,
        origin=NOT_TRIED,
    ),
    Remedy(
        name="relabel",
        family="data",
        answers={"noisy-labels": 0.8, "label-ceiling": 0.4},
        changes=advice,
        reason="Labels that the out-of-fold answers contradict are looked at first.",
        effect="go through the list of doubtful labels and correct them, in the val part too",
        source="Northcutt et al., arXiv:1911.00068",
        share=0.2,
        origin=NOT_TRIED,
    ),
    Remedy(
        name="temperature",
        family="data",
        answers={"over-confident": 0.8},
        changes=advice,
        reason="One number, fitted on the val part afterwards, makes probabilities honest without changing an answer.",
        effect="divide the logits by a fitted temperature; accuracy stays",
        source="Guo et al., arXiv:1706.04599 §4.2",
        share=0.0,
        origin=NOT_TRIED,
    ),
    Remedy(
        name="remove-twins",
        family="data",
        answers={"twins": 1.0},
        changes=advice,
        reason="An image that is in train and val is remembered, not understood: the score flatters.",
        effect="take the twins out of val, or keep each pair in one part, and judge again",
        source="Barz and Denzler, arXiv:1902.00423",
        share=0.0,
        origin=NOT_TRIED,
    ),
    Remedy(
        name="new-split",
        family="data",
        answers={"validation-shifted": 1.0},
        changes=advice,
        reason="Val images are of another kind than train images, so the gap is not the network's alone.",
        effect="split anew at random, or collect train images like those of val",
        source="Rabanser et al., arXiv:1810.11953",
        share=0.0,
        origin=NOT_TRIED,
    ),
    Remedy(
        name="more-validation-images",
        family="data",
        answers={"validation-too-small": 1.0},
        changes=advice,
        reason="On so few images no remedy of usual size can be told from luck.",
        effect="a larger val part, as the finding says how large",
        source="Varoquaux, arXiv:1706.07581",
        share=0.0,
        origin=NOT_TRIED,
    ),
    Remedy(
        name="more-of-rare-classes",
        family="data",
        answers={"imbalance-hidden": 0.7},
        changes=advice,
        reason="Weights make a rare class count; only more images of it show what it looks like.",
        effect="more images of the classes that the finding names",
        source="Buda et al., arXiv:1710.05381",
        share=0.1,
        origin=NOT_TRIED,
    ),
)
