"""Continues a text with a causal language model, token by token, drawn from a seed.

Reads and writes nothing. The same model, prompt, settings and seed give the same text on the same
kind of device.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError, UserError
from pipeline.evaluation.models import LoadedModel

if TYPE_CHECKING:
    import torch

REPLACEMENT = "\ufffd"
"""Character with which bytes are decoded that are not yet a whole character."""
TOKENS_BEFORE = 8
"""Tokens before the newest ones that are decoded with them: some tokenizers drop a space at the
beginning of a text."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn."""

    temperature: float = 0.8
    """Divisor of the logits; 0 takes the most likely token."""
    top_k: int = 50
    """Draw among this number of most likely tokens; 0 for all."""
    top_p: float = 1.0
    """Draw among the most likely tokens whose probabilities add up to this; 1 for all."""
    most_tokens: int = 48
    """Maximum number of tokens to write."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise UserError for values outside of their ranges."""
        rules = {
            f"temperature {self.temperature}: must be 0 or more": (
                self.temperature >= 0 and math.isfinite(self.temperature)
            ),
            f"top-k {self.top_k}: must be 0 or more": self.top_k >= 0,
            f"top-p {self.top_p}: must be above 0 and at most 1": 0 < self.top_p <= 1,
            f"maximum number of tokens {self.most_tokens}: must be 1 or more": self.most_tokens > 0,
            f"seed {self.seed}: must be from 0 to 2^63 - 1": 0 <= self.seed < 2**63,
        }
        problems = [rule for rule, is_kept in rules.items() if not is_kept]
        if problems:
            raise UserError("; ".join(problems))


@dataclass(frozen=True)
class Prompt:
    """The ids that the model reads before it writes."""

    ids: list[int]
    """At least one token."""
    cut_tokens: int
    """Tokens at the beginning of the text that the model's context has no room for."""
    most_tokens: int
    """Maximum number of tokens that fit after the ids."""


def fit_prompt(prompt_tokens: int, wanted_tokens: int, positions: int | None) -> tuple[int, int]:
    """Return how many of the prompt's last tokens are kept, and how many are written after them.

    Both together are at most `positions`, the tokens of the context; None for a context without
    end. What is written may take half of the context; the prompt keeps at least one token.
    """
    if positions is None:
        return prompt_tokens, wanted_tokens
    written = min(wanted_tokens, max(1, positions - prompt_tokens, positions // 2))
    return min(prompt_tokens, max(1, positions - written)), written


def encode_prompt(loaded: LoadedModel, text: str, most_tokens: int) -> Prompt:
    """Return the ids of a prompt that leave room to write up to `most_tokens`.

    After an empty text the model begins a document. Raises DataError where the tokenizer has no
    token to begin with.
    """
    tokenizer = loaded.tokenizer
    encode: Any = tokenizer
    encoded = encode(text, return_token_type_ids=False)
    ids = [int(token) for token in encoded["input_ids"]]
    if not ids:
        beginnings = [tokenizer.bos_token_id, tokenizer.eos_token_id]
        ids = [token for token in beginnings if isinstance(token, int)][:1]
    if not ids:
        raise DataError(
            f"{loaded.name}: its tokenizer has no token that begins a text. Give a prompt."
        )
    positions = getattr(loaded.model.config, "max_position_embeddings", None)
    kept, written = fit_prompt(len(ids), most_tokens, positions)
    return Prompt(ids[len(ids) - kept :], len(ids) - kept, written)


class TextOfTokens:
    """Decodes tokens one at a time into the text that each one completes."""

    def __init__(self, loaded: LoadedModel, prompt: Sequence[int]) -> None:
        self._tokenizer = loaded.tokenizer
        self._ids = list(prompt[-TOKENS_BEFORE:])
        self._first = 0
        self._shown = len(self._ids)

    def add(self, token: int) -> str:
        """Return the text that is complete with this token; "" within a character."""
        self._ids.append(token)
        text = self._pending()
        if text.endswith(REPLACEMENT):
            return ""
        self._shown = len(self._ids)
        self._first = max(0, self._shown - TOKENS_BEFORE)
        return text

    def rest(self) -> str:
        """Return what is left at the end, such as the bytes of half a character."""
        return self._pending()

    def _pending(self) -> str:
        before = self._decode(self._ids[self._first : self._shown])
        return self._decode(self._ids[self._first :])[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        text = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)
        return text


class _Written:
    """Receives ids from transformers: first the prompt, then one token at a time."""

    def __init__(self, receive: Callable[[int], None]) -> None:
        self._receive = receive
        self._is_prompt = True

    def put(self, ids: "torch.Tensor") -> None:
        if not self._is_prompt:
            self._receive(int(ids))
        self._is_prompt = False

    def end(self) -> None:
        pass


def write_tokens(
    loaded: LoadedModel, prompt: Prompt, sampling: Sampling, receive: Callable[[int], None]
) -> None:
    """Write tokens after a prompt, and pass each one to `receive` as soon as it is drawn.

    The last one ends the document where the model ends it. Raises DataError where the model's
    logits are not numbers.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    def refuse_broken_logits(_: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        if not torch.isfinite(logits.max()):
            raise DataError(
                f"{loaded.name}: its logits are not finite, so no token can be drawn. Use an "
                "earlier checkpoint, or the weights of another training."
            )
        return logits

    # How tokens are drawn.
    settings: dict[str, Any] = {
        "max_new_tokens": min(sampling.most_tokens, prompt.most_tokens),
        "eos_token_id": end_tokens(loaded),
        "pad_token_id": loaded.tokenizer.eos_token_id,
        "do_sample": sampling.temperature > 0,
    }
    if sampling.temperature > 0:
        settings["temperature"] = sampling.temperature
        settings["top_k"] = sampling.top_k
        settings["top_p"] = sampling.top_p

    # Draw them. The folder's own settings, such as a penalty of repetition, take no part.
    inputs = torch.tensor([prompt.ids], device=loaded.model.device)
    torch.manual_seed(sampling.seed)
    own_settings = loaded.model.generation_config
    loaded.model.generation_config = GenerationConfig()
    generate: Any = loaded.model.generate  # its type fits none of transformers' own models
    try:
        generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            generation_config=GenerationConfig(**settings),
            logits_processor=LogitsProcessorList([refuse_broken_logits]),
            streamer=_Written(receive),
        )
    finally:
        loaded.model.generation_config = own_settings


def end_tokens(loaded: LoadedModel) -> list[int]:
    """Return the ids that end a text, as the model and the tokenizer name them."""
    ends: list[Any] = [loaded.tokenizer.eos_token_id]
    settings: Any = loaded.model.generation_config
    if settings is not None and isinstance(settings.eos_token_id, list):
        ends += settings.eos_token_id
    elif settings is not None:
        ends.append(settings.eos_token_id)
    return sorted({end for end in ends if isinstance(end, int)})


def continue_text(loaded: LoadedModel, text: str, sampling: Sampling) -> str:
    """Return what a model writes after a text; only the end of a long text may be read."""
    prompt = encode_prompt(loaded, text, sampling.most_tokens)
    stream = TextOfTokens(loaded, prompt.ids)
    pieces: list[str] = []
    write_tokens(loaded, prompt, sampling, lambda token: pieces.append(stream.add(token)))
    return "".join([*pieces, stream.rest()])
