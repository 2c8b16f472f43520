"""Which keys belong in a DeepSpeed template, and why others do not.

DeepSpeed itself ignores misspelt keys, and accepts or drops an unresolved "auto" silently, so every
key is checked here. Imports neither torch nor deepspeed.
"""

import difflib
import json
from collections.abc import Mapping
from typing import TypeGuard

from pipeline.config.yaml_files import YamlValue

JsonObject = Mapping[str, YamlValue]
"""A template's JSON object as read, or a part of it."""


OWNED_BY_YAML = {
    "train_batch_size": "batch.global_batch_tokens",
    "train_micro_batch_size_per_gpu": "batch.micro_batch_sequences",
    "gradient_accumulation_steps": "batch (it follows from the batch sizes and the ranks)",
    "gradient_clipping": "optimizer.max_gradient_norm",
    "optimizer": "optimizer",
    "scheduler": "schedule",
    "bf16": "precision.dtype",
    "fp16": "precision.dtype",
    "torch_autocast": "precision.dtype",
    "data_types": "precision.dtype",
}
"""Template key -> the YAML field that sets it. A template leaves the key out, or holds "auto"."""

REFUSED = {
    "communication_data_type": (
        "it changes the result; gradients are reduced in the format that precision.dtype implies"
    ),
    "compression_training": "it changes the model that is trained",
    "activation_checkpointing": (
        "it acts on DeepSpeed's own checkpoint function only; set train.activation_checkpointing"
    ),
    "zero_allow_untested_optimizer": "every optimizer offered here is one that ZeRO supports",
}
"""Template key -> why it must not be in a template."""

EXECUTION_KEYS = {
    "zero_optimization", "aio", "flops_profiler", "comms_logger", "wall_clock_breakdown",
    "memory_breakdown", "steps_per_print",
}  # fmt: skip
"""Keys that a template may have: they decide how DeepSpeed executes a run, not what is trained."""

ZERO_KEYS = {
    "stage", "contiguous_gradients", "reduce_scatter", "reduce_bucket_size",
    "use_multi_rank_bucket_allreduce", "allgather_partitions", "allgather_bucket_size",
    "overlap_comm", "load_from_fp32_weights", "elastic_checkpoint", "offload_param",
    "offload_optimizer", "sub_group_size", "stage3_max_live_parameters",
    "stage3_max_reuse_distance", "stage3_prefetch_bucket_size",
    "stage3_param_persistence_threshold", "stage3_model_persistence_threshold",
    "stage3_module_granularity_threshold", "stage3_use_all_reduce_for_fetch_params",
    "stage3_allgather_sequential", "stage3_gather_16bit_weights_on_model_save",
    "ignore_unused_parameters", "round_robin_gradients", "zero_hpz_partition_size",
    "memory_efficient_linear", "pipeline_loading_checkpoint", "override_module_apply",
    "log_trace_cache_warnings", "enable_sanity_checks",
}  # fmt: skip
"""Keys of `zero_optimization` in DeepSpeed 0.19.8 that do not change the result."""

QUANTISING_ZERO_KEYS = {
    "zero_quantized_weights", "zero_quantized_gradients", "zero_quantized_nontrainable_weights",
    "zenflow", "compute_grad_norm",
}  # fmt: skip
"""Keys of `zero_optimization` that change the result, by quantising for the most part."""

PROFILING_KEYS = {
    "aio": {"block_size", "queue_depth", "intra_op_parallelism", "single_submit", "overlap_events", "use_gds"},
    "flops_profiler": {
        "enabled", "recompute_fwd_factor", "profile_step", "module_depth", "top_modules", "detailed", "output_file",
    },
    "comms_logger": {"enabled", "prof_all", "prof_ops", "verbose", "debug"},
}  # fmt: skip
"""Keys inside of the execution keys that are JSON objects."""

OFFLOAD_KEYS = {
    "offload_param": {"device", "nvme_path", "buffer_count", "buffer_size", "max_in_cpu", "pin_memory"},
    "offload_optimizer": {
        "device", "nvme_path", "buffer_count", "pin_memory", "pipeline_read", "pipeline_write", "fast_init", "ratio",
    },
}  # fmt: skip
"""Keys inside of `zero_optimization.offload_param` and `zero_optimization.offload_optimizer`."""


def template_problems(template: JsonObject) -> list[str]:
    """Name every key that does not belong in a template, with the remedy."""
    problems: list[str] = []
    for key, value in template.items():
        if key in OWNED_BY_YAML:
            if not _is_only_auto(value):
                problems.append(
                    f"{key} = {json.dumps(value)}: set {OWNED_BY_YAML[key]} in the run YAML; here "
                    'absent or "auto"'
                )
        elif key in REFUSED:
            problems.append(f"{key}: is not allowed in a template: {REFUSED[key]}")
        elif key not in EXECUTION_KEYS:
            problems.append(_unknown_key(key, EXECUTION_KEYS | OWNED_BY_YAML.keys()))
        else:
            problems += _auto_problems(value, key)
            if key in PROFILING_KEYS:
                problems += _inner_problems(value, PROFILING_KEYS[key], f"{key}.")
    return problems + _zero_problems(template.get("zero_optimization", {}))


def _zero_problems(zero: YamlValue) -> list[str]:
    """Name every key of a template's `zero_optimization` that does not belong there."""
    if not _is_object(zero):
        return ["zero_optimization: must be a JSON object"]
    problems: list[str] = []
    if zero.get("stage", 0) not in (0, 1, 2, 3):
        problems.append(f"zero_optimization.stage = {zero['stage']!r}: must be 0, 1, 2 or 3")
    for key, value in zero.items():
        if key in QUANTISING_ZERO_KEYS:
            problems.append(
                f"zero_optimization.{key}: is not allowed in a template: it changes the result"
            )
        elif key not in ZERO_KEYS:
            problems.append("zero_optimization." + _unknown_key(key, ZERO_KEYS))
        elif key in OFFLOAD_KEYS:
            problems += _inner_problems(value, OFFLOAD_KEYS[key], f"zero_optimization.{key}.")
    return problems


def _inner_problems(value: YamlValue, names: set[str], prefix: str) -> list[str]:
    """Name the keys of a JSON object that are not among some names; other values have none."""
    if not _is_object(value):
        return []
    return [prefix + _unknown_key(key, names) for key in value if key not in names]


def _is_object(value: YamlValue) -> TypeGuard[JsonObject]:
    """Tell whether a JSON value is an object."""
    return isinstance(value, dict)


def _unknown_key(key: str, names: set[str]) -> str:
    """Return what to report of a key that is not among some names: the nearest name, if any."""
    problem = f"{key}: unknown key (DeepSpeed would ignore it)"
    close = difflib.get_close_matches(key, sorted(names), n=1)
    if close:
        problem += f"; did you mean {close[0]}?"
    return problem


def _is_only_auto(value: YamlValue) -> bool:
    """Tell whether a JSON value is "auto", or an object that holds nothing else."""
    if _is_object(value):
        return all(_is_only_auto(inner) for inner in value.values())
    return value == "auto"


def _auto_problems(value: YamlValue, key: str) -> list[str]:
    """Name every "auto" in a JSON value by its dotted key: no setting fills it in."""
    if _is_object(value):
        return [
            problem
            for name, inner in value.items()
            for problem in _auto_problems(inner, f"{key}.{name}")
        ]
    if value == "auto":
        return [f'{key} = "auto": give a value, or leave it out for DeepSpeed\'s default']
    return []
