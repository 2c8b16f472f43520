"""The sections of a run file, each with its fields: typed, frozen, unknown keys refused."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.config.kinds import OPTIMIZERS, SCHEDULES, SOURCE_KINDS, TOKENIZER_KINDS, KindName
from pipeline.config.shipped_files import RecipeLocation
from pipeline.config.values import ByteCount, Location, Section, TokenCount


class Paths(Section):
    data_dir: Location
    """Folder of what many runs share: documents, tokenizer, tokens."""
    run_dir: Location
    """Folder of this one run: checkpoints, metrics, export, evaluation, report."""


class Source(Section):
    kind: Annotated[str, KindName(SOURCE_KINDS)]
    """`jsonl` (also .gz, .zst, .xz, .bz2), `parquet`, `text` (one document a file), or
    `local-machine` (text of this Python).

    `megatron`: token ids that exist already, as pairs of `.bin` and `.idx` files made by
    `tokenizer.path`."""
    paths: tuple[Location, ...] = ()
    """Files, globs, or folders (searched recursively). Not for `local-machine`. `megatron`: also a
    pair's prefix."""
    validation_paths: tuple[Location, ...] = ()
    """`megatron` only: the pairs that are held out, named like `paths`."""
    text_field: str = "text"
    """Name of the JSON key or Parquet column that holds the document."""
    split_by: str = "text"
    """What is hashed to choose train or validation: `text`, or a key of `meta` whose documents must
    stay together."""
    line_ends: Literal["lf", "as-they-are"] | None = None
    """`text` only: `lf`, the default, makes CRLF LF. A CR alone stays, and what JSON or Parquet
    holds is never changed."""
    slice: Literal["code", "readmes", "reference"] | None = None
    """`local-machine` only: standard-library sources, READMEs of installed distributions,
    docstrings, help topics."""

    @property
    def has_documents(self) -> bool:
        """Whether there is text: not where ids exist already."""
        return SOURCE_KINDS[self.kind].has_documents


class Prepare(Section):
    validation_fraction: float = Field(default=0.005, ge=0, lt=0.5)
    """Share of documents held out for validation, chosen by hash."""
    max_bad_rows: float = Field(default=0.01, ge=0, le=1)
    """Largest share of rejected rows in a source before the stage fails."""
    on_broken_file: Literal["stop", "keep-readable-rows"] = "stop"
    """A truncated or unreadable file stops the stage after the other files, or gives the rows
    before the break."""
    shard_text_bytes: ByteCount = Field(default=128 * 2**20, ge=1)
    """Bytes of text after which a new Parquet shard is begun."""


class Tokenizer(Section):
    recipe: RecipeLocation | None = None
    """YAML file with the fields of this section: the name of a shipped one, for example
    `sentencepiece-bpe-32k`, or a path, with a slash or a suffix. What the run file sets itself
    wins."""
    kind: Annotated[str, KindName(TOKENIZER_KINDS)]
    """How ids are made. `pretrained` takes the tokenizer in `path` as it is; of
    `sentencepiece-unigram`, SentencePiece learns the pieces, and the ids are those of the exported
    fast tokenizer (`pipeline/tokens/README.md`)."""
    vocab_size: int | None = Field(default=None, ge=258)
    """Number of ids to train, special tokens included. Not for `pretrained`."""
    end_of_document: str = Field(default="<|endoftext|>", min_length=1)
    """Text of the special token that follows every document; also the export's bos, eos and padding
    token."""
    normalization: Literal["identity"] = "identity"
    """Nothing is rewritten before encoding, so that decoding gives the text back."""
    split_pattern: Literal["single-digits", "spaces", "gpt2", "cl100k"] = "single-digits"
    """What no token reaches across. `single-digits`: every digit is its own token (Touvron et al.
    2023, arXiv:2302.13971, section 2.1). SentencePiece also: `spaces`, digits like letters.
    Byte-level also: `gpt2` (Radford et al. 2019), `cl100k` (tiktoken; numbers up to three
    digits)."""
    sample_bytes: ByteCount = Field(default=200_000_000, ge=10_000)
    """Bytes of training text that the vocabulary is learned from: of each source its share in
    `data.mixture`, else of the text, in documents chosen by hash."""
    path: Location | None = None
    """`pretrained` only: a transformers folder, a `tokenizer.json`, or a SentencePiece BPE
    `.model`."""
    max_lost_share: float = Field(default=0.01, ge=0, le=1)
    """`pretrained` only: largest share of a source that may be lost: of its ids, those of the
    unknown token; of its letters, those that decoding does not give back (whatever their case,
    accents and Unicode form)."""
    compare: tuple[Location, ...] = ()
    """Further tokenizers that the report measures on the same text: folders with `tokenizer.json`,
    or such files."""


