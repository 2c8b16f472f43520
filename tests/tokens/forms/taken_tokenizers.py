"""An existing tokenizer as `train-tokenizer` takes it, for the tests of its forms."""

from pathlib import Path

from tokenizers import Tokenizer

from pipeline.config.sections import TokenizerSection
from pipeline.tokens.forms.tokenizer_form import form_of
from pipeline.tokens.kinds.tokenizer_kind import Encode


def settings(path: Path, **more: object) -> TokenizerSection:
    return TokenizerSection.model_validate({"kind": "pretrained", "path": path, **more})


def taken(section: TokenizerSection, folder: Path) -> tuple[Tokenizer, Encode]:
    """Take a tokenizer; returns what `tokenize` reads, and the reference."""
    form = form_of(section)
    form.check(section)
    reference = form.take(section, folder).reference
    fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
    fast.encode_special_tokens = True
    assert form.expected_ids(section) == fast.get_vocab_size()
    return fast, reference
