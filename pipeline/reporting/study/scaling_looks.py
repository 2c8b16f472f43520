"""How the figures of a scaling study look, and what their captions say."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.reporting.study.table_drawing import FigureLook
from pipeline.store.studies.figure_table import FigureTable

COMPUTE = "training compute C, FLOPs"
LEAST_RESIDUALS = 0.2
"""Range of residuals in percent that is drawn at least."""


@dataclass(frozen=True)
class ScalingFacts:
    """What the captions of a scaling study's figures need to know."""

    count: str
    """What N counts, in words."""
    unit: str
    """Unit of the losses, in words."""
    has_law: bool
    not_identified: Sequence[str]
    """Symbols of the drawn law's numbers that the runs do not determine."""
    remarks: Sequence[str]
    """Sentences on how the runs' computes are counted."""


def scaling_look(name: str, facts: ScalingFacts) -> FigureLook:
    """Return how one of the figures is drawn."""
    loss = f"validation loss, {facts.unit}"
    looks = {
        "loss_over_compute": FigureLook(COMPUTE, loss, is_x_compute=True, is_wide=True),
        "isoflop": FigureLook(f"N, {facts.count}", loss, are_runs_joined=False, is_wide=True),
        "optimal_parameters": FigureLook(
            COMPUTE, "best N", is_y_logarithmic=True, is_x_compute=True
        ),
        "optimal_tokens": FigureLook(
            COMPUTE, "best D, tokens", is_y_logarithmic=True, is_x_compute=True
        ),
        "residuals": FigureLook(
            f"loss by the fit, {facts.unit}",
            "measured minus fit, %",
            x_scale="linear",
            least_y_range=LEAST_RESIDUALS,
            has_zero_line=True,
            are_runs_joined=False,
        ),
        "loss_beside_published": FigureLook(
            COMPUTE, loss, is_x_compute=True, are_runs_joined=False
        ),
    }
    return looks[name]


def scaling_caption(table: FigureTable, facts: ScalingFacts) -> str:
    """Return what one of the figures shows, and what it does not."""
    captions = {
        "loss_over_compute": _loss_over_compute(facts),
        "isoflop": _isoflop(facts),
        "optimal_parameters": _optimal_parameters(table, facts),
        "optimal_tokens": (
            "The D that goes with it: C / (6 N). Beyond the runs, dashed, the law is extrapolated; its "
            "band shows which runs it depends on, not whether its form still holds there."
        ),
        "residuals": (
            "How far each run is from the fit. Points of one colour that lie on a line or on one side "
            "of zero show that the law's form, or the training of that size, does not fit; points "
            "that scatter show noise."
        ),
        "loss_beside_published": (
            "The study beside Chinchilla's runs, fitted again (Besiroglu et al. 2024, "
            "arXiv:2404.10102), over the computes of those runs only. Text and tokenizer are "
            "different, so heights cannot be compared. What can be seen is how far the scales are apart."
        ),
    }
    return captions[table.name]


def _loss_over_compute(facts: ScalingFacts) -> str:
    sentences = [
        f"Validation loss of each run over its training compute, a curve for each N ({facts.count})."
    ]
    if facts.has_law:
        sentences.append(
            "The line with a band is the lowest loss that the fitted law gives for a compute of 6 N D, "
            "with its 95 % interval; dashed beyond the runs."
        )
    else:
        sentences.append("No law is drawn, because none was fitted.")
    if facts.not_identified:
        sentences.append(
            f"Not identified by these runs: {', '.join(facts.not_identified)}. The curve can be right "
            "between the runs all the same; far to the right of them it is a guess."
        )
    return " ".join([*sentences, *facts.remarks])


def _optimal_parameters(table: FigureTable, facts: ScalingFacts) -> str:
    sentences = [
        f"The N ({facts.count}) with the lowest loss at each compute, by the fit with its 95 % band. "
        f"{_exponent(facts)} Grey: what others have found with much larger models; Hoffmann et al. "
        "2022 (arXiv:2203.15556) count all parameters, Kaplan et al. 2020 (arXiv:2001.08361) leave "
        "out embeddings."
    ]
    if table.points_of("vertex"):
        sentences.append("Diamonds, from parabolas, are biased.")
    return " ".join(sentences)


def _isoflop(facts: ScalingFacts) -> str:
    sentences = [
        "Loss over N at each compute. Parabolas are the picture, not the answer: they are "
        "symmetric in log N, which the loss is not, so their minima (diamonds) are beside the "
        "optimum even without noise."
    ]
    if facts.has_law:
        sentences.append(
            "Stars: the optimum by the fit. A star outside the frame is in the figure's CSV."
        )
    return " ".join([*sentences, *facts.remarks])


def _exponent(facts: ScalingFacts) -> str:
    if "a" in facts.not_identified:
        return "Its slope a is not identified by these runs."
    return "Its slope a is identified."