class Tokens(Section):
    encoder: Literal["auto", "reference"] = "auto"
    """`auto`: gigatoken where it was proven to give the tokenizer's own ids, else `reference`:
    `tokenizers`."""
    parse_special_tokens: bool = False
    """Text of a special token within a document becomes that token. By default it stays text."""


class Model(Section):
    architecture: str | None = None
    """Model type of transformers, for example `llama` or `gpt_neox`; its weights are drawn by
    `train.seed`."""
    pretrained: Location | None = None
    """In the place of `architecture`: a transformers folder (config.json, safetensors, tokenizer)
    to train on."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Sizes and options as that architecture's transformers config names them.

    `vocab_size` defaults to the tokenizer's, rounded up to 128. With `pretrained` only how it is
    run: dropout, `attn_implementation`, positions."""
    scale_residual_init: bool = True
    """Begin with the projections that write into the residual stream smaller by sqrt(2 layers), so
    that its variance does not grow with depth (Radford et al. 2019). `false`: the architecture's
    own rule, which in gpt2 is the same."""
    mup: bool = False
    """Scale initial weights, learning rates and weight decay of each parameter by width, so that a
    `peak_learning_rate` tuned on a narrow model holds for this one (Yang et al. 2022,
    arXiv:2203.03466; `pipeline/model/README.md`)."""
    mup_base_width: int | None = Field(default=None, ge=1)
    """With `mup`: hidden size of the model on which the learning rate was tuned. There, every
    factor is 1. A narrow one wants a larger `config.initializer_range` than 0.02."""
    mup_base_head_dim: int | None = Field(default=None, ge=1)
    """With `mup`: width of an attention head in that model. Default: as here, where wider means
    more heads."""


Weights = dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class Proportions(Section):
    mixture: Weights | None = None
    """Source -> weight; normalised. In a run file also the name of a file in
    `pipeline/config/presets/mixtures`.

    Default: in proportion to the sources' training tokens (one epoch of each)."""
    epochs: Weights | None = None
    """In the place of `mixture`: source -> how often it is to be seen. Weights are these times its
    tokens; how long the run is, and so how often each is really seen, says `train.train_tokens`."""

    def weights(self, sizes: Mapping[str, float]) -> dict[str, float]:
        """Return the weight of each source that has a size, in sequences, tokens or bytes."""
        if self.epochs is not None:
            return {name: self.epochs[name] * size for name, size in sizes.items()}
        return {
            name: self.mixture[name] if self.mixture is not None else size
            for name, size in sizes.items()
        }


class DataStage(Proportions):
    from_progress: float = Field(ge=0, lt=1)
    """Fraction of the run's samples after which this holds, until the next one."""


class LengthStep(Section):
    until_tokens: TokenCount = Field(ge=1)
    """A step that begins before so many tokens of the run, and not before those of the entry above,
    is of this length."""
    sequence_length: int = Field(ge=2)
    """Tokens that the model sees at once; divides `data.sequence_length`."""


