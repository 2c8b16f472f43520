"""How the figures of a study of widths look, and what their captions say."""

from pipeline.reporting.study.table_drawing import FigureLook
from pipeline.store.studies.figure_table import FigureTable

WIDTH = "width of the model"
EPOCHS = "times that the training rows were read"
FEATURES = "number of random features"
LOSS = "loss, nats a token"
ERROR = "error, 1 - next-token accuracy"
BARS = "Points: mean over seeds; bars: from the lowest to the highest seed."
PUBLISHED = (
    "No published curve is drawn: Belkin et al. 2019 (arXiv:1812.11118) and Nakkiran et al. 2020 "
    "(arXiv:1912.02292) print curves and no tables. Their shape: the test error falls, rises to a peak "
    "where models just fit their training set, and falls again, often below its first minimum; for "
    "transformers Nakkiran et al. show it as test loss."
)
LOOKS = {
    "loss_over_width": FigureLook(WIDTH, LOSS),
    "error_over_width": FigureLook(WIDTH, ERROR),
    "held_out_error_over_width": FigureLook(WIDTH, f"held-out {ERROR}"),
    "gap_over_width": FigureLook(WIDTH, "gap, nats a token"),
    "loss_over_epochs": FigureLook(EPOCHS, f"held-out {LOSS}"),
    "error_over_epochs": FigureLook(EPOCHS, f"held-out {ERROR}"),
    "training_loss_over_epochs": FigureLook(EPOCHS, f"training {LOSS}"),
    "training_error_over_epochs": FigureLook(EPOCHS, f"training {ERROR}"),
    "random_features_error": FigureLook(FEATURES, "error, share of wrong labels"),
    "random_features_square": FigureLook(FEATURES, "squared error", is_y_logarithmic=True),
}
CAPTIONS = {
    "loss_over_width": (
        f"Loss at the end of training, on the training rows with their wrong targets and on held-out "
        f"text. {BARS} {PUBLISHED}"
    ),
    "error_over_width": (
        "The same as error: the share of targets that are not the token with the highest score. Where "
        "equal beginnings of rows have different targets no model fits them, so the training error "
        "does not quite reach 0."
    ),
    "held_out_error_over_width": "The held-out error alone, with its own scale.",
    "gap_over_width": (
        "The generalisation gap: held-out loss minus training loss. Wrong targets are among the "
        "training rows only, so a model that has not learned them by heart may have a gap below 0."
    ),
    "loss_over_epochs": (
        "Held-out loss over the epochs of each width. Where it turns, more training on the same rows "
        "hurts. Learning rates fall to the end of a run, so a shorter run is not a part of a longer one."
    ),
    "error_over_epochs": "Held-out error over the epochs of each width.",
    "training_loss_over_epochs": "Loss on the training rows over the epochs of each width.",
    "training_error_over_epochs": (
        "Error on the training rows over the epochs of each width: when it fits its wrong targets too."
    ),
    "random_features_error": (
        "Beside it, what can be solved exactly: linear models on random Fourier features (Belkin et al. "
        "2019, figure 2). From the training text's own tokens, the 8 most frequent ids: which id follows a "
        "context of 4 most often? 200 contexts are learned, a fifth of them with a wrong label, all "
        f"other contexts of that text test it. {BARS}"
    ),
    "random_features_square": (
        "The same as mean squared error. At the line a single model fits the samples, and its weights "
        "are large; with more features the fit with the smallest weights is taken."
    ),
}


def width_look(table: FigureTable) -> FigureLook:
    """Return how one of the figures is drawn."""
    return LOOKS[table.name]


def width_caption(table: FigureTable) -> str:
    """Return what one of the figures shows, and what it does not."""
    return CAPTIONS[table.name]
