"""The curve of random features on the tokens of a run's own data. Reads its token files."""

from pipeline.config.run_config import RunConfig
from pipeline.errors import RequirementError
from pipeline.planning.double_descent.context_labels import ContextTask, context_task
from pipeline.sampling.stream import open_streams
from pipeline.store.layout import data_folder

VOCABULARY = 8
CONTEXT = 4
TOKENS_OF_SOURCE = 1_000_000
"""Tokens of each source that are read, its first ones."""
LEAST_CONTEXTS_PER_SAMPLE = 2
"""With fewer contexts than twice the samples, too few are left to test on."""


def own_context_task(config: RunConfig, samples: int) -> ContextTask:
    """Return the task of a run's training tokens, for so many samples.

    Raises DataError where the tokens are missing, RequirementError where they have too few different
    contexts.
    """
    streams = open_streams(data_folder(config).tokens, list(config.sources), "train")
    ids = [stream.read(0, min(len(stream), TOKENS_OF_SOURCE)) for stream in streams.values()]
    task = context_task(ids, VOCABULARY, CONTEXT)
    least = LEAST_CONTEXTS_PER_SAMPLE * samples
    if len(task.contexts) < least:
        raise RequirementError(
            f"random features: the {VOCABULARY} most frequent ids of the training text make "
            f"{len(task.contexts)} different contexts of {CONTEXT}, and {samples} samples need at "
            f"least {least}; add text"
        )
    return task