class Data(Proportions):
    sequence_length: int = Field(ge=2)
    """Tokens that the model sees at once, and predicts."""
    length_ramp: tuple[LengthStep, ...] = ()
    """Shorter sequences at first (Li et al. 2022, arXiv:2108.06084): the same sequences in the same
    order, each cut into several, in as large a batch. Validation stays at the full length."""
    stages: tuple[DataStage, ...] = ()
    """Other proportions from some progress on, for example better data for the last tenth
    (annealing). One from 0 on takes the place of `mixture` or `epochs`."""
    packing: Literal["concatenate", "best-fit"] = "concatenate"
    """`concatenate`: windows over the stream of documents (Brown et al. 2020, appendix B).
    `best-fit`: whole documents, cut only where they are longer than a sequence, packed into
    sequences (Ding et al. 2024, arXiv:2404.10830)."""
    shuffle: Literal["full", "block"] = "full"
    """`full`: any sequence may come anywhere in an epoch. `block`: blocks of 1 MB, mixed within a
    window of 16, for file systems that are slow at small reads (`pipeline/sampling/README.md`)."""
    document_mask: bool = False
    """Documents in one sequence do not attend to each other, and their positions count from 0."""
    loss_after_end_of_document: bool = True
    """With `concatenate`, predict a document's first token from the end of the one before it."""
    validation_sequences: int = Field(default=64, ge=1)
    """Held-out sequences per source at most, the same ones at every validation."""
    skipped_samples: tuple[
        tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]], ...
    ] = ()
    """Samples `[first, end)` that are not read: those of another run's `rollback` events, to repeat
    what it became."""


class LearningRateScaling(Section):
    rule: Literal["linear", "square-root"]
    """Peak x K (Goyal et al. 2017, arXiv:1706.02677), or x sqrt(K) (Krizhevsky 2014,
    arXiv:1404.5997; for Adam Malladi et al. 2022, arXiv:2205.10287). K =
    `batch.global_batch_tokens`, after its ramp, / `reference_batch_tokens`."""
    reference_batch_tokens: TokenCount = Field(ge=1)
    """The batch for which `peak_learning_rate` was found."""


class Optimizer(Section):
    kind: Annotated[str, KindName(OPTIMIZERS)] = "muon"
    """`muon`: orthogonalised momentum for the hidden matrices (Jordan et al. 2024), AdamW for
    embeddings, head and vectors; `adamw` for all."""
    peak_learning_rate: float = Field(gt=0)
    """Learning rate after warm-up, of AdamW and Muon."""
    learning_rate_scaling: LearningRateScaling | None = None
    """For another batch than that for which the peak was found. Default: the peak as it stands."""
    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    """Decay of Muon's momentum, which is Nesterov's."""
    muon_update_rms: float = Field(default=0.05, gt=0)
    """Root mean square of the entries of Muon's update at a learning rate of 1. AdamW's is about
    0.2 (Liu et al. 2025, arXiv:2502.16982, section 2.2): with 0.2 a rate tuned for AdamW can be
    taken over. Less lets embeddings and head, which AdamW updates, learn faster than the matrices;
    0.05 was best of those tried (`pipeline/engine/README.md`)."""
    adamw_kernel: Literal["torch", "deepspeed"] = "torch"
    """Fused AdamW of torch or of DeepSpeed, which builds it once. Optimizer states in host memory
    take DeepSpeed's own for CPUs. Changes the speed, the result only by rounding."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of AdamW's first moment."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of AdamW's second moment (Brown et al. 2020, appendix B)."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the root of the second moment."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of matrices; vectors (norms, biases) get none (Brown et al. 2020,
    appendix B)."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Global gradient norm above which gradients are scaled down (Brown et al. 2020, appendix
    B)."""
    z_loss_weight: float = Field(default=0.0, ge=0)
    """Added to each target's loss: this times log(Z)^2, Z the sum of the exponentials of its
    logits, which keeps logits from drifting; 1e-4 is usual (Chowdhery et al. 2022, section 5). The
    logged loss is without it."""


class Schedule(Section):
    kind: Annotated[str, KindName(SCHEDULES)] = "linear"
    """After the warm-up: `linear` (to zero: Bergsma et al. 2025, arXiv:2502.15938) or `cosine` to
    the end of the run; `wsd`: stable, then a decay (Hu et al. 2024, arXiv:2404.06395);
    `inverse-square-root` of the tokens (Vaswani et al. 2017, arXiv:1706.03762); `constant`."""
    warmup_tokens: TokenCount = Field(ge=0)
    """Tokens of linear warm-up from zero."""
    decay_tokens: TokenCount | None = Field(default=None, ge=0)
    """`wsd` only: tokens of the final decay."""
    decay_shape: Literal["one-minus-sqrt", "linear"] = "one-minus-sqrt"
    """`wsd` only: fall by the square root of the decay's progress (Hägele et al. 2024,
    arXiv:2405.18392), or in a line."""
    final_learning_rate_fraction: float = Field(default=0.0, ge=0, le=1)
    """Learning rate at the end, as a fraction of the peak; `cosine`, `wsd` and `linear` only."""


