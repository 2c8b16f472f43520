"""The facts of a model that nobody builds."""

from dataclasses import asdict

from pipeline.model.costs import ModelSize
from pipeline.model.model_facts import ModelFacts
from pipeline.model.shape import ModelShape
from pipeline.store.records import Json


def made_up_facts(parameters: int = 1, positions: int | None = None) -> ModelFacts:
    """Return facts of which all but the arguments are small numbers."""
    return ModelFacts(
        parameters=parameters,
        embedding_parameters=0,
        one_dimensional_parameters=0,
        active_parameters=parameters,
        is_mixture=False,
        size=ModelSize(parameters, 0, layers=1, attention_width=1),
        shape=ModelShape(parameters, 1, 1, 1, 1, 1, 1, False, 1),
        moment_bytes=8.0,
        positions=positions,
    )


def facts_of_no_model(parameters: int = 1, positions: int | None = None) -> dict[str, Json]:
    """Return the same in the JSON form that the check writes."""
    return asdict(made_up_facts(parameters, positions))
