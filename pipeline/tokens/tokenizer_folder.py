"""The tokenizer folder: written, loaded as a user would, and proven on thousands of strings."""

import json
import random
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, processors

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import iterate_texts
from pipeline.errors import DataError
from pipeline.logs import progress, warn
from pipeline.store.counts import ExactnessProof
from pipeline.store.files import write_json
from pipeline.store.layout import data_folder
from pipeline.store.pretrained_folders import TOKENIZER_CONFIG, TOKENIZER_JSON, open_tokenizer
from pipeline.tokens.kinds.tokenizer_kind import TokenizerKind
from pipeline.tokens.sentencepiece_file import SPACE

PROOF_STRINGS = 2400
"""Strings compared: three of four cut from documents of all sources, the rest edge cases and random
characters."""
EDGE_STRINGS = (
    "", " ", "  ", " " * 64, " " * 7 + "a" + " " * 129, "\n", "\n\n\n", "\t\t", "\r\n", " \n \t\r\n  \n",
    "a b", " a", "a ", "\u00a0", "\u2003\u3000", "\u2028", "\u2581", "\u2581\u2581 a", "a\u2581", " \u2581 ",
    "<unk>", "<s>", "<|endoftext|>", "a<|endoftext|>b", "<|endoftext|",
    "</s>", "<0x41>", "<0x0A><0xFF>", "<|im_start|>",
    "0123456789", "3.14159", "\u0664\u0662", "\u00b2\u00bd\u2167", "I'LL we've 'S",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f3f3\ufe0f\u200d\U0001f308\U0001f1e9\U0001f1ea",
    "e\u0301 \u00e9 \u1e9b\u0323 \ufb01", "\u0e33\u0e49 \u1112\u1161\u11ab", "\u202eabc\u202c",
    "\ufeffx", "\ufffd\uffff",
    "\x00", "a\x00\x00b", "\x1b[0m", "\x7f\x80\x9f", "".join(map(chr, range(32))),
    "x" * 5000, "\u65e5\u672c\u8a9e" * 500,
)  # fmt: skip
LONG_LINE_CHARACTERS = 100_000
"""One string is a line of this length without a space."""


