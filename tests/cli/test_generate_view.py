"""What `pipeline generate` prints, from a pipe, for a prompt and after Ctrl-C."""

import io
import signal
import unicodedata
from pathlib import Path

import pytest
import torch
from helpers import write_byte_level_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipeline.cli.generate_view import show_generation
from pipeline.errors import Interrupted, UserError
from pipeline.evaluation.generation import Sampling

ENDLESS = Sampling(temperature=0, most_tokens=2_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a random llama over single bytes that has room for a long text."""
    folder = tmp_path_factory.mktemp("llama")
    write_byte_level_tokenizer(folder)
    file = str(folder / "tokenizer.json")
    PreTrainedTokenizerFast(tokenizer_file=file, eos_token="<|endoftext|>").save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 259}
    config = LlamaConfig(**sizes, **heads, max_position_embeddings=200_000, eos_token_id=None)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


class Pipe:
    """Standard input that is no terminal."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)

    def isatty(self) -> bool:
        return False


def test_a_pipe_is_continued_as_the_same_prompt_is(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = Sampling(temperature=0, most_tokens=6)
    show_generation(str(folder), [], "one\ntwo", sampling, with_ids=True)
    prompted = capsys.readouterr()
    monkeypatch.setattr("sys.stdin", Pipe(b"one\ntwo\n"))
    show_generation(str(folder), [], None, sampling, with_ids=True)
    piped = capsys.readouterr()
    assert piped.out == prompted.out
    lines = prompted.out.splitlines()
    assert prompted.out.startswith("one\ntwo")
    assert lines[-2].startswith("prompt ids: ")
    assert len(lines[-2].split()) == 2 + 7
    assert len(lines[-1].split()) == 2 + 6
    assert "6 tokens (as many as asked for), prompt read in " in prompted.err
    assert "tokens/s" in prompted.err


def test_what_a_model_writes_cannot_control_the_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A random model over bytes writes control characters."""
    for seed in range(8):
        show_generation(str(folder), [], "\x1b[2J", Sampling(seed=seed), with_ids=False)
    out = capsys.readouterr().out
    assert "<1B>[2J" in out
    assert {unicodedata.category(character) for character in set(out) - set("\n\t")}.isdisjoint(
        ("Cc", "Cf", "Cs", "Zl", "Zp")
    )


class PressingCtrlC(io.StringIO):
    """Standard output; Ctrl-C is pressed when the model has begun to write.

    It does what Python does by default also where a shell has started the tests in the background,
    deaf to Ctrl-C.
    """

    has_pressed = False

    def write(self, text: str) -> int:
        count = super().write(text)
        if not self.has_pressed and len(self.getvalue()) > 40:
            self.has_pressed = True
            before = signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.signal(signal.SIGINT, before)
        return count


def test_ctrl_c_ends_a_text_and_keeps_what_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = PressingCtrlC()
    monkeypatch.setattr("sys.stdout", out)
    with pytest.raises(Interrupted, match="not complete"):
        show_generation(str(folder), [], "a", ENDLESS, with_ids=True)
    err = capsys.readouterr().err
    assert "tokens (stopped)" in err
    count = int(err.split(f"{folder.name}, ")[1].split()[0].replace(",", ""))
    assert len(out.getvalue().splitlines()[-1].split()) == 2 + count
    assert 20 < count < 100


@pytest.mark.parametrize(
    ("content", "prompt", "message"),
    [
        (b"ab\xff", None, "standard input: is not UTF-8 at byte 2"),
        (b"", "\udcff", "prompt: is not"),
    ],
)
def test_text_that_is_not_utf_8_is_refused(
    content: bytes, prompt: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Pipe(content))
    with pytest.raises(UserError, match=message):
        show_generation("nowhere", [], prompt, Sampling(), with_ids=False)
