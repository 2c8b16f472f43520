"""The rates and shares that a plan rests on: assumed, or calibrated from a run.

Every number of a plan follows from the run file, the hardware and these.
"""

from dataclasses import dataclass, replace
from typing import Literal

from pipeline.config.hardware import Hardware

RateKind = Literal["assumed", "calibrated", "measured"]


@dataclass(frozen=True)
class Rate:
    """A number that does not follow from the run file."""

    value: float
    kind: RateKind
    source: str
    """The table that assumes it, or the run that it was measured on."""


@dataclass(frozen=True)
class PlanRates:
    """All rates of a plan."""

    mfu: Rate
    """Share of the device's peak in the computing part of a step, by (6 N + 12 L d T) FLOPs a token."""
    overlap: Rate
    """Share of computing during which a device can communicate."""
    link_gb_per_second: Rate
    """From a device to the others of its server, 10^9 bytes a second."""
    network_gb_per_second: Rate
    """From a device to other servers, 10^9 bytes a second."""
    per_device_share: Rate
    """What each further device adds to a step, as a share of its computing."""
    zero_3_host_seconds: Rate
    """Time of the host for each layer and micro-batch at ZeRO stage 3, whose hooks gather weights."""
    lost_time: Rate
    """Wall time of devices / time of the steps that count, start-ups and last saves aside."""
    validation_factor: Rate
    """Time of a validation / time that its FLOPs take at the MFU of training."""
    start_up_seconds: Rate
    """From the start of a job to its first step."""
    save_bytes_per_second: Rate
    """Rate of each node at which a checkpoint is written."""
    memory_factor: Rate
    """Peak memory of a device / predicted memory."""
    memory_offset_bytes: Rate
    """Peak memory beside what is predicted: of a process, where ranks run on CPUs."""
    checkpoint_extra_bytes: Rate
    """Bytes of a checkpoint beside its tensors: names, random states, settings."""
    export_extra_bytes: Rate
    """Bytes of an exported folder beside the weights: tokenizer, config, card."""
    text_bytes_per_token: Rate
    text_bytes_per_document: Rate
    document_bytes_per_text_byte: Rate
    """Size of Parquet shards as a share of the text."""
    annotation_bytes_per_text_byte: Rate
    """Size of the annotations that grow with a document's lines, as a share of the text."""
    annotation_bytes_per_document: Rate
    """Size of the other annotations."""
    selection_bytes_per_document: Rate
    """Size of a verdict."""
    token_extra_share: Rate
    """Size of index files beside the token ids, as a share of the ids."""
    prepare_bytes_per_core_second: Rate
    annotate_bytes_per_core_second: Rate
    """Text that `annotate` describes."""
    select_bytes_per_core_second: Rate
    """Text of the documents that `select` judges."""
    learn_bytes_per_core_second: Rate
    """Text of the sample from which a vocabulary is learned."""
    tokenize_bytes_per_core_second: Rate
    pack_tokens_per_core_second: Rate

    def with_mfu(self, mfu: Rate) -> "PlanRates":
        """Return the rates with another utilisation."""
        return replace(self, mfu=mfu)


ZERO_3_HOST_SECONDS = 262_144 / 108_239 / (8 * 12)
"""GPT-3 125M at ZeRO 3 on one H200, compiled: 262,144 tokens a step, 108,239 tokens a second, 8
micro-batches of 12 layers: 25 ms. At ZeRO 1 such a step takes 0.56 s, here 2.42 s.
Source: `pipeline/benchmarks/README.md`."""
MEASURED_CORPUS = "redpajama-small (pipeline/planning/README.md, section Corpora)"
"""Where the sizes of curated text were measured."""
TEXT_BYTES_PER_DOCUMENT = 12_500
"""Mean of its pages, code, answers and encyclopedia; its novels have 770,000 bytes each."""
SELECTION_BYTES_PER_DOCUMENT = 23
SCALING = "llm-foundry's throughput tables (mosaicml/llm-foundry@8c8dd48f): 8 to 512 H100"


