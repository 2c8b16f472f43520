"""The command `pipeline presets`: every shipped model with its sizes, counted, and its recipe in short."""

from typing import Any

from pipeline.errors import ConfigError
from pipeline.logs import print_json, print_wide, progress
from pipeline.run_file import PRESETS, read_preset

LEAST_WIDTH = 150


def show_presets(vocab_size: int, as_json: bool) -> None:
    """Print every preset, counted with an embedding of `vocab_size` rows: a table, or JSON."""
    if vocab_size < 1:
        raise ConfigError([f"--vocab-size = {vocab_size}: must be at least 1"])
    names, records = sorted(path.stem for path in PRESETS.glob("*.yaml")), []
    with progress("counting parameters", len(names), "presets") as update:
        for name in names:
            records.append(_record(name, vocab_size))
            update(len(records), name)
    records.sort(key=lambda record: (record["name"].split("-")[0], record["parameters"]))
    if as_json:
        print_json({"vocab_size": vocab_size, "presets": records})
    else:
        _print(records, vocab_size)


def _record(name: str, vocab_size: int) -> dict[str, Any]:
    from pipeline.training.sizes import preset_sizes  # torch: after the arguments are checked

    settings, sizes = read_preset(name), preset_sizes(name, vocab_size)
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

    shown = Table(box=None, pad_edge=False, title=f"parameters with {vocab_size:,} ids", title_justify="left")
    shown.add_column("preset")
    shown.add_column("architecture")
    for heading in ("parameters", "embedding", "others", "sequence", "batch tokens", "learning rate", "train tokens"):
        shown.add_column(heading, justify="right")
    for record in records:
        name, architecture, *counts, rate, train_tokens = record.values()
        shown.add_row(name, architecture, *(f"{count:,}" for count in counts), f"{rate:.2g}", f"{train_tokens:,}")
    print_wide(shown, LEAST_WIDTH)
