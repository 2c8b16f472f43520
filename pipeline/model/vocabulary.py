"""The number of token ids, before and after the tokenizer is made. Free of torch."""

from pipeline.config.run_config import RunConfig
from pipeline.sampling.dataset import tokenizer_size
from pipeline.store.layout import data_folder
from pipeline.tokens.forms.tokenizer_form import form_of


def finished_vocabulary(config: RunConfig) -> tuple[int, int]:
    """Return the number of ids and the end-of-document id of the run's finished tokenizer.

    Raises DataError where there is no tokenizer.
    """
    return tokenizer_size(data_folder(config).tokenizer)


def expected_vocabulary(config: RunConfig) -> tuple[int, int]:
    """Return the number of ids that the run's tokenizer will have, and 0 as its end-of-document id.

    The number is `tokenizer.vocab_size`, or that of the pretrained tokenizer. No size depends on
    the end-of-document id, which is not known yet. Raises DataError where a pretrained tokenizer
    cannot be read.
    """
    if config.tokenizer.vocab_size is not None:
        return config.tokenizer.vocab_size, 0
    return form_of(config.tokenizer).expected_ids(config.tokenizer), 0
