"""`pipeline presets`: every shipped model with its sizes and the main settings of its recipe.

Reads `config/presets/table.csv`, so that the list is there at once; a test compares that table with
the presets themselves. `python -m pipeline.cli.preset_table` writes it anew after a change.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypedDict

from pipeline.errors import ConfigError
from pipeline.logs import print_json, print_wide

TABLE = Path(__file__).parents[1] / "config" / "presets" / "table.csv"
"""A line for each preset: the fields of PresetRow."""
LEAST_WIDTH = 150
"""Columns of the table: a narrower terminal breaks lines rather than words."""
STATED = re.compile(
    r"with ([\d,]+) ids: ([\d,]+) parameters = ([\d,]+) embedding \+ ([\d,]+) others$"
)
"""End of a preset's first line, which a test compares with the model."""


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


@dataclass(frozen=True)
class PresetRow:
    """A preset in the shipped table."""

    name: str
    architecture: str
    vocab_size: int
    """Rows of the embedding, and of the head where it is not tied."""
    embedding_parameters: int
    """Number of parameters of the embedding and the head; a tied head counts once."""
    non_embedding_parameters: int
    """Number of parameters outside the embedding and the head."""
    sequence_length: int
    global_batch_tokens: int
    peak_learning_rate: float
    train_tokens: int

    def with_vocabulary(self, vocab_size: int) -> PresetFacts:
        """Return the preset with another number of rows in the embedding and the head."""
        embedding = self.embedding_parameters // self.vocab_size * vocab_size
        return {
            "name": self.name,
            "architecture": self.architecture,
            "parameters": embedding + self.non_embedding_parameters,
            "embedding_parameters": embedding,
            "non_embedding_parameters": self.non_embedding_parameters,
            "sequence_length": self.sequence_length,
            "global_batch_tokens": self.global_batch_tokens,
            "peak_learning_rate": self.peak_learning_rate,
            "train_tokens": self.train_tokens,
        }


def show_presets(vocab_size: int, as_json: bool) -> None:
    """Print the table of all presets, or JSON; sizes are for an embedding of `vocab_size` rows.

    Raises ConfigError for a vocabulary without ids.
    """
    if vocab_size < 1:
        raise ConfigError([f"--vocab-size = {vocab_size}: must be at least 1"])
    presets = [row.with_vocabulary(vocab_size) for row in shipped_rows()]
    presets.sort(key=lambda preset: (preset["name"].split("-")[0], preset["parameters"]))
    if as_json:
        print_json({"vocab_size": vocab_size, "presets": presets})
    else:
        _print_presets(presets, vocab_size)


def shipped_rows() -> list[PresetRow]:
    """Return the rows of the shipped table, in the order of their names."""
    with TABLE.open(newline="") as file:
        return [
            PresetRow(
                name=line["name"],
                architecture=line["architecture"],
                vocab_size=int(line["vocab_size"]),
                embedding_parameters=int(line["embedding_parameters"]),
                non_embedding_parameters=int(line["non_embedding_parameters"]),
                sequence_length=int(line["sequence_length"]),
                global_batch_tokens=int(line["global_batch_tokens"]),
                peak_learning_rate=float(line["peak_learning_rate"]),
                train_tokens=int(line["train_tokens"]),
            )
            for line in csv.DictReader(file)
        ]


def rows_of_presets() -> list[PresetRow]:
    """Read all presets and return their rows, in the order of their names."""
    from pipeline.config.run_file import read_preset
    from pipeline.config.shipped_files import PRESETS, shipped_files

    rows: list[PresetRow] = []
    for name, path in shipped_files(PRESETS).items():
        settings = read_preset(name)
        with path.open() as file:
            stated = STATED.search(file.readline())
        assert stated, f"{name}: the first line does not state the parameters"
        vocab_size, _, embedding, non_embedding = (
            int(number.replace(",", "")) for number in stated.groups()
        )
        row = PresetRow(
            name=name,
            architecture=settings["model"]["architecture"],
            vocab_size=vocab_size,
            embedding_parameters=embedding,
            non_embedding_parameters=non_embedding,
            sequence_length=settings["data"]["sequence_length"],
            global_batch_tokens=settings["batch"]["global_batch_tokens"],
            peak_learning_rate=settings["optimizer"]["peak_learning_rate"],
            train_tokens=settings["train"]["train_tokens"],
        )
        rows.append(row)
    return rows


def as_table(rows: Sequence[PresetRow]) -> str:
    """Return rows as the text of the shipped table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(PresetRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


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


if __name__ == "__main__":
    TABLE.write_text(as_table(rows_of_presets()))
