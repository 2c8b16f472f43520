"""In which unit losses of several runs can be compared, and what is said about them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import DataError
from pipeline.reporting.many_runs.compared_run import ComparedRun, StepPoint

LossUnit = Literal["nats a token", "bits per byte"]


@dataclass(frozen=True)
class Basis:
    """What is compared: the unit of the losses, and why it is not the other one."""

    unit: LossUnit
    is_held_out: bool
    """Whether the losses are those of held-out text; else those of training."""
    reasons: Sequence[str]
    """What keeps losses from being compared as they are, a sentence each."""

    def loss(self, point: StepPoint) -> float | None:
        """Return the loss of a step that is compared; None where it was not measured."""
        if not self.is_held_out:
            return point.loss
        if self.unit == "bits per byte":
            return point.bits_per_byte
        return point.validation_loss


def basis_of(runs: Sequence[ComparedRun]) -> Basis:
    """Return in which unit the runs can be compared.

    Losses a token are those of one tokenizer and the same held-out tokens. Otherwise bits per byte are
    compared. Raises DataError where neither is possible.
    """
    # Are tokens and text the same?
    is_one_tokenizer = _is_one([run.tokenizer for run in runs])
    is_same_held_out = is_one_tokenizer and _is_one([run.held_out for run in runs])
    reasons: list[str] = []
    if not is_one_tokenizer:
        reasons.append(
            "The runs have different tokenizers, so a loss a token counts other tokens in each: what is "
            "drawn is bits per byte of held-out text."
        )
    elif not is_same_held_out:
        reasons.append(
            "The runs are not known to have the same held-out text: what is drawn is bits per byte."
        )

    # Without held-out text the training losses are left.
    if any(run.last_validated is None for run in runs):
        lacking = [run.name for run in runs if run.last_validated is None]
        if not is_one_tokenizer:
            raise DataError(
                f"{lacking[0]}: has no validation loss, and training losses of different tokenizers "
                "cannot be compared; hold text out (prepare.validation_fraction), or compare runs of "
                "one tokenizer"
            )
        return Basis(
            "nats a token",
            is_held_out=False,
            reasons=[
                f"No validation loss: {', '.join(lacking)}. What is drawn is the training loss, each "
                "run's on its own text."
            ],
        )
    if is_same_held_out:
        return Basis("nats a token", is_held_out=True, reasons=[])
    return _bits_per_byte(runs, reasons)


def _bits_per_byte(runs: Sequence[ComparedRun], reasons: list[str]) -> Basis:
    """Return bits per byte as the basis. Raises DataError where a run has none."""
    for run in runs:
        if all(point.bits_per_byte is None for point in run.points):
            raise DataError(
                f"{run.path}: has no bits per byte, as its tokens do not stand for text, and its losses a "
                "token cannot be compared with those of other tokens; leave this run out"
            )
    if not _is_one([run.held_out_text for run in runs]):
        reasons.append(
            "Nor are the held-out documents known to be the same: heights also show which text is the "
            "easier one."
        )
    return Basis("bits per byte", is_held_out=True, reasons=reasons)


def _is_one(values: Sequence[str]) -> bool:
    """Tell whether all values are one that is known."""
    return len(set(values)) == 1 and bool(values[0])


def remarks(runs: Sequence[ComparedRun], names: Sequence[str]) -> list[str]:
    """Return what keeps a run out of a figure, or makes it another thing than the others."""
    sentences: list[str] = []
    for run, name in zip(runs, names, strict=True):
        if run.last.seconds is None:
            sentences.append(
                f"{name} has recorded no start of its ranks: it is not drawn over time."
            )
        if not run.are_data_as_read:
            sentences.append(
                f"{name}: its data folder is gone or was rebuilt with other content since the run began; "
                "which text it was validated on is known from its record alone."
            )
        if run.branches_off:
            sentences.append(
                f"{name} began from a checkpoint of another run: its time and FLOPs are those of its own "
                "steps, its tokens count the others too."
            )
    return sentences
