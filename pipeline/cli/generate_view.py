"""What `pipeline generate` prints: the continuation of a text, while the model writes it.

The text goes to standard output, all else to standard error. What a model writes is made harmless
before it reaches the terminal.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pipeline.errors import Interrupted, UserError
from pipeline.evaluation.generation import (
    Prompt,
    Sampling,
    TextOfTokens,
    encode_prompt,
    end_tokens,
    write_tokens,
)
from pipeline.evaluation.models import LoadedModel, load_named_model, move_to_gpu
from pipeline.logs import console, counted_noun, note, print_piece, read_line, warn


@dataclass
class Writing:
    """What a model has written after one prompt, and when."""

    started: float
    """Seconds of `time.monotonic`."""
    ids: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """When each token was drawn, in seconds of `time.monotonic`."""


def show_generation(
    name: str, overrides: Sequence[str], prompt: str | None, sampling: Sampling, with_ids: bool
) -> None:
    """Load a model, and continue a prompt, standard input, or each line that a user types.

    `name`: RUN, RUN@STEP or a transformers folder. Raises UserError for text that is not UTF-8,
    Interrupted where the user stops the model.
    """
    # What is wrong with the text is said before the model is loaded.
    is_typed = prompt is None and sys.stdin.isatty()
    if prompt is None and not is_typed:
        prompt = _standard_input()
    _refuse_bad_text(prompt or "")
    note(f"loading {name}")
    loaded = load_named_model(name, overrides)
    move_to_gpu(loaded)

    if prompt is not None:
        if _continue(loaded, prompt, sampling, with_ids=with_ids, shows_prompt=True):
            raise Interrupted("the text is not complete")
        return

    # Ctrl-C stops a text; at the prompt it ends the command, as Ctrl-D does.
    note(f"{loaded.name}: type a text and press Enter to have it continued; Ctrl-D ends")
    while True:
        text = read_line("> ")
        if text is None:
            return
        _refuse_bad_text(text)
        _continue(loaded, text, sampling, with_ids=with_ids, shows_prompt=False)
        sampling = replace(sampling, seed=sampling.seed + 1)


def _standard_input() -> str:
    """Return the text of a pipe or file, without the line feed at its end."""
    try:
        return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input: is not UTF-8 at byte {error.start:,}") from None


def _refuse_bad_text(text: str) -> None:
    """Raise UserError for a text from the terminal that was not UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"prompt: is not UTF-8 at character {error.start:,}") from None


def _continue(
    loaded: LoadedModel, text: str, sampling: Sampling, *, with_ids: bool, shows_prompt: bool
) -> bool:
    """Print what a model writes after a text; return whether the user stopped it."""
    # Print the prompt, as far as the model reads it all.
    prompt = encode_prompt(loaded, text, sampling.most_tokens)
    if prompt.cut_tokens:
        warn(
            f"the model's context has no room for the first {prompt.cut_tokens:,} tokens of the "
            "prompt, which it does not read"
        )
    if shows_prompt:
        print_piece(text)

    # Print each token when it is drawn.
    stream = TextOfTokens(loaded, prompt.ids)
    writing = Writing(time.monotonic())

    def receive(token: int) -> None:
        writing.times.append(time.monotonic())
        writing.ids.append(token)
        print_piece(stream.add(token), "bold")

    is_stopped = False
    try:
        write_tokens(loaded, prompt, sampling, receive)
    except KeyboardInterrupt:
        is_stopped = True
    print_piece(stream.rest() + "\n", "bold")

    # Say what was written.
    if with_ids:
        console.print(f"prompt ids: {' '.join(map(str, prompt.ids))}")
        console.print(f"written ids: {' '.join(map(str, writing.ids))}")
    note(_in_words(loaded, writing, sampling, _why_ended(loaded, prompt, sampling, writing)))
    return is_stopped


def _why_ended(loaded: LoadedModel, prompt: Prompt, sampling: Sampling, writing: Writing) -> str:
    """Return why no more was written."""
    if writing.ids and writing.ids[-1] in end_tokens(loaded):
        return "end of the text"
    if len(writing.ids) == sampling.most_tokens:
        return "as many as asked for"
    if len(writing.ids) == prompt.most_tokens:
        return "the model's context is full"
    return "stopped"


def _in_words(loaded: LoadedModel, writing: Writing, sampling: Sampling, why: str) -> str:
    """Return the number of tokens, their rate, and the seed."""
    parts = [loaded.name, f"{counted_noun(len(writing.ids), 'token')} ({why})"]
    if writing.times:
        parts.append(f"prompt read in {writing.times[0] - writing.started:.2f} s")
    if len(writing.times) > 1:
        seconds = writing.times[-1] - writing.times[0]
        parts.append(f"{(len(writing.times) - 1) / seconds:,.1f} tokens/s")
    if sampling.temperature > 0:
        parts.append(f"seed {sampling.seed}")
    return ", ".join(parts)
