"""The sections of a run file that decide what is trained, each with its fields.

The docstring of a field is what `pipeline config --describe` prints.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.config.kinds import (
    MIXTURE_RULES,
    OPTIMIZERS,
    SCHEDULES,
    TOKENIZER_KINDS,
    KindName,
)
from pipeline.config.mixture_rules import MixtureRule
from pipeline.config.shipped_files import RecipeLocation
from pipeline.config.values import ByteCount, Location, Section, TokenCount


class Paths(Section):
    data_dir: Location
    """Folder that many runs may share: documents, tokenizer, tokens."""
    run_dir: Location
    """Folder of this run alone: checkpoints, metrics, export, evaluation, report."""


class TokenizerSection(Section):
    fields_left_out_unused = ("merges", "pattern", "special_tokens")

    recipe: RecipeLocation | None = None
    """YAML file with fields of this section: the name of a shipped recipe, for example
    `sentencepiece-bpe-32k`, or a path, with a slash or a suffix. Fields that the run file sets
    itself win."""
    kind: Annotated[str, KindName(TOKENIZER_KINDS)]
    """How text becomes ids. `pretrained`: the tokenizer in `path`, unchanged.
    `sentencepiece-unigram`: SentencePiece learns the pieces; the exported fast tokenizer assigns
    the ids (`pipeline/tokens/README.md`)."""
    vocab_size: int | None = Field(default=None, ge=258)
    """Size of the vocabulary to train, special tokens included. Not for `pretrained`."""
    end_of_document: str = Field(default="<|endoftext|>", min_length=1)
    """Text of the special token after every document; the export also uses this token as bos, eos
    and padding."""
    normalization: Literal["identity"] = "identity"
    """`identity`: text is encoded as it is, so that decoding returns the same text."""
    split_pattern: Literal["single-digits", "spaces", "gpt2", "cl100k"] = "single-digits"
    """Where text is split first; no token crosses a split. `single-digits`: every digit is a token
    (Touvron et al. 2023, arXiv:2302.13971, section 2.1). SentencePiece also takes `spaces` (digits
    treated like letters). Byte-level also takes `gpt2` (Radford et al. 2019) and `cl100k`
    (tiktoken; numbers of up to three digits)."""
    sample_bytes: ByteCount = Field(default=200_000_000, ge=10_000)
    """Bytes of training text from which the vocabulary is learned. Each source contributes its
    share in `data.mixture`, or without a mixture its share of the text, in documents chosen by
    hash."""
    path: Location | None = None
    """`pretrained` only: a transformers folder, a `tokenizer.json`, a folder with `vocab.json` and
    `merges.txt`, a tiktoken file (with `pattern`), or a SentencePiece `.model`
    (`pipeline/tokens/README.md`)."""
    merges: Location | None = None
    """`pretrained` only: the `merges.txt` that belongs to the `vocab.json` in `path`, where the two
    are not in one folder."""
    pattern: str | None = Field(default=None, min_length=1)
    """`pretrained` only: what cuts text into words before tokens are merged. `gpt2`, `cl100k_base`,
    `o200k_base`, `llama3`, or a regular expression. Required with a tiktoken file, which does not
    hold it; `vocab.json` with `merges.txt` takes `gpt2` by default; no other form takes it."""
    special_tokens: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict[str, int])
    """`pretrained` only, for a tiktoken file or `vocab.json` with `merges.txt`: special tokens with
    their ids, as in `{<|endoftext|>: 100257}`. A tiktoken file holds none. Default: those that were
    published with the file's `pattern`, if it has as many tokens as the published one; else
    `end_of_document` with the next id."""
    max_lost_share: float = Field(default=0.01, ge=0, le=1)
    """`pretrained` only: largest fraction of a source that tokenizing may lose. Counted as lost:
    ids that are the unknown token; letters that decoding does not return (differences in case,
    accents and Unicode form do not count)."""
    compare: tuple[Location, ...] = ()
    """Other tokenizers that the report measures on the same text: folders with a `tokenizer.json`,
    or paths of such files."""


class Tokens(Section):
    encoder: Literal["auto", "reference"] = "auto"
    """`auto`: gigatoken if a check shows that it gives the same ids as the tokenizer, else
    `reference`. `reference`: the library `tokenizers`."""
    parse_special_tokens: bool = False
    """Encode the text of a special token inside a document as that token. Default: as plain
    text."""


class Model(Section):
    architecture: str | None = None
    """Model type of transformers, for example `llama` or `gpt_neox`. Its initial weights are drawn
    from `train.seed`."""
    pretrained: Location | None = None
    """Instead of `architecture`: a transformers folder (config.json, safetensors, tokenizer) whose
    weights are trained further."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Sizes and options, by their names in the transformers config of the architecture.

    `vocab_size` defaults to the tokenizer's, rounded up to a multiple of 128. With `pretrained`
    only options of how the model is run: dropout, `attn_implementation`, positions."""
    scale_residual_init: bool = True
    """Divide the initial weights of the projections into the residual stream by sqrt(2 layers), so
    that the stream's variance does not grow with depth (Radford et al. 2019). `false`: the
    architecture's own rule, which for gpt2 is the same."""
    mup: bool = False
    """Use muP: scale initial weights, learning rate and weight decay of each parameter by width, so
    that a `peak_learning_rate` tuned on a narrow model also suits this one (Yang et al. 2022,
    arXiv:2203.03466; `pipeline/model/README.md`)."""
    mup_base_width: int | None = Field(default=None, ge=1)
    """`mup` only: hidden size of the model on which the learning rate was tuned; at that width
    every muP factor is 1. A narrow tuned model needs a larger `config.initializer_range` than
    0.02."""
    mup_base_head_dim: int | None = Field(default=None, ge=1)
    """`mup` only: width of an attention head in the tuned model. Default: the width in this model,
    so that a wider model has more heads, not wider ones."""