class BatchStep(Section):
    until_tokens: TokenCount = Field(ge=1)
    """A step that begins before so many tokens of the run, and not before those of the entry above,
    is of this size."""
    global_batch_tokens: TokenCount = Field(ge=1)
    """Tokens in one optimizer step, over all ranks; a multiple of `data.sequence_length`."""


class Batch(Section):
    global_batch_tokens: TokenCount = Field(ge=1)
    """Tokens in one optimizer step, over all ranks; a multiple of `data.sequence_length`."""
    ramp: tuple[BatchStep, ...] = ()
    """Other global batches at first, as a rule smaller ones (Brown et al. 2020, appendix B), in
    ascending order of `until_tokens`; then `global_batch_tokens`. The order of the samples stays
    the same."""
    micro_batch_sequences: int = Field(ge=1)
    """Sequences that one rank puts through the model at once. Changes memory and speed, not the
    result."""


class Precision(Section):
    dtype: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Number format of the forward and backward pass; master weights and moments are fp32."""


class Train(Section):
    train_tokens: TokenCount = Field(ge=1)
    """Length of the run; rounded up to whole steps."""
    seed: int = Field(default=1, ge=0)
    """Seed of the initial weights, the order of the data and dropout."""
    resume: Literal["auto", "never", "required"] = "auto"
    """`auto`: go on from the newest intact checkpoint, if any. `never`: stop if there is one.
    `required`: if none."""
    init_from: Location | None = None
    """Another run's folder, `RUN@STEP` or `RUN` for its newest checkpoint: where this run begins
    while it has no checkpoint of its own."""
    init_take: Literal["weights", "everything"] = "weights"
    """`weights`: a new run with those weights (fp32). `everything`: also optimizer, step and place
    in the data, so that it goes on as that run would, with another schedule or length."""
    validate_every_steps: int = Field(default=500, ge=1)
    """Steps between measurements of the held-out loss; also measured at the end."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more compute."""
    compile: bool = False
    """Compile the layers with torch.compile: faster steps after a first one that takes 10 to 20 s
    more."""


class Evaluation(Section):
    tasks: tuple[str, ...] = ("heldout_cloze", "patterns", "arithmetic")
    """Built-in few-shot tasks, or any task of lm-eval found in `task_paths`. Without a source of
    text the default has no `heldout_cloze`."""
    shots: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 5)
    """Numbers of solved examples before each question."""
    items: int = Field(default=200, ge=1)
    """Questions per task at most."""
    heldout_bytes: ByteCount = Field(default=50_000, ge=0)
    """Bytes of held-out text per source, at most, for bits per byte."""
    task_paths: tuple[Location, ...] = ()
    """Folders with further lm-eval task files."""
    batch_sequences: int = Field(default=16, ge=1)
    """Sequences that the model scores at once; kept with the scores, which can move with it by
    rounding."""
    prompt: str = "The "
    """Text that the exported model continues, as a first look."""
    require_gain_over_unigram: float | None = None
    """`pipeline run` fails unless the validation loss is this fraction below the unigram entropy of
    the same tokens."""
    require_cloze_standard_errors: float | None = None
    """`pipeline run` fails unless held-out cloze at k=0 (acc_mutual_info) is this many standard
    errors above chance."""


class Logging(Section):
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where each step's figures also go, beside `metrics.jsonl`: `run_dir/tensorboard`,
    `run_dir/wandb`."""
    project: str = Field(default="pipeline", min_length=1)
    """W&B only: the project that the run belongs to."""
    wandb_mode: Literal["offline", "online"] = "offline"
    """`offline`: files that `wandb sync` uploads later. `online`: uploaded while training."""
