"""How the figures of a critical-batch study look, and what their captions say."""

from pipeline.reporting.study.table_drawing import FigureLook
from pipeline.store.studies.figure_table import FigureTable

STEPS = "steps to the target, S"
TOKENS = "tokens to the target, E"
LOOKS = {
    "steps_over_batch": FigureLook(
        "tokens of a batch, B", STEPS, is_y_logarithmic=True, are_runs_joined=False, is_wide=True
    ),
    "tokens_over_steps": FigureLook(STEPS, TOKENS, is_y_logarithmic=True, are_runs_joined=False),
    "tokens_over_rate": FigureLook(
        "learning rate / that of the batch by rule", TOKENS, is_y_logarithmic=True
    ),
    "critical_batch_over_loss": FigureLook(
        "target loss, nats a token",
        "critical batch, tokens",
        x_scale="linear",
        is_y_logarithmic=True,
        is_wide=True,
    ),
}
CAPTIONS = {
    "steps_over_batch": (
        "Steps to the target over the batch, each batch at its best learning rate. On the left twice the "
        "batch halves the steps; on the right more of it saves none. As figure 1 of Shallue et al. 2019 "
        "(arXiv:1811.03600)."
    ),
    "tokens_over_steps": (
        "The same as a trade: fewer steps (time) for more tokens (compute). McCandlish et al. 2018 "
        "(arXiv:1812.06162) expect a hyperbola; at B_crit both are twice their minimum."
    ),
    "tokens_over_rate": (
        "Tokens to the target over the learning rate, a curve a batch. A curve whose lowest point is its "
        "last one is not tuned: a better rate may lie beyond."
    ),
    "critical_batch_over_loss": (
        "The critical batch by the fit (bars: 95 %), and by the noise scale that the runs measured "
        "shortly before the target, a running average (median over the batches that took enough steps to "
        "measure it; bars: lowest and highest). The two agree "
        "only within a factor, as the noise scale knows nothing of the optimizer. Grey: 2e8 tokens / "
        "L^4.76 (Kaplan et al. 2020, arXiv:2001.08361), found with another vocabulary, whose nats a "
        "token are not these."
    ),
}

FITS = {
    "steps_over_batch": "The line is the fit with its 95 % band; dotted, each twice as "
    "large a batch would halve the steps.",
    "tokens_over_steps": "The line is the same fit.",
}
"""What is said of a figure's fitted curve, where it has one."""


def critical_batch_look(table: FigureTable) -> FigureLook:
    """Return how one of the figures is drawn."""
    return LOOKS[table.name]


def critical_batch_caption(table: FigureTable) -> str:
    """Return what one of the figures shows, and what it does not."""
    caption = CAPTIONS[table.name]
    fit = FITS.get(table.name)
    if fit is None:
        return caption
    if table.points_of("fit"):
        return f"{caption} {fit}"
    return f"{caption} No curve is drawn, as none could be fitted."
