"""How many ids the tokens will have, known from the run file before there is a tokenizer. Free of
torch."""

from pipeline.config.run_config import RunConfig
from pipeline.sampling.dataset import tokenizer_size
from pipeline.store.layout import data_folder
from pipeline.tokens import pretrained


def finished_vocabulary(config: RunConfig) -> tuple[int, int]:
    """Return the number of ids and the end-of-document id of the run's tokenizer. Raises DataError
    where there is none."""
    return tokenizer_size(data_folder(config).tokenizer)


def expected_vocabulary(config: RunConfig) -> tuple[int, int]:
    """Return the same before the tokenizer is made: from `tokenizer.vocab_size`, or of the
    tokenizer that is taken.

    The end-of-document id is then not known and stands at 0, as no size depends on it. Raises
    DataError where a tokenizer that is to be taken cannot be read.
    """
    if config.tokenizer.vocab_size is not None:
        return config.tokenizer.vocab_size, 0
    return pretrained.expected_ids(config), 0