def write(fast: Tokenizer, folder: Path, end: str, unknown: str | None) -> None:
    """Save a tokenizer as a transformers folder that gives the same ids in versions 4 and 5.

    `end` is also the padding and the first token: what stands before a document in training is the
    end of another one. Nothing is put before or after a text and none is cut, whatever the
    tokenizer did before; code and chat templates of the folder that it came from are not in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = Tokenizer.from_str(fast.to_str())
    plain.no_truncation()
    plain.no_padding()
    plain.post_processor = processors.TemplateProcessing(
        single="$A:0", pair="$A:0 $B:1", special_tokens=[]
    )
    names = [end] if unknown is None else [end, unknown]
    added = {token.content for token in plain.get_added_tokens_decoder().values()}
    plain.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in names if name not in added]
    )
    plain.save(str(folder / TOKENIZER_JSON))
    settings: dict[str, Any] = {
        "bos_token": end,
        "clean_up_tokenization_spaces": False,
        "eos_token": end,
        "pad_token": end,
        "tokenizer_class": "PreTrainedTokenizerFast",  # version 4 does not know the name that 5 writes
        **_space_in_front(plain),
    }
    if unknown is not None:
        settings["unk_token"] = unknown
    write_json(folder / TOKENIZER_CONFIG, settings)


def _space_in_front(fast: Tokenizer) -> dict[str, bool]:
    """Return what version 4 would otherwise set to false in the tokenizer that it has read."""
    state = {} if fast.pre_tokenizer is None else json.loads(fast.pre_tokenizer.__getstate__())
    name = "add_prefix_space"
    if name in state:
        return {name: state[name]}
    return {}


def load_exported(folder: Path) -> Any:
    """Load a tokenizer folder as any user of transformers would."""
    return open_tokenizer(folder, str(folder))


def prove(
    folder: Path, kind: TokenizerKind, reference: Callable[[str], list[int]], strings: Sequence[str]
) -> ExactnessProof:
    """Compare the folder with the reference on every string, and decode what was encoded; returns
    the counts.

    The folder is read twice: by transformers, as its users do, and by `tokenizers`, as `tokenize`
    does. Raises DataError where one id differs; where a trained tokenizer does not give a text back
    (byte-level exactly, SentencePiece with a space for the symbol of a space), or takes text for
    the end of a document.
    """
    # Load the folder as its two kinds of readers do.
    loaded = load_exported(folder)
    direct = Tokenizer.from_file(str(folder / TOKENIZER_JSON))
    direct.encode_special_tokens = True
    direct.no_padding()
    direct.no_truncation()

    # Encode and decode every string.
    differing, broken, ending, same = [], [], [], 0
    with progress("train-tokenizer: proof", len(strings), "strings") as update:
        for number, text in enumerate(strings):
            ids = loaded(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            if loaded.eos_token_id in ids:
                ending.append(text)
            if not reference(text) == ids == direct.encode(text, add_special_tokens=False).ids:
                differing.append(text)
            decoded = loaded.decode(ids, skip_special_tokens=False)
            same += decoded == text
            if decoded != kind.decoding_of(text):
                broken.append(text)
            update(number + 1, "")

    # Refuse what would make tokens wrong; a pretrained tokenizer may change text.
    if differing:
        raise DataError(
            f"{folder}: the exported tokenizer gives other ids than its reference for "
            f"{len(differing)} of {len(strings)} "
            f"strings, first {differing[0][:80]!r}. Choose another tokenizer.kind or "
            "tokenizer.path."
        )
    if broken and kind.is_learned:
        raise DataError(
            f"{folder}: decoding does not give the text back for {len(broken)} of {len(strings)} "
            "strings, first "
            f"{broken[0][:80]!r}. Choose another tokenizer.kind."
        )
    if ending:
        problem = (
            f"{folder}: the text {loaded.eos_token!r} in a document is encoded as the "
            "end-of-document token, as in "
            f"{ending[0][:80]!r}"
        )
        if kind.is_learned:
            raise DataError(
                f"{problem}. Choose a tokenizer.end_of_document that is no word, such as "
                "<|endoftext|>."
            )
        warn(f"{problem}; this tokenizer cannot tell them apart")
    return {
        "strings_compared": len(strings),
        "strings_that_differ": 0,
        "strings_decoded_to_themselves": same,
        "strings_with_the_end_of_a_document_inside": len(ending),
        "strings_with_the_space_symbol": sum(SPACE in text for text in strings),
    }


def proof_strings(config: RunConfig, special_tokens: Sequence[str]) -> list[str]:
    """Return the strings of the proof, the same ones at every run.

    Edge cases, special tokens written out, a long line, pieces of documents of each source in turn,
    random characters.
    """
    # Texts of each source to cut pieces from.
    generator = random.Random(config.tokenizer.vocab_size or 0)
    documents = data_folder(config).documents
    texts = [
        [
            text[:LONG_LINE_CHARACTERS]
            for _, text in islice(iterate_texts(documents, source, "train"), 100)
        ]
        for source, settings in config.sources.items()
        if settings.has_documents
    ]
    texts = [of_source for of_source in texts if any(of_source)]

    # Strings that are known to be difficult.
    strings: list[str] = list(EDGE_STRINGS)
    for token in special_tokens:
        strings += [token, f"a{token} {token}{token}b"]
    words = [word for of_source in texts for text in of_source for word in text[:2000].split()] or [
        "x"
    ]
    strings.append("".join(generator.choices(words, k=LONG_LINE_CHARACTERS))[:LONG_LINE_CHARACTERS])

    # Pieces of the sources in turn, then random characters.
    while texts and len(strings) < PROOF_STRINGS * 3 // 4:
        text = generator.choice(texts[len(strings) % len(texts)])
        start = generator.randrange(max(1, len(text)))
        strings.append(text[start : start + generator.choice((4, 40, 400, 2000))])
    while len(strings) < PROOF_STRINGS:
        strings.append(
            "".join(_random_character(generator) for _ in range(generator.randrange(1, 50)))
        )
    return strings


def _random_character(generator: random.Random) -> str:
    """Any Unicode scalar value, half of them printable ASCII or white space."""
    if generator.random() < 0.5:
        return chr(generator.choice((*range(32, 127), 9, 10, 13, 32, 32, 32)))
    code = generator.randrange(0x110000 - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)  # surrogates are no characters
