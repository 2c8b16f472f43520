"""How the figures of a batch study look, and what their captions say."""

from pipeline.reporting.study.table_drawing import FigureLook
from pipeline.store.studies.figure_table import FigureTable

BATCH = "tokens of a batch, |B| = K |B_ref|"
LOSS = "validation loss, nats a token"
BARS = "Points are means over the seeds, bars their lowest and highest loss."
ABOVE_GUESSING = (
    "What lies above the loss of guessing, dashed, has diverged: it is a triangle at the upper edge, and the "
    "numbers tell how far it is."
)
LEAST_RANGE = 2.0
"""Percent that the axis of differences spans at least."""


def batch_look(table: FigureTable) -> FigureLook:
    """Return how one of the figures is drawn."""
    if table.name == "loss_beside_published":
        return FigureLook(
            "K, batch over the reference batch",
            "above the reference batch, %",
            least_y_range=LEAST_RANGE,
            has_zero_line=True,
            is_wide=True,
            is_cut_at_chance=True,
        )
    return FigureLook(BATCH, LOSS, is_wide=True, is_cut_at_chance=True)


def batch_caption(table: FigureTable) -> str:
    """Return what one of the figures shows, and what it does not."""
    captions = {
        "best_loss_over_batch": (
            "The lowest loss of each batch, over rules, warm-ups and rates that were tried and of which no "
            f"seed diverged. {BARS}"
        ),
        "loss_beside_published": (
            "How far the validation loss is above the best one of the reference batch, for each rule at "
            "its best warm-up. Grey: how far Goyal et al. 2017 (arXiv:1706.02677) found the top-1 "
            "validation error of ResNet-50 on ImageNet above that of 256 images (23.60 %), with linear "
            "scaling. Loss and error are different quantities, and the axes are ratios: compare where "
            "the curves leave zero and how steeply, not their heights."
        ),
    }
    variant = table.name.removeprefix("loss_over_batch").replace("_", " ").strip()
    which = f"{variant}: held-out" if variant else "Held-out"
    caption = captions.get(
        table.name,
        f"{which} loss after the same tokens over the batch |B| = K |B_ref|: a batch K times as large "
        f"takes K times fewer steps. One curve for each rule of the learning rate and warm-up. {BARS}",
    )
    if table.points_of("chance"):
        return f"{caption} {ABOVE_GUESSING}"
    return caption
