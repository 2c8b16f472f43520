"""The run file: typed sections, how they are loaded, overridden, checked and dumped.

A run file is YAML. Values come, later ones winning, from: the field's default, the preset (`preset:`), the tokenizer
recipe (`tokenizer.recipe`), the run file, `section.field=value` on the command line. Relative paths in a run file are
relative to that file; on the command line to the current folder. Nothing changes a config after it is loaded; what
can be computed from it is a function of it.
"""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo

from pipeline.errors import ConfigError
from pipeline.yaml_files import FromCommandLine, apply_override, merge, read_yaml

PRESETS = Path(__file__).parent / "presets"


def _absolute(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, (str, Path)):
        return value
    return _resolve(value, (info.context or {}).get("base", Path.cwd()))


def _resolve(location: str | Path, base: Path) -> Path:
    """Return an absolute path: relative to `base`, or to the current folder where it was given on the command line."""
    base = Path.cwd() if isinstance(location, FromCommandLine) else base
    return Path(os.path.normpath(base / Path(os.path.expandvars(location)).expanduser()))


Location = Annotated[Path, BeforeValidator(_absolute)]
"""A path or glob, absolute after loading. Locations never enter a fingerprint: a folder may be moved."""


class Section(BaseModel):
    """A frozen part of the run file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


class Paths(Section):
    data_dir: Location
    """Folder of what many runs share: documents, tokenizer, tokens."""
    run_dir: Location
    """Folder of this one run: checkpoints, metrics, export, evaluation, report."""


class Source(Section):
    kind: Literal["jsonl", "parquet", "text", "local-machine"]
    """`jsonl` (also .gz, .zst), `parquet`, `text` (one document a file), or `local-machine` (text of this Python)."""
    paths: tuple[Location, ...] = ()
    """Files, globs, or folders (searched recursively). Not for `local-machine`."""
    text_field: str = "text"
    """Name of the JSON key or Parquet column that holds the document."""
    split_by: str = "text"
    """What is hashed to choose train or validation: `text`, or a key of `meta` whose documents must stay together."""
    slice: Literal["code", "readmes", "reference"] | None = None
    """`local-machine` only: standard-library sources, READMEs of installed distributions, docstrings, help topics."""


class Prepare(Section):
    validation_fraction: float = Field(default=0.005, ge=0, lt=0.5)
    """Share of documents held out for validation, chosen by hash."""
    max_bad_rows: float = Field(default=0.01, ge=0, le=1)
    """Largest share of rejected rows in a source before the stage fails."""
    on_broken_file: Literal["stop", "keep-readable-rows"] = "stop"
    """A truncated or unreadable file stops the stage after the other files, or gives the rows before the break."""
    shard_text_bytes: int = Field(default=128 * 2**20, ge=1)
    """Bytes of text after which a new Parquet shard is begun."""


class Tokenizer(Section):
    recipe: Location | None = None
    """YAML file with the fields of this section; what the run file sets itself wins."""
    kind: Literal["sentencepiece-bpe", "sentencepiece-unigram", "byte-level-bpe", "pretrained"]
    """How ids are made. `pretrained` takes the tokenizer in `path` as it is; of `sentencepiece-unigram`, SentencePiece
    learns the pieces, and the ids are those of the exported fast tokenizer (`pipeline/tokens/README.md`)."""
    vocab_size: int | None = Field(default=None, ge=258)
    """Number of ids to train, special tokens included. Not for `pretrained`."""
    end_of_document: str = Field(default="<|endoftext|>", min_length=1)
    """Text of the special token that follows every document; also the export's bos, eos and padding token."""
    normalization: Literal["identity"] = "identity"
    """Nothing is rewritten before encoding, so that decoding gives the text back."""
    split_pattern: Literal["single-digits", "spaces", "gpt2", "cl100k"] = "single-digits"
    """What no token reaches across. `single-digits`: every digit is its own token (Touvron et al. 2023,
    arXiv:2302.13971, section 2.1). SentencePiece also: `spaces`, digits like letters. Byte-level also: `gpt2` (Radford
    et al. 2019), `cl100k` (tiktoken; numbers up to three digits)."""
    sample_bytes: int = Field(default=200_000_000, ge=10_000)
    """Bytes of training text that the vocabulary is learned from: of each source its share in `data.mixture`, else of
    the text, in documents chosen by hash."""
    path: Location | None = None
    """`pretrained` only: a transformers folder, a `tokenizer.json`, or a SentencePiece BPE `.model`."""