Weights = dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class Proportions(Section):
    mixture: Weights | None = None
    """Weight of each source, by its name; the weights are normalised. A run file may instead give
    the name of a file in `pipeline/config/presets/mixtures`.

    Default: in proportion to the training tokens of the sources (one epoch of each)."""
    epochs: Weights | None = None
    """Instead of `mixture`: epochs of each source, by its name. Its weight is this number times its
    tokens. Only the proportions count: `train.train_tokens` sets the length of the run, and with
    it the epochs that are actually trained."""

    @property
    def stated(self) -> dict[str, Weights]:
        """Numbers that the run file states, by the name of their rule in `MIXTURE_RULES`.

        A checked run file states those of one rule, or none.
        """
        fields: dict[str, Weights | None] = {
            rule: getattr(self, rule) for rule in MIXTURE_RULES.paths
        }
        return {rule: numbers for rule, numbers in fields.items() if numbers is not None}

    def weights(self, sizes: Mapping[str, float]) -> dict[str, float]:
        """Return the weights of the sources in `sizes` (sequences, tokens or bytes)."""
        for name, numbers in self.stated.items():
            rule: MixtureRule = MIXTURE_RULES[name]
            return rule.weights(numbers, sizes)
        return dict(sizes)


class DataStage(Proportions):
    from_progress: float = Field(ge=0, lt=1)
    """Fraction of the run's samples at which this entry takes effect; it ends where the next entry
    begins."""


class LengthStep(Section):
    until_tokens: TokenCount = Field(ge=1)
    """Tokens of the run at which this entry ends. It begins where the entry above ends, the first
    one at 0, and covers the steps that start in between."""
    sequence_length: int = Field(ge=2)
    """Tokens per sequence in those steps; must divide `data.sequence_length`."""


