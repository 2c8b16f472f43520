"""A kind of tokenizer is one class and one line in the table: a new one needs nothing else."""

from pathlib import Path

import pytest
from helpers import run_stages
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from pipeline.config.kinds import TOKENIZER_KINDS
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.store.artifacts import read_manifest
from pipeline.store.layout import data_folder
from pipeline.tokens.kinds.learned import Learned, LearnedTokenizer, encode_with
from pipeline.tokens.kinds.tokenizer_kind import TokenizerKind
from pipeline.tokens.sample import Sample


class SingleBytes(LearnedTokenizer):
    """An id for each byte, one for the end of a document and one for a space before a t: 258."""

    split_patterns = ("single-digits",)

    def learn(self, config: RunConfig, sample: Sample, folder: Path) -> Learned:
        bytes_in_order = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = [config.tokenizer.end_of_document, *bytes_in_order, "\u0120t"]
        fast = Tokenizer(
            BPE({piece: number for number, piece in enumerate(vocabulary)}, [("\u0120", "t")])
        )
        fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        fast.decoder = decoders.ByteLevel()
        return Learned(fast, encode_with(fast))


def test_a_new_kind_is_made_proven_and_used(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOKENIZER_KINDS.paths, "single-bytes", f"{__name__}:SingleBytes")
    overrides = ["tokenizer.kind=single-bytes", "tokenizer.vocab_size=258"]
    run_stages(run_file, ["prepare", "train-tokenizer", "tokenize"], overrides)
    data = data_folder(load(run_file, overrides))
    tokenizer = read_manifest(data.tokenizer_manifest)
    tokens = read_manifest(data.tokens_manifest)
    assert tokenizer is not None and tokens is not None
    assert tokenizer["counts"]["kind"] == "single-bytes"
    assert tokenizer["counts"]["strings_that_differ"] == 0
    assert tokens["counts"]["vocab_size"] == 258
    with pytest.raises(ConfigError, match="kind single-bytes takes single-digits"):
        load(run_file, [*overrides, "tokenizer.split_pattern=gpt2"])


@pytest.mark.parametrize("name", TOKENIZER_KINDS.paths)
def test_each_name_in_the_table_is_a_kind(name: str) -> None:
    assert isinstance(TOKENIZER_KINDS[name], TokenizerKind)
