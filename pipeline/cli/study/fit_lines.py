"""Words and numbers that the commands of studies share."""

from pipeline.planning.laws.comparison import Prediction
from pipeline.planning.laws.intervals import Interval
from pipeline.planning.laws.loss_law import Unit

UNIT_WORDS: dict[Unit, str] = {
    "nats": "nats a token",
    "bits": "bits a token",
    "bits-per-byte": "bits per byte",
}
NO_PREDICTION = "the largest run is not predicted: the others alone allow no fit"


def with_bounds(interval: Interval) -> tuple[str, str]:
    """Return a value and its bounds."""
    return f"{interval.value:.5g}", f"[{interval.low:.4g}, {interval.high:.4g}]"


def amounts_with_bounds(interval: Interval) -> tuple[str, str]:
    """Return an amount of parameters or tokens and its bounds."""
    return amount(interval.value, 3), f"[{amount(interval.low, 2)}, {amount(interval.high, 2)}]"


def amount(value: float, digits: int) -> str:
    """Return a large number with digits after the point, such as `7.319e10`."""
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def prediction_line(prediction: Prediction | None) -> str:
    """Return how well the law of all other runs predicts the largest one."""
    if prediction is None:
        return NO_PREDICTION
    predicted = prediction.predicted
    return (
        f"largest run, {prediction.name} (C = {amount(prediction.flops, 2)}), by a law of all others: "
        f"{predicted.value:.4f} [{predicted.low:.4f}, {predicted.high:.4f}], measured "
        f"{prediction.measured:.4f} ({prediction.error:+.2%})"
    )


def accuracy_prediction_line(prediction: Prediction | None) -> str:
    """Return how well both steps of all other runs predict the largest one's accuracy."""
    if prediction is None:
        return NO_PREDICTION
    predicted = prediction.predicted
    return (
        f"largest run, {prediction.name} (C = {amount(prediction.flops, 2)}), by both steps of all "
        f"others: {predicted.value:.4f} [{predicted.low:.4f}, {predicted.high:.4f}], measured "
        f"{prediction.measured:.4f} ({predicted.value - prediction.measured:+.4f})"
    )