class Tokens(Section):
    encoder: Literal["auto", "reference"] = "auto"
    """`auto`: gigatoken where it gives the reference's ids on a sample of each shard, else the reference."""
    parity_documents: int = Field(default=100, ge=1)
    """Documents per shard that are also encoded by the reference and compared."""


class Model(Section):
    architecture: str
    """Model type of transformers, for example `llama` or `gpt_neox`."""
    config: dict[str, Any]
    """Sizes and options as that architecture's transformers config names them.

    `vocab_size` defaults to the tokenizer's, rounded up to 128."""


class Data(Section):
    sequence_length: int = Field(ge=2)
    """Tokens that the model sees at once, and predicts."""
    mixture: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """Source -> weight; normalised. Default: in proportion to the sources' training tokens (one epoch of each)."""
    validation_sequences: int = Field(default=64, ge=1)
    """Held-out sequences per source at most, the same ones at every validation."""


class Optimizer(Section):
    peak_learning_rate: float = Field(gt=0)
    """Learning rate after warm-up."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of AdamW's first moment."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of AdamW's second moment (Brown et al. 2020, appendix B)."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the root of the second moment."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of matrices; vectors (norms, biases) get none (Brown et al. 2020, appendix B)."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Global gradient norm above which gradients are scaled down (Brown et al. 2020, appendix B)."""


class Schedule(Section):
    kind: Literal["cosine", "wsd"] = "cosine"
    """`cosine` to the end, or `wsd`: warm-up, stable, linear decay (Hu et al. 2024, arXiv:2404.06395)."""
    warmup_tokens: int = Field(ge=0)
    """Tokens of linear warm-up from zero."""
    decay_tokens: int | None = Field(default=None, ge=0)
    """`wsd` only: tokens of the final decay."""
    final_learning_rate_fraction: float = Field(default=0.1, ge=0, le=1)
    """Learning rate at the end, as a fraction of the peak."""


class Batch(Section):
    global_batch_tokens: int = Field(ge=1)
    """Tokens in one optimizer step, over all ranks; a multiple of `data.sequence_length`."""
    micro_batch_sequences: int = Field(ge=1)
    """Sequences that one rank puts through the model at once. Changes memory and speed, not the result."""


class Precision(Section):
    dtype: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Number format of the forward and backward pass; master weights and moments are fp32."""


class Train(Section):
    train_tokens: int = Field(ge=1)
    """Length of the run; rounded up to whole steps."""
    seed: int = Field(default=1, ge=0)
    """Seed of the initial weights, the order of the data and dropout."""
    resume: Literal["auto", "never", "required"] = "auto"
    """`auto`: go on from the newest intact checkpoint, if any. `never`: stop if there is one. `required`: if none."""
    validate_every_steps: int = Field(default=500, ge=1)
    """Steps between measurements of the held-out loss; also measured at the end."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more compute."""


class Checkpoint(Section):
    save_every_steps: int = Field(default=500, ge=1)
    """Steps between checkpoints; one is also written at the end and when stopped by a signal."""
    keep_last: int = Field(default=3, ge=1)
    """Checkpoints kept in the run folder; older ones are deleted after a newer one is complete."""


class Evaluation(Section):
    tasks: tuple[str, ...] = ("heldout_cloze", "patterns", "arithmetic")
    """Built-in few-shot tasks, or any task of lm-eval found in `task_paths`."""
    shots: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 5)
    """Numbers of solved examples before each question."""
    items: int = Field(default=200, ge=1)
    """Questions per task at most."""
    heldout_bytes: int = Field(default=50_000, ge=0)
    """Bytes of held-out text per source, at most, for bits per byte."""
    task_paths: tuple[Location, ...] = ()
    """Folders with further lm-eval task files."""
    batch_sequences: int = Field(default=16, ge=1)
    """Sequences that the model scores at once; kept with the scores, which can move with it by rounding."""
    prompt: str = "The "
    """Text that the exported model continues, as a first look."""
    require_gain_over_unigram: float | None = None
    """The command fails unless the validation loss is this fraction below the unigram entropy of the same tokens."""
    require_cloze_standard_errors: float | None = None
    """The command fails unless held-out cloze at k=0 (acc_mutual_info) is this many standard errors above chance."""


