"""DeepSpeed templates: which keys belong there, and how one becomes the config that DeepSpeed runs
with.

The run YAML owns whatever can change the loss curve beyond rounding; a template owns how ZeRO
executes it. DeepSpeed itself ignores misspelt keys and drops or keeps an unresolved "auto" in
silence, so everything is checked here. Imports neither torch nor deepspeed: a wrong template is
reported before anything starts.
"""

import difflib
import json
from pathlib import Path
from typing import Any

from pipeline.config.groups import GroupSizes, group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.config.shipped_files import TEMPLATES, shipped_files
from pipeline.config.yaml_files import read_strict_json
from pipeline.engine.optimizers.optimizer_kind import Execution, optimizer_kind
from pipeline.errors import ConfigError, nearest_divisors, nearest_multiples

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
"""Template key -> the YAML field that owns it. In a template: absent or "auto"."""

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

EXECUTION_KEYS = {
    "zero_optimization", "aio", "flops_profiler", "comms_logger", "wall_clock_breakdown", "memory_breakdown",
    "steps_per_print",
}  # fmt: skip

ZERO_KEYS = {
    "stage", "contiguous_gradients", "reduce_scatter", "reduce_bucket_size", "use_multi_rank_bucket_allreduce",
    "allgather_partitions", "allgather_bucket_size", "overlap_comm", "load_from_fp32_weights", "elastic_checkpoint",
    "offload_param", "offload_optimizer", "sub_group_size", "stage3_max_live_parameters", "stage3_max_reuse_distance",
    "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold", "stage3_model_persistence_threshold",
    "stage3_module_granularity_threshold", "stage3_use_all_reduce_for_fetch_params", "stage3_allgather_sequential",
    "stage3_gather_16bit_weights_on_model_save", "ignore_unused_parameters", "round_robin_gradients",
    "zero_hpz_partition_size", "memory_efficient_linear", "pipeline_loading_checkpoint", "override_module_apply",
    "log_trace_cache_warnings", "enable_sanity_checks",
}  # fmt: skip
"""Keys of `zero_optimization` in DeepSpeed 0.19.8 that do not change the result."""

BUCKET_ELEMENTS = 500_000_000
"""DeepSpeed's default of `reduce_bucket_size`."""

QUANTISING_ZERO_KEYS = {
    "zero_quantized_weights", "zero_quantized_gradients", "zero_quantized_nontrainable_weights", "zenflow",
    "compute_grad_norm",
}  # fmt: skip

PROFILING_KEYS = {
    "aio": {"block_size", "queue_depth", "intra_op_parallelism", "single_submit", "overlap_events", "use_gds"},
    "flops_profiler": {
        "enabled", "recompute_fwd_factor", "profile_step", "module_depth", "top_modules", "detailed", "output_file",
    },
    "comms_logger": {"enabled", "prof_all", "prof_ops", "verbose", "debug"},
}  # fmt: skip

OFFLOAD_KEYS = {
    "offload_param": {"device", "nvme_path", "buffer_count", "buffer_size", "max_in_cpu", "pin_memory"},
    "offload_optimizer": {
        "device", "nvme_path", "buffer_count", "pin_memory", "pipeline_read", "pipeline_write", "fast_init", "ratio",
    },
}  # fmt: skip


def read_template(path: Path) -> dict[str, Any]:
    """Return a template's mapping. Raises ConfigError where it cannot be read or is not a JSON
    object."""
    try:
        return read_strict_json(path)
    except ConfigError as error:
        names = shipped_files(TEMPLATES)
        problems = [
            f"deepspeed = {path}: {problem}; shipped templates are {', '.join(names)}"
            for problem in error.problems
        ]
        raise ConfigError(problems) from None


