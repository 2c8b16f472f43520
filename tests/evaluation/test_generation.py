"""Texts that a model continues: any prompt, any tokenizer, the same seed."""

from pathlib import Path

import pytest
import torch
from helpers import write_byte_level_tokenizer, write_sentencepiece_tokenizer
from tokenizers import decoders
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from pipeline.errors import DataError, UserError
from pipeline.evaluation.export import CONTINUATION_TOKENS, _continue_prompt
from pipeline.evaluation.generation import (
    Sampling,
    TextOfTokens,
    continue_text,
    encode_prompt,
    fit_prompt,
    write_tokens,
)
from pipeline.evaluation.models import LoadedModel, load_folder_model

POSITIONS = 20


def write_model(folder: Path, positions: int) -> Path:
    """Write a random gpt2 with learned positions over single bytes."""
    folder.mkdir()
    write_byte_level_tokenizer(folder)
    end = "<|endoftext|>"
    file = str(folder / "tokenizer.json")
    PreTrainedTokenizerFast(
        tokenizer_file=file, bos_token=end, eos_token=end, pad_token=end
    ).save_pretrained(folder)
    torch.manual_seed(1)
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": positions, "vocab_size": 259}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("gpt2") / "short", POSITIONS)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_folder_model(write_model(tmp_path_factory.mktemp("gpt2") / "long", 512))


@pytest.mark.parametrize("prompt", ["", "The ", "x" * POSITIONS, "x" * 100])
def test_any_prompt_is_continued(exported: Path, prompt: str) -> None:
    assert isinstance(_continue_prompt(exported, prompt), str)


def test_a_prompt_that_is_too_long_is_continued_from_its_end(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit_prompt(100, CONTINUATION_TOKENS, POSITIONS) == (10, 10)
    assert _continue_prompt(exported, "y" * 90 + "x" * 10) == _continue_prompt(exported, "x" * 100)
    assert "no room for the first 90 tokens" in capsys.readouterr().err
    _continue_prompt(exported, "x")
    assert "no room" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tokens", "positions", "kept", "written"),
    [
        (4, None, 4, 48),
        (4, 2048, 4, 48),
        (2048, 2048, 2000, 48),
        (2000, 2048, 2000, 48),
        (4, 32, 4, 28),
        (31, 32, 16, 16),
        (5, 1, 1, 1),
        (5, 2, 1, 1),
    ],
)
def test_prompt_and_what_is_written_share_the_positions(
    tokens: int, positions: int | None, kept: int, written: int
) -> None:
    assert fit_prompt(tokens, 48, positions) == (kept, written)
    assert positions is None or positions == 1 or kept + written <= positions


def written(loaded: LoadedModel, text: str, sampling: Sampling) -> list[int]:
    ids: list[int] = []
    write_tokens(loaded, encode_prompt(loaded, text, sampling.most_tokens), sampling, ids.append)
    return ids


def test_the_same_seed_gives_the_same_tokens_and_another_one_others(loaded: LoadedModel) -> None:
    first = written(loaded, "The ", Sampling(seed=7))
    torch.rand(3)
    assert written(loaded, "The ", Sampling(seed=7)) == first
    assert written(loaded, "The ", Sampling(seed=8)) != first
    assert len(first) == 48 or first[-1] == loaded.tokenizer.eos_token_id


def test_temperature_0_takes_the_most_likely_token_each_time(loaded: LoadedModel) -> None:
    ids = list(loaded.tokenizer("The ")["input_ids"])
    expected: list[int] = []
    for _ in range(12):
        with torch.no_grad():
            logits = loaded.model(input_ids=torch.tensor([ids + expected])).logits
        expected.append(int(logits[0, -1].argmax()))
    assert written(loaded, "The ", Sampling(temperature=0, most_tokens=12)) == expected
    narrow = Sampling(top_k=1, most_tokens=12, seed=3)
    assert written(loaded, "The ", narrow) == expected