class Launch(Section):
    kind: Literal["local", "slurm"] = "local"
    """`local`: the deepspeed launcher on this machine. `slurm`: `srun` inside the job's allocation."""
    ranks: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """`auto`: every GPU, else 2 CPU ranks, as many as divide the batch. Under Slurm the allocation's tasks."""
    master_port: int = Field(default=0, ge=0, lt=65536)
    """TCP port where ranks meet; 0 takes a free one."""


class Executor(Section):
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Processes for `prepare` and `tokenize`; `auto`: the cores this process may use. 1 runs in this process."""


class RunConfig(Section):
    """What is trained and where. How ZeRO executes it stands in the DeepSpeed template."""

    preset: str | None = None
    """Name of a file in `pipeline/presets`, merged under the run file."""
    paths: Paths
    sources: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")], Source] = Field(min_length=1)
    """Name -> where its raw text is. The name stands in folder names, document ids and figures."""
    prepare: Prepare = Prepare()
    tokenizer: Tokenizer
    tokens: Tokens = Tokens()
    model: Model
    data: Data
    optimizer: Optimizer
    schedule: Schedule
    batch: Batch
    precision: Precision = Precision()
    train: Train
    checkpoint: Checkpoint = Checkpoint()
    evaluation: Evaluation = Evaluation()
    launch: Launch = Launch()
    executor: Executor = Executor()
    deepspeed: Location
    """DeepSpeed JSON template of `ds_configs/`."""

    @property
    def global_batch_sequences(self) -> int:
        """Sequences in one optimizer step, over all ranks."""
        return self.batch.global_batch_tokens // self.data.sequence_length

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run: `train_tokens / global_batch_tokens`, rounded up."""
        return -(-self.train.train_tokens // self.batch.global_batch_tokens)

    def accumulation(self, ranks: int) -> int:
        """Micro-batches per rank and step: global = ranks x micro x accumulation."""
        return self.global_batch_sequences // (ranks * self.batch.micro_batch_sequences)


def load(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run file, apply `section.field=value` overrides and check everything.

    Raises ConfigError with all problems found: unreadable file, unknown keys, wrong values, values that do not fit
    together.
    """
    document = read_yaml(path)
    for override in overrides:
        apply_override(document, override)
    layers = []
    if (preset := document.get("preset")) is not None:
        layers.append(read_yaml(_preset_path(str(preset))))
    tokenizer = document.get("tokenizer")
    if isinstance(tokenizer, dict) and isinstance(recipe := tokenizer.get("recipe"), str):
        layers.append({"tokenizer": read_yaml(_resolve(recipe, path.absolute().parent))})
    merged: dict[str, Any] = {}
    for layer in [*layers, document]:
        merged = merge(merged, layer)
    context = {"base": path.absolute().parent}
    try:
        config, problems = RunConfig.model_validate(merged, context=context), []
    except ValidationError as error:
        problems = [_explain(e) for e in error.errors()]
        try:  # without the unknown keys, so that what does not fit together is reported in the same message
            config = RunConfig.model_validate(merged, context=context, extra="ignore")
        except ValidationError:
            raise ConfigError(problems, str(path)) from None
    if problems := problems + _mismatches(config):
        raise ConfigError(problems, str(path))
    return config


def dump(config: RunConfig) -> str:
    """Return the resolved config as YAML, readable by `load`."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _mismatches(config: RunConfig) -> list[str]:
    """Check what spans several fields; each problem is one line with its remedy."""
    problems = []
    for name, source in config.sources.items():
        if source.kind == "local-machine" and (source.slice is None or source.paths):
            problems.append(
                f"sources.{name}: kind local-machine takes `slice: code | readmes | reference` and no paths"
            )
        if source.kind != "local-machine" and (source.slice is not None or not source.paths):
            problems.append(f"sources.{name}: kind {source.kind} takes `paths: [...]` and no slice")
    tokenizer, batch, sequence = config.tokenizer, config.batch, config.data.sequence_length
    if tokenizer.kind == "pretrained" and (tokenizer.path is None or tokenizer.vocab_size is not None):
        problems.append("tokenizer: kind pretrained takes `path` (folder, tokenizer.json or .model) and no vocab_size")
    if tokenizer.kind != "pretrained" and (tokenizer.path is not None or tokenizer.vocab_size is None):
        problems.append(f"tokenizer: kind {tokenizer.kind} takes `vocab_size` and no path")
    patterns = ("gpt2", "cl100k") if tokenizer.kind.startswith("sentencepiece") else ("spaces",)
    if tokenizer.kind != "pretrained" and tokenizer.split_pattern in patterns:
        usable = [p for p in get_args(Tokenizer.model_fields["split_pattern"].annotation) if p not in patterns]
        problems.append(
            f"tokenizer.split_pattern = {tokenizer.split_pattern}: kind {tokenizer.kind} takes {' or '.join(usable)}"
        )
    if batch.global_batch_tokens % sequence:
        low = max(1, batch.global_batch_tokens // sequence) * sequence
        problems.append(
            f"batch.global_batch_tokens = {batch.global_batch_tokens}: must be a multiple of data.sequence_length = "
            f"{sequence}; set {low} or {low + sequence}"
        )
    elif config.global_batch_sequences % batch.micro_batch_sequences:
        problems.append(
            f"batch.micro_batch_sequences = {batch.micro_batch_sequences}: must divide the "
            f"{config.global_batch_sequences} sequences of a global batch "
            f"(batch.global_batch_tokens / data.sequence_length)"
        )
    if (config.schedule.kind == "wsd") != (config.schedule.decay_tokens is not None):
        problems.append(
            f"schedule.decay_tokens = {config.schedule.decay_tokens}: given exactly when schedule.kind is wsd"
        )
    if config.schedule.warmup_tokens + (config.schedule.decay_tokens or 0) > config.train.train_tokens:
        problems.append(
            f"schedule.warmup_tokens = {config.schedule.warmup_tokens}: warm-up and decay together must not be longer "
            f"than train.train_tokens = {config.train.train_tokens}"
        )
    for name in sorted((config.data.mixture or {}).keys() - config.sources.keys()):
        problems.append(f"data.mixture.{name}: no such source; sources are {', '.join(config.sources)}")
    for name in [n for n in config.sources if config.data.mixture is not None and n not in config.data.mixture]:
        problems.append(f"data.mixture: says nothing of the source {name}; give it a weight, 0 to leave it out")
    if config.data.mixture is not None and sum(config.data.mixture.values()) <= 0:
        problems.append("data.mixture: at least one weight must be above 0")
    scored = "heldout_cloze" in config.evaluation.tasks and 0 in config.evaluation.shots
    if config.evaluation.require_cloze_standard_errors is not None and not scored:
        problems.append(
            "evaluation.require_cloze_standard_errors: needs heldout_cloze in evaluation.tasks "
            "and 0 in evaluation.shots"
        )
    return problems


def _preset_path(name: str) -> Path:
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml")))
        raise ConfigError([f"preset = {name!r}: no such preset; there are {known}"])
    return path


def _explain(error: Any) -> str:
    """Turn one pydantic error into `setting = value: rule; remedy`."""
    location = [str(part) for part in error["loc"]]
    setting = ".".join(location)
    if error["type"] == "missing":
        return f"{setting}: is required and not set"
    if error["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        return f"{setting}: unknown key; {hint}"
    value = error.get("input")
    shown = f" = {value!r}" if not isinstance(value, dict) else ""
    return f"{setting}{shown}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _fields_at(location: Sequence[str]) -> list[str]:
    model: Any = RunConfig
    for part in location:
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        if field is None:  # a free key of a mapping, as in sources.<name>
            continue
        model = field.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            sections = [a for a in get_args(model) if isinstance(a, type) and issubclass(a, BaseModel)]
            model = sections[0] if sections else RunConfig
    return list(model.model_fields)