class SmallSample(Section):
    """Few training sequences that a run reads again and again, with wrong targets among them."""

    train_sequences: int = Field(ge=1)
    """Maximum number of training sequences of each source, evenly spread over it; every seed has the
    same ones."""
    label_noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training targets that are replaced by a uniformly random other id, the same one in
    every epoch: a function of `train.seed` and of the target's place in the text. Inputs and held-out
    text are left as they are."""


class Data(Proportions):
    fields_left_out_unused = ("small_sample",)

    sequence_length: int = Field(ge=2)
    """Tokens in a sequence: the model's context, and the targets that it predicts in one pass."""
    length_ramp: tuple[LengthStep, ...] = ()
    """Shorter sequences at first (Li et al. 2022, arXiv:2108.06084). The samples and their order do
    not change: each is cut into several sequences, and a batch holds as many tokens as before.
    Validation always uses the full length."""
    stages: tuple[DataStage, ...] = ()
    """Other proportions of the sources from a given progress on, for example better data for the
    last tenth (annealing). A stage that begins at 0 replaces `mixture` and `epochs`."""
    packing: Literal["concatenate", "best-fit"] = "concatenate"
    """`concatenate`: cut the concatenated documents into sequences (Brown et al. 2020, appendix B).
    `best-fit`: pack whole documents into sequences; only a document longer than a sequence is cut
    (Ding et al. 2024, arXiv:2404.10830)."""
    shuffle: Literal["full", "block"] = "full"
    """`full`: a sequence may be anywhere in its epoch. `block`: shuffle blocks of 1 MB, and mix
    sequences within windows of 16 blocks, for file systems that are slow at small reads
    (`pipeline/sampling/README.md`)."""
    document_mask: bool = False
    """Documents in the same sequence do not attend to each other; positions restart at 0 in
    each."""
    loss_after_end_of_document: bool = True
    """`concatenate` only: also predict the first token of a document from the end of the previous
    document."""
    validation_sequences: int = Field(default=64, ge=1)
    """Maximum number of held-out sequences per source; every validation uses the same ones."""
    skipped_samples: tuple[
        tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]], ...
    ] = ()
    """Ranges `[first, end)` of samples to skip. With the ranges in the `rollback` events of another
    run, this run reads the same samples as that run did in the end."""
    small_sample: SmallSample | None = None
    """Only for studies of generalisation (`pipeline study`, kind `width`): train on few sequences, with
    wrong targets among them, and measure loss and error of next-token prediction on them and on
    held-out text. Default: all training text, as it is."""

    @property
    def packs_documents(self) -> bool:
        """Whether rows hold whole documents, by the index that the stage `pack` writes."""
        return self.packing == "best-fit"


class LearningRateScaling(Section):
    rule: Literal["linear", "square-root"]
    """Multiply `peak_learning_rate` by K (`linear`: Goyal et al. 2017, arXiv:1706.02677) or by
    sqrt(K) (`square-root`: Krizhevsky 2014, arXiv:1404.5997; for Adam Malladi et al. 2022,
    arXiv:2205.10287). K = `batch.global_batch_tokens` / `reference_batch_tokens`."""
    reference_batch_tokens: TokenCount = Field(ge=1)
    """Tokens of the global batch with which `peak_learning_rate` was tuned."""


class Optimizer(Section):
    kind: Annotated[str, KindName(OPTIMIZERS)] = "muon"
    """`muon`: orthogonalised momentum for the hidden matrices (Jordan et al. 2024), AdamW for
    embeddings, head and vectors. `adamw`: AdamW for all parameters."""
    peak_learning_rate: float = Field(gt=0)
    """Maximum learning rate, reached at the end of the warm-up; AdamW and Muon use the same one."""
    learning_rate_scaling: LearningRateScaling | None = None
    """Scale `peak_learning_rate` when the global batch differs from the one with which it was
    tuned. Default: no scaling."""
    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    """Decay of Muon's momentum (Nesterov)."""
    muon_update_rms: float = Field(default=0.05, gt=0)
    """Root mean square of the entries of Muon's update at a learning rate of 1. For AdamW it is
    about 0.2 (Liu et al. 2025, arXiv:2502.16982, section 2.2), so with 0.2 a learning rate tuned
    for AdamW also suits Muon. With less, embeddings and head, which AdamW updates, learn faster
    than the matrices; 0.05 was the best value tried (`pipeline/engine/README.md`)."""
    adamw_kernel: Literal["torch", "deepspeed"] = "torch"
    """Fused AdamW of torch, or of DeepSpeed, which compiles it once. Optimizer states in host
    memory always use DeepSpeed's AdamW for CPUs. Changes the speed, and the result only by
    rounding."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of AdamW's first moment."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of AdamW's second moment (Brown et al. 2020, appendix B)."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the square root of AdamW's second moment."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of matrices; vectors (norms, biases) have none (Brown et al. 2020,
    appendix B)."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Global gradient norm above which gradients are scaled down (Brown et al. 2020, appendix
    B)."""
    z_loss_weight: float = Field(default=0.0, ge=0)
    """Weight of the z-loss, log(Z)^2 of each target, where Z is the sum of exp(logit) over the
    vocabulary. It keeps logits from drifting; 1e-4 is usual (Chowdhery et al. 2022, section 5). The
    logged loss does not include it."""


