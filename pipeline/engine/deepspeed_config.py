"""Merge a DeepSpeed template and the run YAML into the complete config that DeepSpeed runs with.

The run YAML decides everything that can change the loss curve beyond rounding. A template decides
how ZeRO carries out the training. Reads template files. Imports neither torch nor deepspeed, so that
conflicts are reported before any process starts.
"""

from pathlib import Path
from typing import Any, Literal, Required, TypedDict

from pipeline.config.batch_division import batches_that_ranks_do_not_divide
from pipeline.config.groups import GroupSizes, group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.config.shipped_files import TEMPLATES, shipped_files
from pipeline.config.yaml_files import read_strict_json
from pipeline.engine.optimizers.optimizer_kind import Execution, optimizer_kind
from pipeline.engine.template_keys import EXECUTION_KEYS, JsonObject, template_problems
from pipeline.errors import ConfigError


class OffloadSettings(TypedDict, total=False):
    """The keys of `offload_optimizer` and `offload_param` that are read here."""

    device: str
    """none, cpu or nvme."""


class ZeroSettings(TypedDict, total=False):
    """The keys of `zero_optimization` that are read here, as DeepSpeed names them."""

    stage: Required[int]
    contiguous_gradients: bool
    overlap_comm: bool
    reduce_bucket_size: float
    """Elements of a gradient bucket."""
    offload_optimizer: OffloadSettings | None
    offload_param: OffloadSettings | None


class DeepSpeedConfig(TypedDict, total=False):
    """The complete config that DeepSpeed runs with, by DeepSpeed's names.

    Holds the template's other execution keys too. Is written into the run's folder.
    """

    train_batch_size: Required[int]
    """Sequences."""
    train_micro_batch_size_per_gpu: Required[int]
    """Sequences."""
    gradient_accumulation_steps: Required[int]
    gradient_clipping: Required[float]
    """Maximum gradient norm; 0 at ZeRO stage 0, where the train loop clips instead of DeepSpeed."""
    zero_optimization: Required[ZeroSettings]
    steps_per_print: Required[int]
    data_types: dict[str, str]
    zero_allow_untested_optimizer: bool
    bf16: dict[str, bool]
    fp16: dict[str, int]


BUCKET_ELEMENTS = 500_000_000
"""DeepSpeed's default of `reduce_bucket_size`, in elements."""


def read_template(path: Path) -> JsonObject:
    """Return a template's JSON object. Raises ConfigError where a file holds none."""
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
    template: JsonObject, config: RunConfig, sizes: GroupSizes, where: str = "the template"
) -> DeepSpeedConfig:
    """Return DeepSpeed's complete config for a job's ranks, without "auto" and unknown keys.

    Pure. Raises ConfigError with every problem at once.
    """
    # Refuse before anything is written: wrong keys and batches, then keys that do not combine.
    problems = [*template_problems(template), *batches_that_ranks_do_not_divide(config, sizes)]
    if problems:
        raise ConfigError(problems, where)
    problems = _combination_problems(template, config)
    if problems:
        raise ConfigError(problems)

    # The template's execution keys, and over them what the run YAML owns.
    zero = zero_settings(template)
    gradient_clipping = config.optimizer.max_gradient_norm
    if zero["stage"] == 0:
        gradient_clipping = 0.0  # the train loop clips
    resolved = _execution_settings(template)
    resolved |= {
        # Under batch.ramp the train loop sets the size of each step.
        "train_batch_size": config.global_batch_sequences,
        "train_micro_batch_size_per_gpu": config.batch.micro_batch_sequences,
        "gradient_accumulation_steps": config.accumulation(sizes),
        "gradient_clipping": gradient_clipping,
        "zero_optimization": zero,
        # By default DeepSpeed prints nothing: metrics.jsonl has every step.
        "steps_per_print": resolved.get("steps_per_print", 2**31 - 1),
    }

    # Keys that depend on precision and optimizer.
    if config.precision.dtype != "fp32":
        resolved["data_types"] = {"grad_accum_dtype": "fp32"}
    if not optimizer_kind(config.optimizer).is_on_deepspeeds_list:
        resolved["zero_allow_untested_optimizer"] = True  # tests/training/test_parity.py tests it
    if config.precision.dtype == "bf16":
        resolved["bf16"] = {"enabled": True}
    elif config.precision.dtype == "fp16":
        # Dynamic loss scaling from 2^16, raised after 1,000 good steps: DeepSpeed's defaults.
        resolved["fp16"] = {
            "enabled": True,
            "loss_scale": 0,
            "initial_scale_power": 16,
            "loss_scale_window": 1000,
        }
    return resolved


