"""What a run has recorded of what it read and ran with, beside the settings of its run file.

Reads deepspeed.json of the run folder.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.store.events import StartEvent
from pipeline.store.files import read_json
from pipeline.store.layout import RunFolder
from pipeline.store.manifests.recorded_settings import SettingValue, flatten
from pipeline.store.records import Json

READ = ("tokenizer", "tokens")
"""What a run reads; it records the digest of the content of each when it begins."""
SHOWN_DIGITS = 12
"""Digits of a digest that are shown: enough to tell contents apart."""
OF_THE_RUN_FILE = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "data_types",
    "bf16",
    "fp16",
    "zero_allow_untested_optimizer",
)
"""Keys of deepspeed.json that follow from settings of the run file and the number of ranks."""


def recorded_facts(
    folder: RunFolder, recorded: Mapping[str, Json], starts: Sequence[StartEvent]
) -> dict[str, SettingValue]:
    """Return by name the content that a run read, its DeepSpeed config, ranks, device and code.

    `recorded`: the settings that the run recorded when it began. What a run has not recorded is left
    out. Where a value changed from one start of the ranks to the next, all of them are named.
    """
    facts: dict[str, SettingValue] = {}
    for name in READ:
        digest = recorded.get(f"output of {name}")
        if digest:
            facts[f"content of {name}"] = str(digest)[:SHOWN_DIGITS]
    resolved: Mapping[str, SettingValue] = read_json(folder.deepspeed) or {}
    execution = {key: value for key, value in resolved.items() if key not in OF_THE_RUN_FILE}
    return facts | flatten(execution, "deepspeed") | _facts_of_starts(starts)


def _facts_of_starts(starts: Sequence[StartEvent]) -> dict[str, SettingValue]:
    """Return ranks, device, commit and versions, each with its values in the order of the starts."""
    values: dict[str, list[str]] = {}
    for start in starts:
        environment: Mapping[str, Any] = start["environment"]
        of_start: dict[str, object] = {"ranks": start["ranks"], "device": start.get("device")}
        of_start["commit"] = _commit(environment.get("git"))
        of_start["python"] = environment.get("python")
        for library, version in environment.get("versions", {}).items():
            of_start[f"version of {library}"] = version
        for name, value in of_start.items():
            if value is not None:
                values.setdefault(name, []).append(str(value))
    return {name: ", then ".join(dict.fromkeys(listed)) for name, listed in values.items()}


def _commit(git: Mapping[str, Any] | None) -> str | None:
    """Return the commit of the code in words; None where the code was in no repository."""
    if git is None:
        return None
    commit = str(git["commit"])[:SHOWN_DIGITS]
    if git["dirty"]:
        return f"{commit} with changes"
    return commit
