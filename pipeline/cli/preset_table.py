"""The command `pipeline presets`: every shipped model with its sizes and its recipe in short.

Each preset states its sizes in its first line, which a test holds to the model that is built: so no
model is built here.
"""

import re
from dataclasses import dataclass
from typing import Any

from pipeline.config.run_file import read_preset
from pipeline.config.shipped_files import PRESETS, shipped_files
from pipeline.errors import ConfigError
from pipeline.logs import print_json, print_wide

LEAST_WIDTH = 150
STATED = re.compile(
    r"with ([\d,]+) ids: ([\d,]+) parameters = ([\d,]+) embedding \+ ([\d,]+) others$"
)


def show_presets(vocab_size: int, as_json: bool) -> None:
    """Print every preset, counted with an embedding of `vocab_size` rows: a table, or JSON."""
    if vocab_size < 1:
        raise ConfigError([f"--vocab-size = {vocab_size}: must be at least 1"])
    records = [_record(name, vocab_size) for name in shipped_files(PRESETS)]
    records.sort(key=lambda record: (record["name"].split("-")[0], record["parameters"]))
    if as_json:
        print_json({"vocab_size": vocab_size, "presets": records})
    else:
        _print(records, vocab_size)


@dataclass(frozen=True)
class PresetSizes:
    """Parameters of a preset's model."""

    vocab_size: int
    """Rows of the embedding, and of the head where it is not the same."""
    embedding: int
    """Embedding and head."""
    non_embedding: int

    @property
    def total(self) -> int:
        """All of them, a tied head once."""
        return self.embedding + self.non_embedding

    def with_vocabulary(self, vocab_size: int) -> "PresetSizes":
        """Return the sizes with another number of rows."""
        return PresetSizes(
            vocab_size, self.embedding // self.vocab_size * vocab_size, self.non_embedding
        )


def stated_sizes(name: str) -> PresetSizes:
    """Return the sizes that a preset's first line states."""
    with (PRESETS / f"{name}.yaml").open() as file:
        stated = STATED.search(file.readline())
    assert stated, f"{name}: the first line does not state the parameters"
    vocab_size, _, embedding, non_embedding = (
        int(number.replace(",", "")) for number in stated.groups()
    )
    return PresetSizes(vocab_size, embedding, non_embedding)


def _record(name: str, vocab_size: int) -> dict[str, Any]:
    settings = read_preset(name)
    sizes = stated_sizes(name).with_vocabulary(vocab_size)
    return {
        "name": name,
        "architecture": settings["model"]["architecture"],
        "parameters": sizes.total,
        "embedding_parameters": sizes.embedding,
        "non_embedding_parameters": sizes.non_embedding,
        "sequence_length": settings["data"]["sequence_length"],
        "global_batch_tokens": settings["batch"]["global_batch_tokens"],
        "peak_learning_rate": settings["optimizer"]["peak_learning_rate"],
        "train_tokens": settings["train"]["train_tokens"],
    }


def _print(records: list[dict[str, Any]], vocab_size: int) -> None:
    from rich.table import Table

    shown = Table(
        box=None, pad_edge=False, title=f"parameters with {vocab_size:,} ids", title_justify="left"
    )
    shown.add_column("preset")
    shown.add_column("architecture")
    for heading in (
        "parameters",
        "embedding",
        "others",
        "sequence",
        "batch tokens",
        "learning rate",
        "train tokens",
    ):
        shown.add_column(heading, justify="right")
    for record in records:
        name, architecture, *counts, rate, train_tokens = record.values()
        shown.add_row(
            name,
            architecture,
            *(f"{count:,}" for count in counts),
            f"{rate:.2g}",
            f"{train_tokens:,}",
        )
    print_wide(shown, LEAST_WIDTH)