def zero_settings(settings: JsonObject | DeepSpeedConfig) -> ZeroSettings:
    """Return `zero_optimization` of a template or a resolved config.

    A template that names no stage is at ZeRO stage 0.
    """
    named: Any = settings.get("zero_optimization", {})
    zero: Any = {"stage": 0, **named}
    return zero


def _execution_settings(template: JsonObject) -> DeepSpeedConfig:
    """Return the template's execution keys, the beginning of a resolved config."""
    settings: Any = {key: value for key, value in template.items() if key in EXECUTION_KEYS}
    return settings


def fit_buckets(resolved: DeepSpeedConfig, parameters: int) -> DeepSpeedConfig:
    """Return the config with a gradient bucket of at most `parameters` elements.

    DeepSpeed allocates the whole bucket, at stages 1 and 2 again for every micro-batch. On a CPU
    its pages are faulted in again each time; on a GPU nothing else can use the memory. The order of
    reduction stays the same.
    """
    zero = resolved["zero_optimization"].copy()
    elements = int(zero.get("reduce_bucket_size", BUCKET_ELEMENTS))
    zero["reduce_bucket_size"] = min(elements, parameters)
    fitted = resolved.copy()
    fitted["zero_optimization"] = zero
    return fitted


def zero_stage(settings: JsonObject | DeepSpeedConfig) -> int:
    """Return the ZeRO stage of a template or a resolved config."""
    return zero_settings(settings)["stage"]


def construction_sharding(resolved: DeepSpeedConfig) -> DeepSpeedConfig | None:
    """Return the config that shards a model during its construction; None below ZeRO stage 3."""
    if zero_stage(resolved) != 3:
        return None
    return resolved


def offload_device(
    settings: JsonObject | DeepSpeedConfig, what: Literal["optimizer", "param"]
) -> str:
    """Return where optimizer states or parameters are offloaded to: `none`, `cpu` or `nvme`.

    `settings` is a template or a resolved config.
    """
    zero = zero_settings(settings)
    offload = zero.get("offload_param")
    if what == "optimizer":
        offload = zero.get("offload_optimizer")
    return (offload or {}).get("device", "none")


def offloads_optimizer(settings: JsonObject | DeepSpeedConfig) -> bool:
    """Tell whether a template or a resolved config moves optimizer states off the device."""
    return offload_device(settings, "optimizer") != "none"


def _combination_problems(template: JsonObject, config: RunConfig) -> list[str]:
    """Name what run file and template ask for, each valid alone, that DeepSpeed cannot combine."""
    problems: list[str] = []
    precision = config.precision.dtype
    if zero_stage(template) == 0 and precision != "fp32":
        problems.append(
            f"precision.dtype = {precision}: at ZeRO stage 0 DeepSpeed adds up gradients in "
            f"{precision}; set deepspeed to zero1 (as fast, also on one rank, and exact), or "
            "precision.dtype to fp32"
        )
    execution = Execution(zero_stage(template), offloads_optimizer(template), precision)
    return problems + optimizer_kind(config.optimizer).problems(config.optimizer, execution)


def refuse_execution(config: RunConfig) -> None:
    """Check, before anything starts, the settings that would make training refuse the run later.

    Raises ConfigError with every problem: in the template, the batch sizes, the vocabulary.
    """
    # Ranks may be known to the launcher alone; one rank stands for them.
    ranks = config.launch.ranks
    if not isinstance(ranks, int):
        ranks = 1
    template = read_template(config.deepspeed)
    problems = [f"{config.deepspeed}: {p}" for p in template_problems(template)]
    is_valid_template = not problems
    problems += batches_that_ranks_do_not_divide(config, group_sizes(ranks))
    if is_valid_template:
        problems += _combination_problems(template, config)

    # The model needs a row for every id of the tokenizer, whose size the run file may name.
    size = config.model.config.get("vocab_size")
    needed = config.tokenizer.vocab_size
    if size is not None and needed is not None and size < needed:
        problems.append(
            f"model.config.vocab_size = {size}: the tokenizer has {needed} ids "
            "(tokenizer.vocab_size); make the model's at least as large, or leave it out to have "
            "it derived"
        )
    if problems:
        raise ConfigError(problems)
