"""The facts of a model that nobody builds, as a check writes them."""

from dataclasses import asdict

from pipeline.model.costs import ModelSize
from pipeline.model.model_facts import ModelFacts
from pipeline.model.shape import ModelShape
from pipeline.store.records import Json


def facts_of_no_model(parameters: int = 1, positions: int | None = None) -> dict[str, Json]:
    """Return facts in their JSON form; all but the arguments are small numbers."""
    return asdict(
        ModelFacts(
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
    )
