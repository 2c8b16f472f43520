"""Byte-level vocabularies in the forms in which people publish them, and strings to compare on.

`PIPELINE_TEST_VOCABULARIES` may name a folder of real ones: vocab.json and merges.txt of GPT-2,
gpt2.tiktoken, cl100k_base.tiktoken, o200k_base.tiktoken. Without it, small ones are learned.
"""

import base64
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, pre_tokenizers, trainers
from tokenizers.models import BPE

from pipeline.tokens.forms.byte_vocabulary import as_bytes
from pipeline.tokens.split_patterns import byte_level_cutter

PLANES = [
    (0x20, 0x7F), (0x80, 0x24F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF), (0x1100, 0x11FF),
    (0x2000, 0x2FFF), (0x3000, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xFFFF), (0x10000, 0x1FFFF),
    (0x20000, 0x2FFFF), (0x30000, 0x10FFFF),
]  # fmt: skip
WORDS = [
    "the", "The", "don't", "I'LL", "we'Ve", "it's", "'S", "'\u017f", "\u017ft", "x's", "return", "self.x",
    "==", "!=", "/*", "*/", "//", "->", "12345", "3.14159", "2024-01-02", "\u00dcn\u00efc\u00f6d\u00e9",
    "na\u00efve", "\u65e5\u672c\u8a9e", "\u043f\u0440\u0438\u0432\u0435\u0442", "\u0391\u0392\u0393",
    "\u01c5", "HTTPServer",
]  # fmt: skip
SPACES = [
    " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\u00a0", "\u2003", "\u2028", "\x85", "\x0b",
    "\x1c", "\u200b", "\u180e", " " * 40,
]  # fmt: skip
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|fim_prefix|>", "<|begin_of_text|>")


def fuzz_strings(count: int, seed: int, most_parts: int = 8) -> list[str]:
    """Return strings of characters of all planes, control characters, white space, digits, words
    and what looks like special tokens."""
    generator = random.Random(seed)
    return [
        "".join(_part(generator) for _ in range(generator.randrange(most_parts + 1)))
        for _ in range(count)
    ]


def _part(generator: random.Random) -> str:
    kind = generator.random()
    if kind < 0.3:
        return generator.choice(WORDS)
    if kind < 0.55:
        return generator.choice(SPACES)
    if kind < 0.6:
        return generator.choice(SPECIAL)[: generator.choice((99, 99, 7))]
    if kind < 0.65:
        return chr(generator.randrange(32))
    if kind < 0.7:
        return str(generator.randrange(10 ** generator.randrange(1, 12)))
    first, last = generator.choice(PLANES)
    codes = [generator.randint(first, last) for _ in range(generator.randrange(1, 6))]
    return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)


@cache
def learned(expression: str, vocab_size: int = 700) -> Tokenizer:
    """Learn byte-level BPE on words that an expression cuts; the last id is `<|endoftext|>`."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = byte_level_cutter(expression)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(fuzz_strings(3000, 99), trainer)
    return tokenizer


def write_merges_files(folder: Path, expression: str) -> Path:
    """Write vocab.json and merges.txt, the end of a document with the last id; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_str(learned(expression).to_str())
    tokenizer.model.save(str(folder))
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    entries = [f"{_json(piece)}: {number}" for piece, number in vocabulary.items()]
    entries.append(f'"<|endoftext|>": {len(vocabulary)}')
    (folder / "vocab.json").write_text("{" + ", ".join(entries) + "}", "utf-8")
    return folder


def _json(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def ranks_of(expression: str) -> list[bytes]:
    """Return the tokens of a learned vocabulary in the order of their ranks."""
    vocabulary = learned(expression).get_vocab(with_added_tokens=False)
    tokens = [as_bytes(piece) for piece in sorted(vocabulary, key=vocabulary.__getitem__)]
    return [token for token in tokens if token is not None]


def write_tiktoken_file(path: Path, tokens: Sequence[bytes]) -> Path:
    """Write a file of ranks, from 0 in the order of the tokens; returns the path."""
    lines = [base64.b64encode(token) + f" {rank}\n".encode() for rank, token in enumerate(tokens)]
    path.write_bytes(b"".join(lines))
    return path


def matches(expression: str, text: str) -> list[str]:
    """Return what the fast tokenizer's engine matches in a text."""
    cutter = pre_tokenizers.Split(Regex(expression), behavior="removed", invert=True)
    return [word for word, _ in cutter.pre_tokenize_str(text)]
