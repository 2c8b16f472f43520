"""How the figures of a few-shot study look, and what their captions say."""

from pipeline.reporting.study.few_shot_tables import StudyScores
from pipeline.reporting.study.table_drawing import FigureLook
from pipeline.store.studies.figure_table import FigureTable

COMPUTE = "training compute C, FLOPs"
PARAMETERS = "N, all parameters"
BARS = "Bars: ± one standard error of the questions."
PUBLISHED = (
    "Grey: what others have published (Pythia: Biderman et al. 2023), measured with an older harness "
    "and after far more training."
)
MOST_NAMED = 8


def few_shot_look(table: FigureTable) -> FigureLook:
    """Return how one of the figures is drawn."""
    if table.name == "accuracy_over_examples":
        return FigureLook(
            "solved examples before the question, k",
            "accuracy, mean over tasks",
            x_scale="examples",
            is_wide=True,
        )
    if table.name == "accuracy_over_parameters":
        return FigureLook(PARAMETERS, "accuracy, mean over tasks")
    if table.name == "accuracy_over_compute":
        return FigureLook(COMPUTE, "accuracy, mean over tasks", is_x_compute=True)
    if table.name == "answer_bits_over_compute":
        return FigureLook(COMPUTE, "bits per byte of the answer", is_x_compute=True)
    return FigureLook(PARAMETERS, f"accuracy, {table.name.removeprefix('task_')}")


def few_shot_caption(table: FigureTable, scores: StudyScores) -> str:
    """Return what one of the figures shows."""
    # What the figure shows.
    named = ", ".join(scores.tasks[:MOST_NAMED])
    if len(scores.tasks) > MOST_NAMED:
        named += f" and {len(scores.tasks) - MOST_NAMED} more"
    captions = {
        "accuracy_over_examples": (
            "Accuracy over the number of solved examples in the prompt, a curve a size, mean over "
            f"{named}: the longest training of each size. As figure 1.2 of Brown et al. 2020. {BARS}"
        ),
        "accuracy_over_parameters": (
            "The same over size, a curve for each number of examples. If the curves part with size, "
            "larger models learn more from examples."
        ),
        "accuracy_over_compute": (
            f"The same over training compute at k = {scores.most_shots}: every run of the study, a "
            "curve a size."
        ),
        "answer_bits_over_compute": (
            f"Bits per byte of the right answer at k = {scores.fewest_shots}, lower is better, mean "
            "over the same tasks. It can move where accuracy is still that of guessing."
        ),
    }
    caption = captions.get(
        table.name, f"Accuracy in {table.name.removeprefix('task_')} over size. {BARS}"
    )

    # What stands beside it.
    if table.points_of("chance"):
        caption += " Dashed: guessing."
    if table.points_of("published"):
        caption += f" {PUBLISHED}"
    return caption
