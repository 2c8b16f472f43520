"""The inputs that a training job opens before its ranks meet: architecture, data, held-out text."""

from dataclasses import dataclass, replace

from transformers import PretrainedConfig

from pipeline.config.run_config import RunConfig
from pipeline.model.architecture import model_config
from pipeline.sampling.batches import Batch
from pipeline.sampling.dataset import open_data
from pipeline.sampling.loader import TrainingData
from pipeline.sampling.stream import open_streams
from pipeline.store.layout import data_folder
from pipeline.training.sample_fit import rows_of_sample
from pipeline.training.validation import HeldOut, bytes_of_ids, choose_held_out


@dataclass(frozen=True)
class JobInputs:
    """The opened inputs of a training job."""

    architecture: PretrainedConfig
    data: TrainingData
    held_out: HeldOut
    sample: Batch | None
    """All training rows, with `data.small_sample`."""


def open_inputs(config: RunConfig) -> JobInputs:
    """Open the model's architecture, the training data and the held-out sequences.

    Raises ConfigError where the model's settings do not fit the tokenizer, DataError where token
    files are missing.
    """
    architecture = model_config(config)
    data = open_data(config)
    streams = open_streams(data_folder(config).tokens, list(config.sources), "validation")
    id_bytes = bytes_of_ids(data_folder(config).tokenizer, data.shape.end_of_document)
    right_targets = replace(data.shape, label_noise=None)
    held_out = choose_held_out(streams, right_targets, config.data.validation_sequences, id_bytes)
    sample = None
    if config.data.small_sample is not None:
        sample = rows_of_sample(data)
    return JobInputs(architecture, data, held_out, sample)