def resolve_template(
    template: dict[str, Any], config: RunConfig, sizes: GroupSizes, where: str = "the template"
) -> dict[str, Any]:
    """Return the complete DeepSpeed config for a job's ranks: no "auto" left, nothing unknown.

    Pure. Raises ConfigError with every problem at once.
    """
    problems = [*template_problems(template), *_batch_problems(config, sizes)]
    if problems:
        raise ConfigError(problems, where)
    problems = _combination_problems(template, config)
    if problems:
        raise ConfigError(problems)
    zero = {"stage": 0, **template.get("zero_optimization", {})}
    resolved = {key: value for key, value in template.items() if key in EXECUTION_KEYS}
    resolved |= {
        "train_batch_size": config.global_batch_sequences,  # the loop sets that of each step, see batch.ramp
        "train_micro_batch_size_per_gpu": config.batch.micro_batch_sequences,
        "gradient_accumulation_steps": config.accumulation(sizes),
        "gradient_clipping": config.optimizer.max_gradient_norm
        if zero["stage"]
        else 0.0,  # there the loop clips
        "zero_optimization": zero,
        "steps_per_print": template.get(
            "steps_per_print", 2**31 - 1
        ),  # metrics.jsonl has every step
    }
    if config.precision.dtype != "fp32":
        resolved["data_types"] = {"grad_accum_dtype": "fp32"}
    if not optimizer_kind(config.optimizer).is_on_deepspeeds_list:
        resolved["zero_allow_untested_optimizer"] = True  # tests/training/test_parity.py tests it
    if config.precision.dtype == "bf16":
        resolved["bf16"] = {"enabled": True}
    elif config.precision.dtype == "fp16":
        # Dynamic loss scaling from 2^16, raised after 1,000 good steps (DeepSpeed's defaults,
        # written out).
        resolved["fp16"] = {
            "enabled": True,
            "loss_scale": 0,
            "initial_scale_power": 16,
            "loss_scale_window": 1000,
        }
    return resolved


def fit_buckets(resolved: dict[str, Any], parameters: int) -> dict[str, Any]:
    """Return the config with a gradient bucket no larger than all gradients, whose order of
    reduction stays.

    DeepSpeed allocates the whole bucket, at stages 1 and 2 anew for every micro-batch: on a CPU its
    pages are then faulted in again each time, on a GPU it is memory that nothing else gets.
    """
    zero = resolved["zero_optimization"]
    elements = int(zero.get("reduce_bucket_size", BUCKET_ELEMENTS))
    return resolved | {
        "zero_optimization": zero | {"reduce_bucket_size": min(elements, parameters)}
    }


def zero_stage(settings: dict[str, Any]) -> int:
    """Return the ZeRO stage of a template or resolved config."""
    return settings.get("zero_optimization", {}).get("stage", 0)


def construction_sharding(resolved: dict[str, Any]) -> dict[str, Any] | None:
    """Return the config by which a model is divided among the ranks while it is built, at ZeRO 3;
    None at other stages."""
    return resolved if zero_stage(resolved) == 3 else None


def offload_device(settings: dict[str, Any], what: str) -> str:
    """Return where a template or resolved config puts `optimizer` states or a `param`: none, cpu or
    nvme."""
    offload = settings.get("zero_optimization", {}).get(f"offload_{what}") or {}
    return offload.get("device", "none")


def offloads_optimizer(settings: dict[str, Any]) -> bool:
    """Tell of a template or resolved config whether optimizer states live in host memory or on
    NVMe."""
    return offload_device(settings, "optimizer") != "none"


def _combination_problems(template: dict[str, Any], config: RunConfig) -> list[str]:
    """Name what the run file and a valid template ask for, each for itself, and DeepSpeed cannot do
    together."""
    problems = []
    precision = config.precision.dtype
    if zero_stage(template) == 0 and precision != "fp32":
        problems.append(
            f"precision.dtype = {precision}: at ZeRO stage 0 DeepSpeed adds up gradients in "
            f"{precision}; set deepspeed to "
            "zero1 (as fast, also on one rank, and exact), or precision.dtype to "
            "fp32"
        )
    execution = Execution(zero_stage(template), offloads_optimizer(template), precision)
    return problems + optimizer_kind(config.optimizer).problems(config.optimizer, execution)


def refuse_execution(config: RunConfig) -> None:
    """Check before anything starts what training could only refuse later. Raises ConfigError with
    every problem."""
    ranks = config.launch.ranks
    sizes = group_sizes(ranks if isinstance(ranks, int) else 1)
    template = read_template(config.deepspeed)
    problems = [f"{config.deepspeed}: {p}" for p in template_problems(template)]
    problems += _batch_problems(config, sizes) + (
        [] if problems else _combination_problems(template, config)
    )
    size = config.model.config.get("vocab_size")
    needed = config.tokenizer.vocab_size
    if size is not None and needed is not None and size < needed:
        problems.append(
            f"model.config.vocab_size = {size}: the tokenizer has {needed} ids "
            "(tokenizer.vocab_size); "
            "make the model's at least as large, or leave it out to have it derived"
        )
    if problems:
        raise ConfigError(problems)


