"""`RunConfig`: all settings of a run, and the values that follow from them."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from pipeline.config.curation.annotate_section import Annotate
from pipeline.config.curation.select_section import Select
from pipeline.config.evaluation_section import Evaluation
from pipeline.config.groups import GroupSizes
from pipeline.config.run_sections import Checkpoint, Executor, Guard, Launch
from pipeline.config.sections import (
    Batch,
    Data,
    Logging,
    Model,
    Optimizer,
    Paths,
    Precision,
    Proportions,
    Schedule,
    Section,
    TokenizerSection,
    Tokens,
    Train,
)
from pipeline.config.shipped_files import TemplateLocation
from pipeline.config.source_section import Prepare, Source
from pipeline.config.step_plan import StepPlan, plan_steps
from pipeline.errors import ConfigError

VOCAB_MULTIPLE = 128
"""The embedding of a tokenizer is padded to a multiple of this, for faster matrix multiplications
(Shoeybi et al. 2019, section 5.1)."""


RUN_SECTIONS = (
    "tokenizer",
    "model",
    "data",
    "optimizer",
    "schedule",
    "batch",
    "train",
    "deepspeed",
)
"""Parts of a run file that have no default, and that only some stages read: a corpus needs none."""


def _if_set() -> Any:
    """Return the definition of a field of RUN_SECTIONS: left out, it is no attribute."""
    return Field(default=None, validate_default=False)


class RunConfig(Section):
    """All settings of a run; the DeepSpeed template decides how ZeRO carries out the training.

    The fields in RUN_SECTIONS may be left out. To read one that is not there raises ConfigError;
    `has` tells.
    """

    fields_left_out_unused = ("annotate", "select")

    preset: str | None = None
    """Name of a file in `pipeline/config/presets`; its settings apply where the run file has none."""
    paths: Paths
    """The two folders of a run: one that many runs may share, and one of its own."""
    sources: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")], Source] = Field(
        min_length=1
    )
    """Where the raw text of each source is, by its name. The name is used in folder names, document
    ids and figures."""
    prepare: Prepare = Prepare()
    """How raw text becomes documents: how much is held out, and what stops the stage."""
    annotate: Annotate | None = None
    """Curating: what is computed of each document for `select`, such as quality signals. Left out:
    nothing."""
    select: Select | None = None
    """Curating: which documents the later stages read, and which parts of them. Left out: all, whole."""
    tokenizer: TokenizerSection = _if_set()
    """How the vocabulary is learned, or which existing tokenizer is used."""
    tokens: Tokens = Tokens()
    """How documents become token ids."""
    model: Model = _if_set()
    """The model: an architecture with its sizes, or pretrained weights."""
    data: Data = _if_set()
    """How tokens become training samples: sequence length, mixture of sources, packing, order."""
    optimizer: Optimizer = _if_set()
    """The optimizer, its learning rate, weight decay and gradient clipping."""
    schedule: Schedule = _if_set()
    """How the learning rate changes over the run."""
    batch: Batch = _if_set()
    """Size of an optimizer step, and of one pass of one rank through the model."""
    precision: Precision = Precision()
    """Number format in which the model computes."""
    train: Train = _if_set()
    """Length of the run, its seed, what it starts from, and how often it is validated."""
    checkpoint: Checkpoint = Checkpoint()
    """When checkpoints are saved, and which of them are kept."""
    guard: Guard = Guard()
    """When a run that hangs or crashes is restarted, and one that diverges is rolled back."""
    evaluation: Evaluation = Evaluation()
    """Few-shot tasks and held-out text on which the exported model is scored."""
    logging: Logging = Logging()
    """Trackers that also receive the metrics of each step."""
    launch: Launch = Launch()
    """Where and how the training ranks are started."""
    executor: Executor = Executor()
    """Worker processes of the stages `prepare`, `annotate`, `select`, `tokenize` and `pack`."""
    deepspeed: TemplateLocation = _if_set()
    """DeepSpeed JSON template, which decides how ZeRO executes the run: name of a shipped template
    (`zero0`, `zero1`, `zero2`, `zero3`, `zero3_offload`), or a path, with a slash or a suffix."""

    @model_validator(mode="after")
    def _without_absent_sections(self) -> "RunConfig":
        """Remove the sections that the run file does not have, so that reading one is an error."""
        for name in RUN_SECTIONS:
            if vars(self).get(name) is None:
                vars(self).pop(name, None)
        return self

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise ConfigError for a section that the run file does not have."""
            if name in RUN_SECTIONS:
                raise ConfigError(section_problems([name]))
            return super().__getattr__(name)

    def has(self, *sections: str) -> bool:
        """Tell whether the run file has all of these sections."""
        return not self.absent(sections)

    def absent(self, sections: Collection[str]) -> list[str]:
        """Return those of the sections that the run file does not have."""
        return [name for name in sections if name not in vars(self)]

    @property
    def sources_with_text(self) -> list[str]:
        """Names of the sources that have documents; of the others only token ids exist."""
        return [name for name, source in self.sources.items() if source.has_documents]

    @property
    def global_batch_sequences(self) -> int:
        """Sequences in one optimizer step after `batch.ramp`, over all ranks."""
        return self.batch.global_batch_tokens // self.data.sequence_length

    @property
    def batch_sizes(self) -> Sequence[tuple[str, int]]:
        """Every `(setting, tokens)` of a global batch: `batch.global_batch_tokens`, then the ramp."""
        ramp = [
            (f"batch.ramp.{number}.global_batch_tokens", entry.global_batch_tokens)
            for number, entry in enumerate(self.batch.ramp)
        ]
        return [("batch.global_batch_tokens", self.batch.global_batch_tokens), *ramp]

    @property
    def step_plan(self) -> StepPlan:
        """Which samples each optimizer step takes."""
        return plan_steps(
            self.data.sequence_length,
            self.batch.global_batch_tokens,
            self.train.train_tokens,
            [(step.until_tokens, step.global_batch_tokens) for step in self.batch.ramp],
            [(step.until_tokens, step.sequence_length) for step in self.data.length_ramp],
        )

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run.

        Without a batch ramp, `train_tokens / global_batch_tokens`, rounded up.
        """
        return self.step_plan.total_steps

    @property
    def proportions(self) -> Sequence[tuple[float, str, Proportions]]:
        """Proportions of the sources over the run, each as `(progress, setting, proportions)`.

        They take effect at `progress`, a fraction of the run's samples that rises from 0. Without
        the section `data` each source counts by its size.
        """
        if not self.has("data"):
            return [(0.0, "data", Proportions())]
        stages = [
            (stage.from_progress, f"data.stages.{number}", stage)
            for number, stage in enumerate(self.data.stages)
        ]
        if stages and stages[0][0] == 0:
            return stages
        return [(0.0, "data", self.data), *stages]

    @property
    def total_samples(self) -> int:
        """Samples that the whole run consumes, each of `data.sequence_length` tokens."""
        return self.step_plan.total_samples

    @property
    def learning_rate_factor(self) -> float:
        """Factor of `optimizer.peak_learning_rate`: K, sqrt(K), or 1 without scaling.

        K = `batch.global_batch_tokens` / `reference_batch_tokens`.
        """
        scaling = self.optimizer.learning_rate_scaling
        if scaling is None:
            return 1.0
        ratio = self.batch.global_batch_tokens / scaling.reference_batch_tokens
        if scaling.rule == "linear":
            return ratio
        return ratio**0.5

    def model_vocab_size(self, ids: int) -> int:
        """Return the rows of the embedding for a tokenizer of `ids` ids.

        `model.config.vocab_size` if it is set, else `ids` rounded up.
        """
        return self.model.config.get("vocab_size", round_up_vocabulary(ids))

    def accumulation(self, sizes: GroupSizes) -> int:
        """Return the micro-batches of each data rank in a step after `batch.ramp`.

        Sequences of a global batch = data ranks x micro-batch x accumulation.
        """
        return self.global_batch_sequences // (sizes.data * self.batch.micro_batch_sequences)

    def tokens_per_pass(self, sizes: GroupSizes) -> int:
        """Return the tokens of one micro-batch on every data rank; it divides each global batch."""
        sequences = sizes.data * self.batch.micro_batch_sequences
        return sequences * self.data.sequence_length

    def indivisible_batches(self, sizes: GroupSizes) -> Sequence[tuple[str, int]]:
        """Return the `batch_sizes` that micro-batches on all data ranks do not divide."""
        per_pass = self.tokens_per_pass(sizes)
        return [(setting, tokens) for setting, tokens in self.batch_sizes if tokens % per_pass]


def section_problems(names: Sequence[str], reader: str = "") -> list[str]:
    """Return the message about sections that are not set, as a list; empty without names.

    `reader`: who reads them, where that is known.
    """
    if not names:
        return []
    verb = "is"
    them = "it"
    if len(names) > 1:
        verb = "are"
        them = "them"
    reason = ""
    if reader:
        reason = f", and {reader} reads {them}"
    return [
        f"{', '.join(names)}: {verb} required and not set{reason}; `pipeline config --example` prints "
        f"a run file with {them}, `pipeline config --describe {' '.join(names)}` explains {them}"
    ]


def round_up_vocabulary(ids: int) -> int:
    """Return `ids` rounded up to a multiple of VOCAB_MULTIPLE."""
    return -(-ids // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
