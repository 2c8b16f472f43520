"""Descriptions of settings: type, unit, bounds and default of some by hand, and all are there."""

import pytest

from pipeline.config.field_descriptions import FieldDescription, describe_settings
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError


def described(name: str) -> FieldDescription:
    return describe_settings(name)[0]


@pytest.mark.parametrize(
    ("name", "type_in_words", "default"),
    [
        ("optimizer", "section", "required by the stages that read it"),
        ("guard", "section", "optional"),
        ("optimizer.peak_learning_rate", "number, above 0", "required"),
        ("optimizer.epsilon", "number, above 0", "default 1e-08"),
        ("prepare.validation_fraction", "number, at least 0, below 0.5", "default 0.005"),
        (
            "prepare.shard_text_bytes",
            "number of bytes (50000, 200MB, 128MiB), at least 1",
            "default 128MiB",
        ),
        (
            "executor.memory_per_worker",
            "number of bytes (50000, 200MB, 128MiB), at least 1GB",
            "default 4GB",
        ),
        ("schedule.warmup_tokens", "number of tokens (64000, 300M, 2B), at least 0", "required"),
        ("guard.stall_seconds", "number of seconds, above 0", "default null"),
        ("checkpoint.keep_every_steps", "whole number of steps, at least 1", "default null"),
        ("precision.dtype", "one of bf16, fp16, fp32", "default bf16"),
        ("launch.ranks", "whole number, at least 1, or auto", "default auto"),
        ("sources", "sections by name, not empty", "required"),
        ("data.mixture", "mapping of names to: number, at least 0", "default null"),
        ("data.stages", "list of sections", "default []"),
        (
            "data.skipped_samples",
            "list of: [whole number, at least 0; whole number, at least 1]",
            "default []",
        ),
        (
            "evaluation.shots",
            "published, or list of: whole number, at least 0",
            "default published",
        ),
        ("evaluation.prompt", "text", 'default "The "'),
        ("train.compile", "true or false", "default false"),
        ("paths.run_dir", "path", "required"),
        ("deepspeed", "name or path", "required by the stages that read it"),
    ],
)
def test_a_setting_in_words(name: str, type_in_words: str, default: str) -> None:
    found = described(name)
    assert (found.name, found.type_in_words, found.default) == (name, type_in_words, default)


def test_the_meaning_has_the_source_of_a_figure() -> None:
    assert described("optimizer.beta2").meaning == (
        "Decay of AdamW's second moment (Brown et al. 2020, appendix B)."
    )


def test_every_setting_is_described_once() -> None:
    everything = describe_settings()
    names = [each.name for each in everything]
    assert len(set(names)) == len(names) > 100
    assert [name for name in names if "." not in name] == list(RunConfig.model_fields)
    assert [each.name for each in everything if not each.meaning] == []


def test_a_section_comes_with_all_below_it() -> None:
    assert [each.name for each in describe_settings("batch")] == [
        "batch",
        "batch.global_batch_tokens",
        "batch.ramp",
        "batch.ramp.N.until_tokens",
        "batch.ramp.N.global_batch_tokens",
        "batch.micro_batch_sequences",
    ]
    assert describe_settings("batch.ramp") == describe_settings("batch")[2:5]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("sources.web", "sources"),
        ("sources.web.split_by", "sources.NAME.split_by"),
        ("sources.split_by", "sources.NAME.split_by"),
        ("data.stages.0.from_progress", "data.stages.N.from_progress"),
    ],
)
def test_free_parts_may_be_written_or_left_out(name: str, first: str) -> None:
    assert described(name).name == first


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("optimiser", "did you mean optimizer?"),
        ("optimizer.beta3", "did you mean beta2 or beta1?"),
        ("sources.web.knd", "did you mean kind?"),
        ("precision.xyz", "known settings are dtype"),
        ("model.config.hidden_size", "the setting above hidden_size holds no settings"),
    ],
)
def test_an_unknown_name_is_refused_with_near_ones(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        describe_settings(name)
    assert raised.value.problems == [f"{name}: no such setting; {hint}"]
