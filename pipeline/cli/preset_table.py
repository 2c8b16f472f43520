"""`pipeline presets`: every shipped model with its sizes and the main settings of its recipe.

Reads the presets of the package. The first line of each states its sizes, and a test compares that
with the model, so no model is built here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from pipeline.config.run_file import read_preset
from pipeline.config.shipped_files import PRESETS, shipped_files
from pipeline.errors import ConfigError
from pipeline.logs import print_json, print_wide

LEAST_WIDTH = 150
"""Columns of the table: a narrower terminal breaks lines rather than words."""
STATED = re.compile(
    r"with ([\d,]+) ids: ([\d,]+) parameters = ([\d,]+) embedding \+ ([\d,]+) others$"
)


class PresetFacts(TypedDict):
    """A preset, as `--json` prints it; the columns of the table are in the same order."""

    name: str
    architecture: str
    parameters: int
    embedding_parameters: int
    non_embedding_parameters: int
    sequence_length: int
    global_batch_tokens: int
    peak_learning_rate: float
    train_tokens: int


def show_presets(vocab_size: int, as_json: bool) -> None:
    """Print the table of all presets, or JSON; sizes are for an embedding of `vocab_size` rows.

    Raises ConfigError for a vocabulary without ids.
    """
    if vocab_size < 1:
        raise ConfigError([f"--vocab-size = {vocab_size}: must be at least 1"])
    presets = [_preset_facts(name, vocab_size) for name in shipped_files(PRESETS)]
    presets.sort(key=lambda preset: (preset["name"].split("-")[0], preset["parameters"]))
    if as_json:
        print_json({"vocab_size": vocab_size, "presets": presets})
    else:
        _print_presets(presets, vocab_size)


@dataclass(frozen=True)
class PresetSizes:
    """Parameter counts of a preset's model."""

    vocab_size: int
    """Rows of the embedding, and of the head where it is not tied."""
    embedding: int
    """Number of parameters of the embedding and the head; a tied head counts once."""
    non_embedding: int
    """Number of parameters outside the embedding and the head."""

    @property
    def total(self) -> int:
        """Number of all parameters; a tied head counts once."""
        return self.embedding + self.non_embedding

    def with_vocabulary(self, vocab_size: int) -> "PresetSizes":
        """Return the sizes for another number of rows."""
        return PresetSizes(
            vocab_size, self.embedding // self.vocab_size * vocab_size, self.non_embedding
        )


def stated_sizes(name: str) -> PresetSizes:
    """Return the sizes that the first line of a preset states."""
    with (PRESETS / f"{name}.yaml").open() as file:
        stated = STATED.search(file.readline())
    assert stated, f"{name}: the first line does not state the parameters"
    vocab_size, _, embedding, non_embedding = (
        int(number.replace(",", "")) for number in stated.groups()
    )
    return PresetSizes(vocab_size, embedding, non_embedding)


def _preset_facts(name: str, vocab_size: int) -> PresetFacts:
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


def _print_presets(presets: Sequence[PresetFacts], vocab_size: int) -> None:
    from rich.table import Table

    # Text stands left, figures right.
    table = Table(
        box=None, pad_edge=False, title=f"parameters with {vocab_size:,} ids", title_justify="left"
    )
    table.add_column("preset")
    table.add_column("architecture")
    table.add_column("parameters", justify="right")
    table.add_column("embedding", justify="right")
    table.add_column("others", justify="right")
    table.add_column("sequence", justify="right")
    table.add_column("batch tokens", justify="right")
    table.add_column("learning rate", justify="right")
    table.add_column("train tokens", justify="right")

    for preset in presets:
        table.add_row(
            preset["name"],
            preset["architecture"],
            f"{preset['parameters']:,}",
            f"{preset['embedding_parameters']:,}",
            f"{preset['non_embedding_parameters']:,}",
            f"{preset['sequence_length']:,}",
            f"{preset['global_batch_tokens']:,}",
            f"{preset['peak_learning_rate']:.2g}",
            f"{preset['train_tokens']:,}",
        )
    print_wide(table, LEAST_WIDTH)
