"""Vocabulary training in C++ or Rust, which says nothing meanwhile: the terminal shows what is
read, then the time."""

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from pipeline.logs import elapsed, human_bytes, progress
from pipeline.tokens.sample import Sample

Learned = TypeVar("Learned")
POLL_SECONDS = 0.2


def learn(
    train: Callable[[Iterator[str]], Learned], sample: Sample, vocab_size: int | None
) -> Learned:
    """Return `train(texts of the sample)`, run in a thread of its own so that Ctrl-C and the
    display work.

    Both trainers release Python's lock while they work. An error while reading the sample is raised
    whatever the trainer made of it.
    """
    # The trainer gets a thread of its own.
    assert vocab_size is not None, "the run file is checked for it"
    outcome: list[Learned] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(train(sample.texts()))
        except BaseException as error:  # raised again below, in the main thread
            errors.append(error)

    thread = threading.Thread(target=run, name="learn", daemon=True)
    thread.start()

    # Show how much of the sample is read, then the time that learning takes.
    with progress("train-tokenizer: sample", sample.wanted_bytes, "bytes") as update:
        while thread.is_alive() and not sample.finished:
            thread.join(POLL_SECONDS)
            update(sample.progress, human_bytes(sample.bytes))
    with elapsed(
        f"train-tokenizer: learning {vocab_size:,} ids from {human_bytes(sample.bytes)}"
    ) as tick:
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            tick()

    # An error while reading counts whatever the trainer made of it.
    if sample.error is not None and not isinstance(sample.error, GeneratorExit):
        raise sample.error
    if errors:
        raise errors[0]
    return outcome[0]
