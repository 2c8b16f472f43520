"""The settings in which runs differ, and what they read and ran with. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.run_config import RunConfig
from pipeline.reporting.many_runs.compared_run import ComparedRun
from pipeline.store.manifests.recorded_settings import SettingValue, flatten

NOT_SET = "not set"
NOT_RECORDED = "not recorded"
OF_RESULTS = ("evaluation", "logging", "executor")
"""Sections that decide nothing of the training."""


@dataclass(frozen=True)
class DifferingSetting:
    """A setting with its value in each run."""

    name: str
    """As in a run file, with its section; of what is no setting, what it is."""
    values: Sequence[str]


def differing_settings(runs: Sequence[ComparedRun]) -> list[DifferingSetting]:
    """Return what is not the same in all runs: settings in the order of the run file, then facts.

    Of the locations of files there are the folder of the data, and the name of DeepSpeed's template;
    sections that decide nothing of the training are left out.
    """
    settings = _differing([flat_settings(run.config) for run in runs], NOT_SET)
    return [*settings, *_differing([run.facts for run in runs], NOT_RECORDED)]


def _differing(
    flat: Sequence[Mapping[str, SettingValue]], where_missing: str
) -> list[DifferingSetting]:
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    differing: list[DifferingSetting] = []
    for name in names:
        values = [_in_words(settings, name, where_missing) for settings in flat]
        if len(set(values)) > 1:
            differing.append(DifferingSetting(name, values))
    return differing


def flat_settings(config: RunConfig) -> dict[str, SettingValue]:
    """Return by dotted name the settings of a run that decide its training."""
    flat: dict[str, SettingValue] = {
        "paths.data_dir": str(config.paths.data_dir),
        "deepspeed": config.deepspeed.name,
    }
    for section, value in config.model_dump(mode="python").items():
        if section not in OF_RESULTS:
            flat |= flatten(value, section)
    return flat


def _in_words(settings: Mapping[str, SettingValue], name: str, where_missing: str) -> str:
    if name not in settings:
        return where_missing
    value = settings[name]
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str)
