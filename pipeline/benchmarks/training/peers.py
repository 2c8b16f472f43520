"""The same training in what others would use: DeepSpeed alone, accelerate, transformers' Trainer.

Each is written as its own documentation shows it, with transformers' model and that model's own loss,
a batch that is ready in memory, and one reading of the loss a step. `PEERS` names them. The rank's
variables must be in the environment.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from deepspeed import DeepSpeedEngine
from torch import nn

from pipeline.benchmarks.training.side_names import ACCELERATE, DEEPSPEED, TRAINER
from pipeline.benchmarks.training.step_parts import BACKWARD, FORWARD, UPDATE, TimedFunction
from pipeline.config.groups import group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_config import read_template, zero_stage
from pipeline.errors import UserError
from pipeline.model.architecture import model_config
from pipeline.model.construction import build_model

Mark = Callable[[], None]
"""Called after every step."""
CLIPPED_AT = 1.0
"""Maximum gradient norm."""
BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1


@dataclass(frozen=True)
class PeerInputs:
    """What every peer trains: the model, rows of tokens, and DeepSpeed's config."""

    model: Any
    """A causal language model of transformers."""
    rows: torch.Tensor
    """`(samples of a step, length) int64`; every step takes the same."""
    micro_batch: int
    """Sequences of a micro-batch."""
    accumulation: int
    """Micro-batches of a step."""
    learning_rate: float
    deepspeed: Mapping[str, Any]
    """The template, with batch and clipping: what a user of it would write."""

    @property
    def micro_batches(self) -> Sequence[torch.Tensor]:
        """The micro-batches of a step, each `(micro_batch, length)`."""
        return self.rows.split(self.micro_batch)

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW, without weight decay on vectors."""
        return adamw(self.model, self.learning_rate)


def adamw(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Return a model's fused AdamW, without weight decay on vectors."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, fused=True)


def peer_inputs(config: RunConfig, learning_rate: float) -> PeerInputs:
    """Return what peers train for a run's settings."""
    architecture = model_config(config)
    samples = config.global_batch_sequences
    micro_batch = config.batch.micro_batch_sequences
    accumulation = config.accumulation(group_sizes(1))
    batch = {
        "train_batch_size": samples,
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": CLIPPED_AT,
        "steps_per_print": 2**31 - 1,
    }
    model = build_model(config, architecture)
    model.train()
    return PeerInputs(
        model=model,
        rows=torch.randint(1, architecture.vocab_size, (samples, config.data.sequence_length)),
        micro_batch=micro_batch,
        accumulation=accumulation,
        learning_rate=learning_rate,
        deepspeed={**read_template(config.deepspeed), **batch},
    )


def check_stage(engine: object, inputs: PeerInputs) -> None:
    """Raise UserError unless it is DeepSpeed's engine, and at the template's ZeRO stage.

    Where their settings rule DeepSpeed out, accelerate and the Trainer use something else, and do
    not say so.
    """
    wanted = zero_stage(inputs.deepspeed)
    if not isinstance(engine, DeepSpeedEngine) or engine.zero_optimization_stage() != wanted:
        raise UserError(
            f"benchmark: a peer was to train with DeepSpeed at ZeRO stage {wanted}, but its model "
            f"is a {type(engine).__name__}; report this with the versions of its library"
        )


def train_deepspeed(inputs: PeerInputs, steps: int, mark: Mark) -> float:
    """Train with DeepSpeed's engine alone; return the last step's loss."""
    import deepspeed

    initialised: Any = deepspeed.initialize(
        model=inputs.model, optimizer=inputs.optimizer(), config=dict(inputs.deepspeed)
    )
    engine = initialised[0]
    check_stage(engine, inputs)
    loss = 0.0
    for _ in range(steps):
        total = torch.zeros(())
        for ids in inputs.micro_batches:
            output = engine(input_ids=ids, labels=ids, use_cache=False)
            engine.backward(output.loss)
            engine.step()
            total += output.loss.detach()
        loss = total.item() / inputs.accumulation
        mark()
    return loss


def train_accelerate(inputs: PeerInputs, steps: int, mark: Mark) -> float:
    """Train with accelerate over DeepSpeed; return the last step's loss."""
    from accelerate import Accelerator
    from accelerate.utils import DeepSpeedPlugin
    from torch.utils.data import DataLoader

    # Prepare everything that is trained with.
    accelerator = Accelerator(
        gradient_accumulation_steps=inputs.accumulation,
        deepspeed_plugin=DeepSpeedPlugin(
            hf_ds_config=dict(inputs.deepspeed),
            gradient_accumulation_steps=inputs.accumulation,
            gradient_clipping=CLIPPED_AT,
        ),
    )
    batches: Any = DataLoader(inputs.rows, batch_size=inputs.micro_batch)  # pyright: ignore[reportArgumentType]
    prepared: Any = accelerator.prepare(inputs.model, inputs.optimizer(), batches)
    model, optimizer, batches = prepared
    check_stage(model, inputs)

    # Train.
    loss = 0.0
    for _ in range(steps):
        total = torch.zeros(())
        for ids in batches:
            with accelerator.accumulate(model):
                output = model(input_ids=ids, labels=ids, use_cache=False)
                accelerator.backward(output.loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), CLIPPED_AT)
                optimizer.step()
                optimizer.zero_grad()
            total += output.loss.detach()
        loss = total.item() / inputs.accumulation
        mark()
    return loss


def train_trainer(inputs: PeerInputs, steps: int, mark: Mark) -> float:
    """Train with transformers' Trainer over DeepSpeed; return the last step's loss.

    It neither saves nor evaluates. It reads the loss of every step, which goes nowhere.
    """
    import tempfile

    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    class Marks(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            mark()

    # Its settings.
    rows = [{"input_ids": row, "labels": row} for row in inputs.rows]
    with tempfile.TemporaryDirectory(prefix="pipeline-benchmark-") as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=inputs.micro_batch,
            gradient_accumulation_steps=inputs.accumulation,
            learning_rate=inputs.learning_rate,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            weight_decay=WEIGHT_DECAY,
            adam_beta1=BETAS[0],
            adam_beta2=BETAS[1],
            max_grad_norm=CLIPPED_AT,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            eval_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            use_cpu=True,
            deepspeed=dict(inputs.deepspeed),
        )

        # Train.
        dataset: Any = rows
        trainer = Trainer(
            model=inputs.model, args=arguments, train_dataset=dataset, callbacks=[Marks()]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        check_stage(trainer.model_wrapped, inputs)
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return logged[-1]


def functions_of_engines() -> list[TimedFunction]:
    """Return the parts of a step with DeepSpeed's engine, ours among them."""
    return [
        TimedFunction(FORWARD, DeepSpeedEngine, "forward"),
        TimedFunction(BACKWARD, DeepSpeedEngine, "backward"),
        TimedFunction(UPDATE, DeepSpeedEngine, "step"),
    ]


PEERS: Mapping[str, Callable[[PeerInputs, int, Mark], float]] = {
    DEEPSPEED: train_deepspeed,
    ACCELERATE: train_accelerate,
    TRAINER: train_trainer,
}
"""Name of a side -> the function that trains it."""
