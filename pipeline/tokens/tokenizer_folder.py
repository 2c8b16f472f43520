"""Write a tokenizer folder, load it as its users do, and compare it with its reference.

Writes and reads data_dir/tokenizer; takes strings to compare from data_dir/documents.
"""

import json
import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer, processors

from pipeline.config.run_config import RunConfig
from pipeline.corpus.selecting.kept_documents import kept_documents
from pipeline.errors import DataError
from pipeline.logs import progress, warn
from pipeline.store.counts import ExactnessProof
from pipeline.store.files import write_json
from pipeline.store.pretrained_folders import TOKENIZER_CONFIG, TOKENIZER_JSON, open_tokenizer
from pipeline.tokens.kinds.tokenizer_kind import Encode, TokenizerKind
from pipeline.tokens.sentencepiece_models.sentencepiece_file import SPACE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PROOF_STRINGS = 2400
"""Strings that are compared. Edge cases and pieces of documents make up three quarters of them,
random characters the rest."""
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
"""Texts that tokenizers often get wrong."""
LONG_LINE_CHARACTERS = 100_000
"""Length of one string, a line without a space."""


def write(fast: Tokenizer, folder: Path, end: str, unknown: str | None) -> None:
    """Write a tokenizer as a transformers folder that gives the same ids in versions 4 and 5.

    `end` is also the padding and the first token: in training, the end of another document precedes
    each document. The written tokenizer adds nothing to a text and cuts none, whatever `fast` does.
    Code and chat templates of the folder that `fast` came from are left out.
    """
    # The same ids without additions, truncation and padding.
    folder.mkdir(parents=True, exist_ok=True)
    plain = Tokenizer.from_str(fast.to_str())
    plain.no_truncation()
    plain.no_padding()
    plain.post_processor = processors.TemplateProcessing(
        single="$A:0", pair="$A:0 $B:1", special_tokens=[]
    )
    names = [end]
    if unknown is not None:
        names.append(unknown)
    added = {token.content for token in plain.get_added_tokens_decoder().values()}
    plain.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in names if name not in added]
    )
    plain.save(str(folder / TOKENIZER_JSON))

    # Version 4 of transformers does not know the class name that version 5 would write.
    settings: dict[str, str | bool] = {
        "bos_token": end,
        "clean_up_tokenization_spaces": False,
        "eos_token": end,
        "pad_token": end,
        "tokenizer_class": "PreTrainedTokenizerFast",
        **_space_in_front(plain),
    }
    if unknown is not None:
        settings["unk_token"] = unknown
    write_json(folder / TOKENIZER_CONFIG, settings)


def _space_in_front(fast: Tokenizer) -> dict[str, bool]:
    """Return whether a space is put in front of a text: unset, version 4 would take it as false."""
    if fast.pre_tokenizer is None:
        return {}
    state: dict[str, bool] = json.loads(fast.pre_tokenizer.__getstate__())
    name = "add_prefix_space"
    if name in state:
        return {name: state[name]}
    return {}


def load_exported(folder: Path) -> "PreTrainedTokenizerFast":
    """Load a tokenizer folder as any user of transformers would."""
    tokenizer = open_tokenizer(folder, str(folder))
    from transformers import PreTrainedTokenizerFast

    assert isinstance(tokenizer, PreTrainedTokenizerFast), "the folder names this class"
    return tokenizer


def prove(
    folder: Path, kind: TokenizerKind, reference: Encode, strings: Sequence[str]
) -> ExactnessProof:
    """Compare the folder with the reference on every string, and decode the ids; return counts.

    The folder is read twice: with transformers, as its users do, and with `tokenizers`, as
    `tokenize` does. Raises DataError where one id differs; also where a learned tokenizer does not
    decode to the text (SentencePiece decodes its symbol of a space to a space), or encodes text as
    the end of a document.
    """
    # Load the folder as its two kinds of readers do.
    loaded = load_exported(folder)
    direct = Tokenizer.from_file(str(folder / TOKENIZER_JSON))
    direct.encode_special_tokens = True
    direct.no_padding()
    direct.no_truncation()

    # Encode and decode every string.
    differing: list[str] = []
    broken: list[str] = []
    ending: list[str] = []
    same = 0
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

    # Refuse what would make tokens wrong; a pretrained tokenizer is allowed to change text.
    if differing:
        raise DataError(
            f"{folder}: the exported tokenizer gives different ids from its reference for "
            f"{len(differing)} of {len(strings)} strings, first {differing[0][:80]!r}. Choose "
            "another tokenizer.kind or tokenizer.path."
        )
    if broken and kind.is_learned:
        raise DataError(
            f"{folder}: decoding does not give the text back for {len(broken)} of {len(strings)} "
            f"strings, first {broken[0][:80]!r}. Choose another tokenizer.kind."
        )
    if ending:
        problem = (
            f"{folder}: the text {loaded.eos_token!r} in a document is encoded as the "
            f"end-of-document token, as in {ending[0][:80]!r}"
        )
        if kind.is_learned:
            raise DataError(
                f"{problem}. Choose a tokenizer.end_of_document that is not a word, such as "
                "<|endoftext|>."
            )
        warn(f"{problem}; this tokenizer cannot distinguish them")
    return {
        "strings_compared": len(strings),
        "strings_that_differ": 0,
        "strings_decoded_to_themselves": same,
        "strings_with_the_end_of_a_document_inside": len(ending),
        "strings_with_the_space_symbol": sum(SPACE in text for text in strings),
    }


def proof_strings(config: RunConfig, special_tokens: Sequence[str]) -> list[str]:
    """Return the strings on which tokenizers are compared, the same ones at every run.

    They are edge cases, special tokens written in a text, a long line, pieces of documents of each
    source in turn, and random characters.
    """
    # Texts of each source to cut pieces from.
    generator = random.Random(config.tokenizer.vocab_size or 0)
    documents = kept_documents(config)
    texts = [
        [
            text[:LONG_LINE_CHARACTERS]
            for _, text in islice(documents.iterate_texts(source, "train"), 100)
        ]
        for source, settings in config.sources.items()
        if settings.has_documents
    ]
    texts = [of_source for of_source in texts if any(of_source)]

    # Strings that are known to be difficult.
    strings: list[str] = list(EDGE_STRINGS)
    for token in special_tokens:
        strings += [token, f"a{token} {token}{token}b"]
    words = [word for of_source in texts for text in of_source for word in text[:2000].split()]
    long_line = "".join(generator.choices(words or ["x"], k=LONG_LINE_CHARACTERS))
    strings.append(long_line[:LONG_LINE_CHARACTERS])

    # Pieces of the sources in turn, then random characters.
    while texts and len(strings) < PROOF_STRINGS * 3 // 4:
        text = generator.choice(texts[len(strings) % len(texts)])
        start = generator.randrange(max(1, len(text)))
        strings.append(text[start : start + generator.choice((4, 40, 400, 2000))])
    while len(strings) < PROOF_STRINGS:
        strings.append(random_text(generator))
    return strings


def random_text(generator: random.Random) -> str:
    """Return up to 49 random characters of all planes of Unicode."""
    count = generator.randrange(1, 50)
    return "".join(_random_character(generator) for _ in range(count))


def _random_character(generator: random.Random) -> str:
    """Return any Unicode scalar value; every second one is printable ASCII or white space."""
    if generator.random() < 0.5:
        return chr(generator.choice((*range(32, 127), 9, 10, 13, 32, 32, 32)))
    code = generator.randrange(0x110000 - 0x800)
    # The 0x800 surrogates from 0xD800 on are no characters.
    if code >= 0xD800:
        code += 0x800
    return chr(code)