@pytest.mark.parametrize(
    ("sampling", "candidates"),
    [({"top_k": 3}, 3), ({"top_k": 0, "top_p": 0.02}, 6), ({"top_k": 2, "top_p": 0.5}, 1)],
)
def test_tokens_are_drawn_among_the_most_likely(
    loaded: LoadedModel, sampling: dict[str, float], candidates: int
) -> None:
    """The first 3; those with 2 % together; those with half of the first 2's probability."""
    with torch.no_grad():
        logits = loaded.model(**loaded.tokenizer("The ", return_tensors="pt")).logits[0, -1]
    order = logits.softmax(-1).sort(descending=True)
    if candidates == 6:  # the smallest set whose probabilities reach 2 %
        candidates = int((order.values.cumsum(0) < 0.02).sum()) + 1
    allowed = set(order.indices[:candidates].tolist())
    drawn = {
        written(
            loaded,
            "The ",
            Sampling(temperature=1.0, most_tokens=1, seed=seed, **sampling),  # pyright: ignore[reportArgumentType]
        )[0]
        for seed in range(60)
    }
    assert drawn == allowed


TEXTS = (
    " a naïve ☃ in a \U0001d539ook\n\tand the end",
    "    four spaces",
    "<|endoftext|>x",
    "\ufffd one",
)


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
@pytest.mark.parametrize("text", TEXTS)
def test_pieces_add_up_to_the_text(
    loaded: LoadedModel, tmp_path: Path, kind: str, text: str
) -> None:
    """No piece ends within a character, and spaces at the beginning of a piece stay."""
    tokenizer = loaded.tokenizer
    if kind == "sentencepiece":
        write_sentencepiece_tokenizer(tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        first_space = decoders.Strip(" ", 1, 0)  # dropped, as llama's tokenizer does
        whole_decoder = tokenizer.backend_tokenizer.decoder
        tokenizer.backend_tokenizer.decoder = decoders.Sequence([whole_decoder, first_space])
    other = LoadedModel(loaded.model, tokenizer, "test", None, None)
    prompt = tokenizer("Once", add_special_tokens=False)["input_ids"]
    ids = tokenizer("Once" + text, add_special_tokens=False)["input_ids"][len(prompt) :]
    stream = TextOfTokens(other, prompt)
    pieces = [stream.add(token) for token in ids]
    whole = tokenizer.decode([*prompt, *ids], skip_special_tokens=True)
    assert "".join([*pieces, stream.rest()]) == whole.removeprefix(
        tokenizer.decode(prompt, skip_special_tokens=True)
    )
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in whole


def test_half_a_character_at_the_end_is_shown_once(loaded: LoadedModel) -> None:
    ids = loaded.tokenizer("☃", add_special_tokens=False)["input_ids"]
    stream = TextOfTokens(loaded, [65])
    assert [stream.add(token) for token in ids[:2]] == ["", ""]
    assert stream.rest() == "\ufffd"


def test_a_model_whose_logits_are_not_finite_is_named(loaded: LoadedModel) -> None:
    weight = loaded.model.get_output_embeddings().weight
    saved = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(float("nan"))
    try:
        with pytest.raises(DataError, match="long: its logits are not finite"):
            continue_text(loaded, "x", Sampling())
    finally:
        with torch.no_grad():
            weight.copy_(saved)


def test_a_folders_own_settings_take_no_part_and_stay(loaded: LoadedModel) -> None:
    expected = written(loaded, "The ", Sampling(most_tokens=12))
    settings = loaded.model.generation_config
    assert settings is not None
    settings.repetition_penalty = 5.0
    settings.min_new_tokens = 40
    try:
        assert written(loaded, "The ", Sampling(most_tokens=12)) == expected
        assert loaded.model.generation_config is settings
    finally:
        settings.repetition_penalty = None
        settings.min_new_tokens = None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": -0.1}, "temperature -0.1: must be 0 or more"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"top_p": 0.0}, "top-p 0.0: must be above 0"),
        ({"top_k": -1}, "top-k -1"),
        ({"most_tokens": 0}, "tokens 0: must be 1 or more"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_settings_outside_of_their_range_are_refused(
    setting: dict[str, float], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Sampling(**setting)  # pyright: ignore[reportArgumentType]
