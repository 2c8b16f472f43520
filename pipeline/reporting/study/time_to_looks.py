"""How the figures of a time-to study look, and what their captions say."""

from pipeline.reporting.study.table_drawing import FigureLook
from pipeline.store.studies.figure_table import FigureTable

PUBLISHED = (
    "Grey: ResNet-50 on ImageNet to 76.3 % on 1,024 TPU v3 chips in 2.2 minutes, at over 1.05 million "
    "images/s and a batch of 32,768 (Ying et al. 2018, arXiv:1811.06992), and to 75.08 % on 2,048 V100 in "
    "74.7 s, at over 1.73 million images/s and a batch of 81,920 (Yamazaki et al. 2019, "
    "arXiv:1903.12650). Another task to other targets, which are not one either: only the scales can be "
    "compared."
)


def time_to_look(name: str) -> FigureLook:
    """Return how one of the figures is drawn."""
    looks = {
        "loss_over_time": FigureLook(
            "seconds from the first launch", "validation loss, nats per token", is_wide=True
        ),
        "time_over_throughput": FigureLook(
            "tokens/s", "seconds to the target", is_y_logarithmic=True, are_runs_joined=False
        ),
        "time_over_devices": FigureLook(
            "devices K",
            "seconds to the target",
            "devices",
            is_y_logarithmic=True,
            are_runs_joined=False,
        ),
    }
    return looks[name]


def time_to_caption(table: FigureTable) -> str:
    """Return what one of the figures shows."""
    captions = {
        "loss_over_time": (
            "Validation loss of each run over its time, start-up and restarts included, each validation "
            "a point; lines across: the targets. The curve that crosses a line first is the first there, "
            "whatever its tokens a second."
        ),
        "time_over_throughput": (
            "Time to each target over throughput, a run a point. Were throughput sufficient, all runs of "
            "a target would lie on a line like the dotted one, on which the time falls as the throughput "
            "rises. What lies above it needs more tokens than the fastest run of the first target (or "
            "waits longer: for start-up, validations, saves)."
        ),
        "time_over_devices": f"Time to each target over the number of devices. {PUBLISHED}",
    }
    return captions[table.name]