def assumed_rates(hardware: Hardware, name: str, overlaps: bool) -> PlanRates:
    """Return the rates of a plan without a run; `overlaps`: whether the template asks for it.

    Linear term: MPT-7B on 8 and 256 H100 reaches 46.44 and 44.15 % (1.052 = 1 + 248 x 2.1e-4),
    MPT-1B on 128 and 512 40.60 and 36.65 % (2.9e-4).
    Lost time: Llama 3 405B trained for more than 90 % of the time (arXiv:2407.21783, section 3.3.4).
    """

    def assumed(value: float, source: str) -> Rate:
        return Rate(value, "assumed", source)

    # What does not come from the hardware is the same for all.
    share = 0.0
    if overlaps:
        share = 2 / 3
    host = assumed(
        ZERO_3_HOST_SECONDS, "GPT-3 125M at ZeRO 3 on one H200 (pipeline/benchmarks/README.md)"
    )
    if hardware.is_cpu:
        host = assumed(0, "ranks on CPUs wait for no other processor")
    return PlanRates(
        mfu=assumed(hardware.assumed_mfu, f"hardware {name}"),
        overlap=assumed(share, "the backward pass, where the template has overlap_comm"),
        link_gb_per_second=assumed(hardware.link_gb_per_second, f"hardware {name}"),
        network_gb_per_second=assumed(hardware.network_gb_per_second, f"hardware {name}"),
        per_device_share=assumed(2e-4, SCALING),
        zero_3_host_seconds=host,
        lost_time=assumed(1.1, "Llama 3's 90 % of the time in training (arXiv:2407.21783)"),
        validation_factor=assumed(1.0, "a forward pass is as fast as in training"),
        start_up_seconds=assumed(300, "start of a large job; a small one takes 30 s"),
        save_bytes_per_second=assumed(1e9, "a parallel file system, for each node"),
        memory_factor=assumed(1.0, "pipeline/engine/memory.py"),
        memory_offset_bytes=assumed(
            6e8 if hardware.is_cpu else 0.0, "a Python process with torch and DeepSpeed"
        ),
        checkpoint_extra_bytes=assumed(0, "nothing beside tensors"),
        export_extra_bytes=assumed(2e6, "tokenizer and config"),
        text_bytes_per_token=assumed(4.0, "English text with 32,000 to 50,000 ids"),
        text_bytes_per_document=assumed(
            TEXT_BYTES_PER_DOCUMENT, f"all but novels of {MEASURED_CORPUS}"
        ),
        document_bytes_per_text_byte=assumed(0.4, "zstd at level 1 on mixed text"),
        annotation_bytes_per_text_byte=assumed(0, "nothing is annotated"),
        annotation_bytes_per_document=assumed(0, "nothing is annotated"),
        selection_bytes_per_document=assumed(SELECTION_BYTES_PER_DOCUMENT, MEASURED_CORPUS),
        token_extra_share=assumed(0.01, "20 bytes a document"),
        prepare_bytes_per_core_second=assumed(
            120e6, "`prepare` on one core, compressed JSON lines"
        ),
        annotate_bytes_per_core_second=assumed(
            2.9e6, "`annotate` on one core, all parts (pipeline/corpus/annotating/README.md)"
        ),
        select_bytes_per_core_second=assumed(
            8.8e6, "`select` on one core (pipeline/corpus/selecting/README.md)"
        ),
        learn_bytes_per_core_second=assumed(1.8e6, "`train-tokenizer`, SentencePiece BPE"),
        tokenize_bytes_per_core_second=assumed(42e6, "`tokenize` on one core, SentencePiece BPE"),
        pack_tokens_per_core_second=assumed(
            660e6, "`pack` on one core (pipeline/sampling/README.md)"
        ),
    )