class Schedule(Section):
    kind: Annotated[str, KindName(SCHEDULES)] = "linear"
    """Learning rate after the warm-up. `linear` (to zero: Bergsma et al. 2025, arXiv:2502.15938) or
    `cosine`: falls until the end of the run. `wsd`: stable, then a decay (Hu et al. 2024,
    arXiv:2404.06395). `inverse-square-root`: of the tokens (Vaswani et al. 2017,
    arXiv:1706.03762). `constant`."""
    warmup_tokens: TokenCount = Field(ge=0)
    """Tokens over which the learning rate rises linearly from zero to the peak."""
    decay_tokens: TokenCount | None = Field(default=None, ge=0)
    """`wsd` only: tokens of the decay at the end of the run."""
    decay_shape: Literal["one-minus-sqrt", "linear"] = "one-minus-sqrt"
    """`wsd` only. `one-minus-sqrt`: fall by the square root of the decay's progress (Hägele et al.
    2024, arXiv:2405.18392). `linear`: fall linearly."""
    final_learning_rate_fraction: float = Field(default=0.0, ge=0, le=1)
    """Learning rate at the end, as a fraction of the peak; `cosine`, `wsd` and `linear` only."""


class BatchStep(Section):
    until_tokens: TokenCount = Field(ge=1)
    """Tokens of the run at which this entry ends. It begins where the entry above ends, the first
    one at 0, and covers the steps that start in between."""
    global_batch_tokens: TokenCount = Field(ge=1)
    """Tokens in each of those steps, over all ranks; a multiple of `data.sequence_length`."""


class Batch(Section):
    global_batch_tokens: TokenCount = Field(ge=1)
    """Tokens in one optimizer step, over all ranks; a multiple of `data.sequence_length`."""
    ramp: tuple[BatchStep, ...] = ()
    """Other global batches at first, usually smaller ones (Brown et al. 2020, appendix B), in
    ascending order of `until_tokens`; after the last entry, `global_batch_tokens`. The order of the
    samples does not change."""
    micro_batch_sequences: int = Field(ge=1)
    """Sequences in one forward and backward pass of one rank. Changes memory and speed, not the
    result."""


class Precision(Section):
    dtype: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Number format of the forward and backward pass. Master weights and moments are always
    fp32."""


class Train(Section):
    train_tokens: TokenCount = Field(ge=1)
    """Length of the run in tokens, rounded up to whole steps."""
    seed: int = Field(default=1, ge=0)
    """Seed of the initial weights, the order of the data and dropout."""
    resume: Literal["auto", "never", "required"] = "auto"
    """`auto`: resume from the newest intact checkpoint, if there is one. `never`: stop with an
    error if there is one. `required`: stop with an error if there is none."""
    init_from: Location | None = None
    """Checkpoint of another run from which this run starts: `RUN@STEP`, or `RUN` for its newest
    one, where RUN is the folder of that run. Read only while this run has no checkpoint of its own."""
    init_take: Literal["weights", "everything"] = "weights"
    """What to take from `init_from`. `weights`: start a new run from those weights (fp32).
    `everything`: also take optimizer, step and position in the data, and continue that run, with
    another schedule or length."""
    validate_every_steps: int = Field(default=500, ge=1)
    """Steps between measurements of the validation loss; it is also measured at the end."""
    communication_steps: int = Field(default=0, ge=0)
    """Pairs of further steps after the last one, one with the reduction of gradients and one without,
    to measure the share of communication; they change neither weights nor checkpoints. With several
    ranks only. 0: none."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory for about a third more compute."""
    compile: bool = False
    """Compile the layers with torch.compile: the first step takes 10 to 20 s longer, all others are
    faster."""


class Logging(Section):
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Trackers that receive the metrics of each step in addition to `metrics.jsonl`; their files
    are in `run_dir/tensorboard` and `run_dir/wandb`."""
    project: str = Field(default="pipeline", min_length=1)
    """W&B only: project of the run."""
    wandb_mode: Literal["offline", "online"] = "offline"
    """W&B only. `offline`: write files that `wandb sync` uploads later. `online`: upload while
    training."""
