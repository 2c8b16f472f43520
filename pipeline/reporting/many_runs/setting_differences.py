"""The settings in which runs differ. Pure functions of their configs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.run_config import RunConfig
from pipeline.store.artifacts import SettingValue, flatten

NOT_SET = "not set"
OF_RESULTS = ("evaluation", "logging", "executor")
"""Sections that decide nothing of the training."""


@dataclass(frozen=True)
class DifferingSetting:
    """A setting with its value in each run."""

    name: str
    """As in a run file, with its section."""
    values: Sequence[str]


def differing_settings(configs: Sequence[RunConfig]) -> list[DifferingSetting]:
    """Return the settings that are not the same in all runs, in the order of the run file.

    Of the locations of files there are the folder of the data, and the name of DeepSpeed's template;
    sections that decide nothing of the training are left out.
    """
    flat = [_flat(config) for config in configs]
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    differing: list[DifferingSetting] = []
    for name in names:
        values = [_in_words(settings, name) for settings in flat]
        if len(set(values)) > 1:
            differing.append(DifferingSetting(name, values))
    return differing


def _flat(config: RunConfig) -> dict[str, SettingValue]:
    flat: dict[str, SettingValue] = {
        "paths.data_dir": str(config.paths.data_dir),
        "deepspeed": config.deepspeed.name,
    }
    for section, value in config.model_dump(mode="python").items():
        if section not in OF_RESULTS:
            flat |= flatten(value, section)
    return flat


def _in_words(settings: Mapping[str, SettingValue], name: str) -> str:
    if name not in settings:
        return NOT_SET
    value = settings[name]
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str)
