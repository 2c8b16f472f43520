"""The continuation of the prompt: any prompt, also an empty one and one beyond the positions that
the model has learned."""

from pathlib import Path

import pytest
import torch
from helpers import write_byte_level_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from pipeline.evaluation.export import CONTINUATION_TOKENS, continue_prompt, fit_prompt

POSITIONS = 20


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a random gpt2 of 20 learned positions over single bytes."""
    folder = tmp_path_factory.mktemp("gpt2")
    write_byte_level_tokenizer(folder)
    end = "<|endoftext|>"
    file = str(folder / "tokenizer.json")
    PreTrainedTokenizerFast(
        tokenizer_file=file, bos_token=end, eos_token=end, pad_token=end
    ).save_pretrained(folder)
    torch.manual_seed(1)
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": POSITIONS, "vocab_size": 259}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("prompt", ["", "The ", "x" * POSITIONS, "x" * 100])
def test_any_prompt_is_continued(exported: Path, prompt: str) -> None:
    assert isinstance(continue_prompt(exported, prompt), str)


def test_a_prompt_that_is_too_long_is_continued_from_its_end(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, written = fit_prompt(100, POSITIONS)
    assert (kept, written) == (10, 10)
    assert continue_prompt(exported, "y" * 90 + "x" * 10) == continue_prompt(exported, "x" * 100)
    warning = capsys.readouterr().err
    assert "100" in warning
    assert "last 10" in warning
    continue_prompt(exported, "x")
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tokens", "positions", "kept", "written"),
    [
        (4, None, 4, CONTINUATION_TOKENS),
        (4, 2048, 4, CONTINUATION_TOKENS),
        (2048, 2048, 2000, CONTINUATION_TOKENS),
        (2000, 2048, 2000, CONTINUATION_TOKENS),
        (4, 32, 4, 28),
        (31, 32, 16, 16),
        (5, 1, 1, 1),
        (5, 2, 1, 1),
    ],
)
def test_prompt_and_what_is_written_share_the_positions(
    tokens: int, positions: int | None, kept: int, written: int
) -> None:
    assert fit_prompt(tokens, positions) == (kept, written)
    assert positions is None or positions == 1 or kept + written <= positions
