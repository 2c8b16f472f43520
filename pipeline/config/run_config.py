"""The settings of a run. What can be computed from a config is a function of it."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from pipeline.config.groups import GroupSizes
from pipeline.config.run_sections import Checkpoint, Executor, Guard, Launch
from pipeline.config.sections import (
    Batch,
    Data,
    Evaluation,
    Logging,
    Model,
    Optimizer,
    Paths,
    Precision,
    Prepare,
    Proportions,
    Schedule,
    Section,
    Source,
    Tokenizer,
    Tokens,
    Train,
)
from pipeline.config.shipped_files import TemplateLocation
from pipeline.config.step_plan import StepPlan, plan_steps

VOCAB_MULTIPLE = 128
"""A derived vocabulary is rounded up to this: matrix multiplications like round sizes (Shoeybi et
al. 2019, section 5.1)."""


class RunConfig(Section):
    """What is trained and where. How ZeRO executes it stands in the DeepSpeed template."""

    preset: str | None = None
    """Name of a file in `pipeline/config/presets`, merged under the run file."""
    paths: Paths
    """The two folders of a run: what many runs share, and what this one writes."""
    sources: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")], Source] = Field(
        min_length=1
    )
    """Name -> where its raw text is. The name stands in folder names, document ids and figures."""
    prepare: Prepare = Prepare()
    """How raw text becomes documents: how much is held out, what stops the stage."""
    tokenizer: Tokenizer
    """How the vocabulary is learned, or which existing tokenizer is taken."""
    tokens: Tokens = Tokens()
    """How documents become token ids."""
    model: Model
    """The model: an architecture with its sizes, or pretrained weights."""
    data: Data
    """How tokens become training samples: sequence length, mixture of sources, packing, order."""
    optimizer: Optimizer
    """The optimizer, its learning rate, weight decay and gradient clipping."""
    schedule: Schedule
    """How the learning rate changes over the run."""
    batch: Batch
    """Size of an optimizer step, and of what one rank computes at once."""
    precision: Precision = Precision()
    """Number format of the computation."""
    train: Train
    """Length of the run, its seed, what it starts from, how often it is validated."""
    checkpoint: Checkpoint = Checkpoint()
    """When checkpoints are saved, and which are kept."""
    guard: Guard = Guard()
    """When a run that hangs, crashes or diverges is restarted or rolled back."""
    evaluation: Evaluation = Evaluation()
    """Few-shot tasks and held-out text on which the exported model is scored."""
    logging: Logging = Logging()
    """Trackers that also receive the metrics of each step."""
    launch: Launch = Launch()
    """Where and how the training ranks are started."""
    executor: Executor = Executor()
    """Worker processes of the stages `prepare` and `tokenize`."""
    deepspeed: TemplateLocation
    """DeepSpeed JSON template, which says how ZeRO executes the run: the name of a shipped one
    (`zero0`, `zero1`, `zero2`, `zero3`, `zero3_offload`), or a path, with a slash or a suffix."""

    @property
    def global_batch_sequences(self) -> int:
        """Sequences in one optimizer step after `batch.ramp`, over all ranks."""
        return self.batch.global_batch_tokens // self.data.sequence_length

    @property
    def batch_sizes(self) -> Sequence[tuple[str, int]]:
        """Tokens of a global batch, by the name of the setting: `batch.global_batch_tokens` and
        those of `batch.ramp`."""
        ramp = [
            (f"batch.ramp.{i}.global_batch_tokens", s.global_batch_tokens)
            for i, s in enumerate(self.batch.ramp)
        ]
        return [("batch.global_batch_tokens", self.batch.global_batch_tokens), *ramp]

    @property
    def step_plan(self) -> StepPlan:
        """How the run's samples are divided among its steps."""
        return plan_steps(
            self.data.sequence_length,
            self.batch.global_batch_tokens,
            self.train.train_tokens,
            [(step.until_tokens, step.global_batch_tokens) for step in self.batch.ramp],
            [(step.until_tokens, step.sequence_length) for step in self.data.length_ramp],
        )

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run: `train_tokens / global_batch_tokens`, rounded up, where
        nothing ramps."""
        return self.step_plan.total_steps

    @property
    def proportions(self) -> Sequence[tuple[float, str, Proportions]]:
        """In which proportions the sources come: from which progress on, the name of the setting,
        what it says."""
        stages = [(s.from_progress, f"data.stages.{i}", s) for i, s in enumerate(self.data.stages)]
        return stages if stages and stages[0][0] == 0 else [(0.0, "data", self.data), *stages]

    @property
    def total_samples(self) -> int:
        """Sequences of `data.sequence_length` that the whole run consumes."""
        return self.step_plan.total_samples

    @property
    def learning_rate_factor(self) -> float:
        """What `optimizer.peak_learning_rate` is multiplied by: K, its square root, or 1."""
        scaling = self.optimizer.learning_rate_scaling
        if scaling is None:
            return 1.0
        ratio = self.batch.global_batch_tokens / scaling.reference_batch_tokens
        return ratio if scaling.rule == "linear" else ratio**0.5

    def model_vocab_size(self, ids: int) -> int:
        """Rows of the embedding for a tokenizer of so many ids: as `model.config` says, else
        rounded up."""
        return self.model.config.get("vocab_size", round_up_vocabulary(ids))

    def accumulation(self, sizes: GroupSizes) -> int:
        """Micro-batches per data rank and step, after `batch.ramp`: global = data ranks x micro x
        accumulation."""
        return self.global_batch_sequences // (sizes.data * self.batch.micro_batch_sequences)

    def tokens_per_pass(self, sizes: GroupSizes) -> int:
        """Tokens of one micro-batch on every data rank; each global batch is a multiple of it."""
        sequences = sizes.data * self.batch.micro_batch_sequences
        return sequences * self.data.sequence_length

    def indivisible_batches(self, sizes: GroupSizes) -> Sequence[tuple[str, int]]:
        """Those of `batch_sizes` that are no whole number of micro-batches on every data rank."""
        per_pass = self.tokens_per_pass(sizes)
        return [(setting, tokens) for setting, tokens in self.batch_sizes if tokens % per_pass]


def round_up_vocabulary(ids: int) -> int:
    """Return the next multiple of VOCAB_MULTIPLE."""
    return -(-ids // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