def template_problems(template: dict[str, Any]) -> list[str]:
    """Name every key that does not belong in a template, with what to do instead."""
    problems = []
    for key, value in template.items():
        if key in OWNED_BY_YAML:
            if not _only_auto(value):
                problems.append(
                    f'{key} = {json.dumps(value)}: set {OWNED_BY_YAML[key]} in the run YAML; here absent or "auto"'
                )
        elif key in REFUSED:
            problems.append(f"{key}: does not belong here: {REFUSED[key]}")
        elif key not in EXECUTION_KEYS:
            problems.append(_unknown(key, EXECUTION_KEYS | OWNED_BY_YAML.keys()))
        else:
            problems += _autos(value, key)
            known = PROFILING_KEYS.get(key)
            if known is not None and isinstance(value, dict):
                problems += [
                    f"{key}." + _unknown(inner, known) for inner in value if inner not in known
                ]
    zero = template.get("zero_optimization", {})
    if not isinstance(zero, dict):
        return [*problems, "zero_optimization: must be a JSON object"]
    if zero.get("stage", 0) not in (0, 1, 2, 3):
        problems.append(f"zero_optimization.stage = {zero['stage']!r}: must be 0, 1, 2 or 3")
    for key, value in zero.items():
        if key in QUANTISING_ZERO_KEYS:
            problems.append(f"zero_optimization.{key}: does not belong here: it changes the result")
        elif key not in ZERO_KEYS:
            problems.append("zero_optimization." + _unknown(key, ZERO_KEYS))
        elif key in OFFLOAD_KEYS and isinstance(value, dict):
            known = OFFLOAD_KEYS[key]
            problems += [
                f"zero_optimization.{key}." + _unknown(inner, known)
                for inner in value
                if inner not in known
            ]
    return problems


def _batch_problems(config: RunConfig, sizes: GroupSizes) -> list[str]:
    micro = config.batch.micro_batch_sequences
    sequence = config.data.sequence_length
    per_pass = f"launch.ranks = {sizes.data} x batch.micro_batch_sequences = {micro}"
    problems = []
    for setting, tokens in config.indivisible_batches(sizes):
        sequences = tokens // sequence
        if setting == "batch.global_batch_tokens":
            problems.append(
                f"{per_pass}: must divide the {sequences} sequences of a global batch "
                f"({setting} / data.sequence_length); set "
                f"{_batches_that_work(tokens, sequence, sizes.data, micro)}"
            )
        else:
            problems.append(
                f"{setting} = {tokens}: its {sequences} sequences must be a multiple of "
                f"{per_pass}; "
                f"set {nearest_multiples(tokens, config.tokens_per_pass(sizes))}"
            )
    return problems


def _batches_that_work(tokens: int, sequence: int, data_ranks: int, micro: int) -> str:
    """Name the nearest value of each setting that works while the others stay."""
    samples = tokens // sequence
    ways = []
    if samples % micro == 0:
        ways.append(f"launch.ranks to {nearest_divisors(data_ranks, samples // micro)}")
    if samples % data_ranks == 0:
        divisors = nearest_divisors(micro, samples // data_ranks)
        ways.append(f"batch.micro_batch_sequences to {divisors}")
    multiples = nearest_multiples(tokens, data_ranks * micro * sequence)
    ways.append(f"batch.global_batch_tokens to {multiples}")
    return ", or ".join(ways)


def _unknown(key: str, known: set[str]) -> str:
    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f"{key}: unknown key (DeepSpeed would ignore it)" + (
        f"; did you mean {close[0]}?" if close else ""
    )


def _only_auto(value: Any) -> bool:
    return all(map(_only_auto, value.values())) if isinstance(value, dict) else value == "auto"


def _autos(value: Any, key: str) -> list[str]:
    if isinstance(value, dict):
        return [problem for inner, v in value.items() for problem in _autos(v, f"{key}.{inner}")]
    return (
        [f'{key} = "auto": give a value, or leave it out for DeepSpeed\'s default']
        if value == "auto"
        else []
    )
