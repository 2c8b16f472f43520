"""Check the model of a run file, in a process of its own, by building it on torch's meta device.

`work/separate_checks.py` starts this module. Reads the settings from standard input, writes the
verdict to standard output. Allocates nothing and needs no data; the ranks would find the same
problems, but only after the stages that make the data.
"""

from dataclasses import asdict

from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import logging

from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.model.architecture import library_message, model_config
from pipeline.model.experts import expert_modules
from pipeline.model.model_rules import ATTENTION
from pipeline.model.objective import objective_problems
from pipeline.model.parametrisation import scalings
from pipeline.model.shape import model_shape
from pipeline.model.sizes import (
    build_on_meta,
    count_built_parameters,
    model_size,
    moment_bytes,
)
from pipeline.model.vocabulary import expected_vocabulary
from pipeline.store.records import Json
from pipeline.work.separate_checks import serve_separate_check


def check_model_settings(config: RunConfig) -> dict[str, Json]:
    """Return the fields of `model_facts.ModelFacts`.

    Raises ConfigError with every problem of the model's settings.
    """
    logging.set_verbosity_error()
    problems = _attention_problems(config)
    if problems:
        raise ConfigError(problems)
    architecture = model_config(config, expected_vocabulary(config))
    model = _build(config, architecture)
    problems = objective_problems(config, architecture, model)
    if problems:
        raise ConfigError(problems)
    scalings(config, model)  # refuses settings that the architecture cannot follow
    sizes = count_built_parameters(model)
    return {
        "parameters": sizes.total,
        "embedding_parameters": sizes.embedding,
        "one_dimensional_parameters": sizes.one_dimensional,
        "active_parameters": sizes.active,
        "is_mixture": bool(expert_modules(model)),
        "size": asdict(model_size(architecture, sizes)),
        "shape": asdict(model_shape(architecture, sizes.total)),
        "moment_bytes": moment_bytes(config, sizes),
        "positions": getattr(architecture, "max_position_embeddings", None),
    }


def _build(config: RunConfig, architecture: PretrainedConfig) -> PreTrainedModel:
    """Build the model on the meta device. Raises ConfigError where transformers cannot."""
    try:
        return build_on_meta(architecture)
    except Exception as error:  # whatever the modelling code raises: no user can read its traceback
        setting = "pretrained" if config.model.pretrained else "config"
        raise ConfigError(
            [
                f"model.{setting}: transformers cannot build this {architecture.model_type} "
                f"({library_message(error)})"
            ]
        ) from None


def _attention_problems(config: RunConfig) -> list[str]:
    """Refuse an attention implementation that transformers does not have.

    Whether its library is installed matters only on the machine that trains.
    """
    asked = config.model.config.get(ATTENTION)
    flash = [f"flash_attention_{version}" for version in (2, 3, 4)]
    names = sorted({"eager", *ALL_ATTENTION_FUNCTIONS, *flash})
    if asked is None or asked in names:
        return []
    return [
        f"model.config.{ATTENTION} = {asked!r}: transformers has {', '.join(names)}; or leave it "
        "out"
    ]


if __name__ == "__main__":
    serve_separate_check(check_model_settings)
