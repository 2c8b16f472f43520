"""Regular expressions that cut a text into words before byte-level tokens are merged.

No token reaches across a cut, so a vocabulary gives its ids only with the expression that it was
learned with. A tokenizer.json holds that expression; a tiktoken file and a merges.txt do not.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import regex
from tokenizers import Regex, pre_tokenizers

from pipeline.errors import DataError, one_line


@dataclass(frozen=True)
class SplitPattern:
    """A named expression, and the vocabulary that was published with it."""

    expression: str
    ranks: int
    """Tokens of the published tiktoken file."""
    special_tokens: Mapping[str, int] = field(default_factory=dict[str, int])
    """Special tokens of the published vocabulary, which the file does not hold: name -> id."""


CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Source: cl100k_base in tiktoken's openai_public.py, in the spelling of Llama 3's tokenizer.json.

tiktoken spells it with possessive quantifiers, which are faster and cut in the same places.
"""
O200K_END = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
NAMED_PATTERNS = {
    # Source: Radford et al. 2019, openai/gpt-2 src/encoder.py.
    "gpt2": SplitPattern(
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        50_256,
        {"<|endoftext|>": 50_256},
    ),
    # Source of these ids and those of o200k_base: tiktoken's openai_public.py.
    "cl100k_base": SplitPattern(
        CL100K,
        100_256,
        {
            "<|endoftext|>": 100_257,
            "<|fim_prefix|>": 100_258,
            "<|fim_middle|>": 100_259,
            "<|fim_suffix|>": 100_260,
            "<|endofprompt|>": 100_276,
        },
    ),
    # Source: o200k_base in tiktoken's openai_public.py.
    "o200k_base": SplitPattern(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + O200K_END
        + r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + O200K_END
        + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        199_998,
        {"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018},
    ),
    # Source: `pat_str` and the first two special tokens in meta-llama/llama3 llama/tokenizer.py. The
    # names of the others differ among the releases.
    "llama3": SplitPattern(
        CL100K, 128_000, {"<|begin_of_text|>": 128_000, "<|end_of_text|>": 128_001}
    ),
}  # fmt: skip
"""Values of `tokenizer.pattern` that are names."""
NAME = re.compile(r"[\w.-]+", re.ASCII)
"""A value of `tokenizer.pattern` that is no useful expression: it would match itself alone."""
POSSESSIVE_COUNT = re.compile(r"\{\d*,?\d*\}\+")
"""A possessive repetition such as `{1,3}+`."""


PROBE = "".join(map(chr, range(128))) + "\u00e9 \u65e5\u672c\u0301 \U0001f600"
"""Characters that an expression has to match: those of ASCII, letters, a mark, a symbol."""


def pattern_names() -> str:
    """Return the names of the patterns, for messages."""
    return ", ".join(NAMED_PATTERNS)


def expression_of(pattern: str) -> str:
    """Return the expression that `tokenizer.pattern` names or is.

    Raises DataError for an unknown name, and for an expression that does not compile, matches empty
    text or not all of a text, or that the two engines understand differently.
    """
    # A name, or what was meant as one.
    if pattern in NAMED_PATTERNS:
        return NAMED_PATTERNS[pattern].expression
    where = f"tokenizer.pattern = {pattern!r}"
    if NAME.fullmatch(pattern):
        raise DataError(
            f"{where}: no such pattern; set it to {pattern_names()}, or to a regular expression"
        )

    # Both engines have to read an expression, and in the same way.
    try:
        compiled = regex.compile(pattern)
        Regex(pattern)
    except Exception as error:  # `tokenizers` raises bare Exceptions
        raise DataError(
            f"{where}: is not a regular expression ({one_line(error)}); correct it, or use the "
            f"name of a pattern: {pattern_names()}"
        ) from None
    if compiled.match(""):
        raise DataError(
            f"{where}: matches empty text, so that it cuts nothing; write + where it has *"
        )
    if POSSESSIVE_COUNT.search(pattern):
        raise DataError(
            f"{where}: has a possessive repetition ({POSSESSIVE_COUNT.findall(pattern)[0]}), which "
            r"tokenizer.json reads as another one; write (?>X{1,3}) for X{1,3}+, or use the name "
            f"of a pattern: {pattern_names()}"
        )
    left = regex.sub(compiled, "", PROBE)
    if left:
        raise DataError(
            f"{where}: matches not all of a text: it leaves {left[:20]!r}, which would be lost; add "
            r"an alternative for it, such as |[\s\S]"
        )
    return pattern


def byte_level_cutter(expression: str) -> pre_tokenizers.PreTokenizer:
    """Return the step of a fast tokenizer that cuts a text, and writes its bytes as characters."""
    if expression == NAMED_PATTERNS["gpt2"].expression:
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(expression), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
