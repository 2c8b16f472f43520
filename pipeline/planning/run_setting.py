"""What a run's memory and wire depend on, for a number of devices; the size of its data on disk."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config.groups import group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_config import fit_buckets, read_template, resolve_template
from pipeline.engine.memory import MemorySetting
from pipeline.engine.memory_setting import memory_setting
from pipeline.model.model_facts import ModelFacts
from pipeline.planning.curation_size import with_curation
from pipeline.planning.disk_use import DataSize, data_size
from pipeline.planning.rates import PlanRates, Rate
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import Counts, PrepareCounts, TokenizeCounts
from pipeline.store.curation.annotation_folder import AnnotationFolder
from pipeline.store.curation.selection_folder import SelectionFolder
from pipeline.store.layout import DataFolder, data_folder
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


def planned_data(config: RunConfig, vocabulary: int, rates: PlanRates) -> DataSize:
    """Return the size of a run's corpus: as it is on disk, or as `train.train_tokens` needs it.

    Annotations and verdicts that the run file asks for and that are not there yet are estimated.

    Sources of existing ids take no space, and their text is not here. Their share is that of the
    mixture; without one it is not known, and all tokens count as text.
    """
    measured = measured_data(data_folder(config))
    if measured is not None:
        return with_curation(measured, config, rates)
    share = 1.0
    basis = ""
    weights = config.data.mixture
    if not config.sources_with_text:
        share = 0.0
        basis = "; all sources are ids that exist already"
    elif len(config.sources_with_text) < len(config.sources) and weights is not None:
        share = sum(weights.get(name, 0.0) for name in config.sources_with_text)
        share /= sum(weights.values())
        basis = f"; {share:.0%} come from sources with text, by data.mixture"
    elif len(config.sources_with_text) < len(config.sources):
        basis = "; the share of existing ids is not known, so all count as made from text"
    tokens = config.step_plan.total_tokens
    return with_curation(data_size(tokens, vocabulary, rates, share, basis), config, rates)


def measured_data(folder: DataFolder) -> DataSize | None:
    """Return the size of a finished corpus; None where its tokens are not there."""
    tokenized: Manifest[TokenizeCounts] | None = read_manifest(folder.tokens_manifest)
    if tokenized is None:
        return None
    tokens = 0
    text_tokens = 0
    encoded = 0
    for splits in tokenized["counts"]["sources"].values():
        for counts in splits.values():
            tokens += counts["tokens"]
            encoded += counts["text_bytes"]
            # Ids that existed already have no text.
            if counts["text_bytes"]:
                text_tokens += counts["tokens"]
    prepared: Manifest[PrepareCounts] | None = read_manifest(folder.documents_manifest)
    # Documents that `select` has removed are in `documents` all the same.
    text_bytes = encoded
    document_bytes = 0
    documents = 0
    if prepared is not None:
        document_bytes = bytes_of(prepared)
        text_bytes, documents = prepared_text(prepared)
    return DataSize(
        tokens=tokens,
        text_tokens=text_tokens,
        text_bytes=text_bytes,
        kept_text_bytes=encoded,
        document_bytes=document_bytes,
        token_bytes=bytes_of(tokenized),
        basis=Rate(tokens, "measured", str(folder.path)),
        documents=documents,
        annotation_bytes=bytes_made(AnnotationFolder(folder.path).manifest),
        selection_bytes=bytes_made(SelectionFolder(folder.path).manifest),
    )


def prepared_text(manifest: Manifest[PrepareCounts]) -> tuple[int, int]:
    """Return the bytes of text and the number of documents of a prepared corpus."""
    sources = manifest["counts"]["sources"].values()
    text_bytes = sum(sum(counts["text_bytes"].values()) for counts in sources)
    documents = sum(sum(counts["documents"].values()) for counts in sources)
    return text_bytes, documents


def bytes_made(manifest_path: Path) -> int:
    """Return the bytes of the files of a stage; 0 where it has not finished."""
    manifest: Manifest[Counts] | None = read_manifest(manifest_path)
    return 0 if manifest is None else bytes_of(manifest)


def bytes_of(manifest: Manifest[Any]) -> int:
    """Return the bytes of a stage's own files: links to files elsewhere take no space here."""
    return sum(record["bytes"] for record in manifest["files"].values() if "link_to" not in record)
