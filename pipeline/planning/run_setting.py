"""What a run's memory and wire depend on, for a number of devices; the size of its data on disk."""

from dataclasses import replace
from typing import Any

from pipeline.config.groups import group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_config import fit_buckets, read_template, resolve_template
from pipeline.engine.memory import MemorySetting
from pipeline.engine.memory_setting import memory_setting
from pipeline.model.model_facts import ModelFacts
from pipeline.planning.disk_use import DataSize
from pipeline.planning.rates import Rate
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import PrepareCounts, TokenizeCounts
from pipeline.store.layout import DataFolder
from pipeline.store.records import Manifest


def setting_on_devices(
    config: RunConfig, facts: ModelFacts, devices: int, on_gpu: bool
) -> MemorySetting:
    """Return the setting of a run on this number of devices.

    Raises ConfigError where template or batch cannot be executed on them.
    """
    sizes = group_sizes(devices)
    template = read_template(config.deepspeed)
    resolved = resolve_template(template, config, sizes, str(config.deepspeed))
    fitted = fit_buckets(resolved, facts.parameters)
    setting = memory_setting(config, fitted, devices, on_gpu)
    return replace(setting, moment_bytes=facts.moment_bytes)


def overlaps_communication(config: RunConfig) -> bool:
    """Tell whether the template has gradients reduced during the backward pass."""
    settings: Any = read_template(config.deepspeed).get("zero_optimization", {})
    return bool(settings.get("overlap_comm", False))


def measured_data(folder: DataFolder) -> DataSize | None:
    """Return the size of a finished corpus; None where its tokens are not there."""
    tokenized: Manifest[TokenizeCounts] | None = read_manifest(folder.tokens_manifest)
    if tokenized is None:
        return None
    tokens = 0
    text_bytes = 0
    for splits in tokenized["counts"]["sources"].values():
        for counts in splits.values():
            tokens += counts["tokens"]
            text_bytes += counts["text_bytes"]
    prepared: Manifest[PrepareCounts] | None = read_manifest(folder.documents_manifest)
    document_bytes = 0
    if prepared is not None:
        document_bytes = _bytes_of(prepared)
    return DataSize(
        tokens=tokens,
        text_bytes=text_bytes,
        document_bytes=document_bytes,
        token_bytes=_bytes_of(tokenized),
        basis=Rate(tokens, "measured", str(folder.path)),
    )


def _bytes_of(manifest: Manifest[Any]) -> int:
    return sum(record["bytes"] for record in manifest["files"].values())
