"""Vocabulary training in C++ or Rust, which says nothing meanwhile: the terminal shows what is read, then the time."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pipeline.logs import PLAIN_LINE_SECONDS, human_bytes, human_seconds, messages, progress
from pipeline.tokens.sample import Sample

Learned = TypeVar("Learned")
POLL_SECONDS = 0.2


def learn(train: Callable[[Iterator[str]], Learned], sample: Sample, vocab_size: int | None) -> Learned:
    """Return `train(texts of the sample)`, run in a thread of its own so that Ctrl-C and the display work.

    Both trainers release Python's lock while they work. An error while reading the sample is raised whatever the
    trainer made of it.
    """
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
    with progress("train-tokenizer: sample", sample.wanted_bytes, "bytes") as update:
        while thread.is_alive() and not sample.finished:
            thread.join(POLL_SECONDS)
            update(sample.progress, human_bytes(sample.bytes))
    with elapsed(f"train-tokenizer: learning {vocab_size:,} ids from {human_bytes(sample.bytes)}") as tick:
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            tick()
    if sample.error is not None and not isinstance(sample.error, GeneratorExit):
        raise sample.error
    if errors:
        raise errors[0]
    return outcome[0]


@contextmanager
def elapsed(label: str) -> Iterator[Callable[[], None]]:
    """Show how long something without a measure of progress has taken; yields `tick()`, to be called often."""
    started = last = time.monotonic()
    if messages.is_terminal and not os.environ.get("CI"):
        with messages.status(label) as status:
            yield lambda: status.update(f"{label}, {human_seconds(time.monotonic() - started)}")
        return

    def tick() -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_LINE_SECONDS:
            last = time.monotonic()
            print(f"{label}, {human_seconds(last - started)}", file=sys.stderr, flush=True)

    yield tick
