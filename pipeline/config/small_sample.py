"""The section `data.small_sample`: a data option for studies of generalisation only."""

from typing import Annotated

from pydantic import Field

from pipeline.config.values import Section


class SmallSample(Section):
    """Few training sequences that a run reads again and again, with wrong targets among them."""

    train_sequences: int = Field(ge=1)
    """Maximum number of training sequences of each source, evenly spread over it; every seed has the
    same ones."""
    label_noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training targets that are replaced by a uniformly random other id, the same one in
    every epoch: a function of `train.seed` and of the target's place in the text. Inputs and held-out
    text are left as they are."""
