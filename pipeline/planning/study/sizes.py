"""The models of a study, as sections `model` of run files. Pure arithmetic."""

from dataclasses import dataclass

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import read_preset
from pipeline.config.sections import Model
from pipeline.config.study_file import Sizes
from pipeline.errors import ConfigError
from pipeline.store.records import Json

OTHER_NAMES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
}
"""Names of gpt2's config for the names that most architectures use."""
FEED_FORWARD_MULTIPLE = 8
"""Feed-forward widths are multiples of this."""


@dataclass(frozen=True)
class SizedModel:
    """One size of a study."""

    label: str
    """Part of the names of its runs: `w64`, the preset's name, or `base`."""
    model: Model
    peak_learning_rate: float | None
    """The preset's; None where the base's holds."""


def sized_models(base: RunConfig, sizes: Sizes) -> list[SizedModel]:
    """Return the models of a study, in the order of the study file.

    Raises ConfigError where the base has no architecture whose width could change.
    """
    if not sizes.widths and not sizes.presets:
        return [SizedModel("base", base.model, None)]
    if sizes.presets:
        return [_of_preset(base, name) for name in sizes.presets]
    if base.model.architecture is None:
        raise ConfigError(
            [
                "sizes.widths: the base trains given weights (model.pretrained), which have one "
                "width; set model.architecture there"
            ]
        )
    return [_of_width(base, sizes, width) for width in sizes.widths]


def _of_preset(base: RunConfig, name: str) -> SizedModel:
    settings = read_preset(name)
    optimizer = settings.get("optimizer", {})
    return SizedModel(
        label=name,
        model=Model.model_validate(
            {**base.model.model_dump(mode="json"), "pretrained": None, **settings["model"]}
        ),
        peak_learning_rate=optimizer.get("peak_learning_rate"),
    )


def _of_width(base: RunConfig, sizes: Sizes, width: int) -> SizedModel:
    """Return the base's architecture at a width."""
    before = base.model.config
    names = {name: other if other in before else name for name, other in OTHER_NAMES.items()}
    old_width = before.get(names["hidden_size"])
    feed_forward = before.get(names["intermediate_size"])
    heads = width // sizes.head_dim
    layers = sizes.layers or max(1, round(width / sizes.width_per_layer))
    config: dict[str, Json] = {
        **before,
        names["hidden_size"]: width,
        names["num_hidden_layers"]: layers,
        names["num_attention_heads"]: heads,
    }

    # The feed-forward width in proportion, where the base states it.
    if feed_forward and old_width:
        multiples = feed_forward / old_width * width / FEED_FORWARD_MULTIPLE
        config[names["intermediate_size"]] = FEED_FORWARD_MULTIPLE * max(1, round(multiples))

    # Fewer key and value heads in proportion, such that they divide the query heads.
    old_heads = before.get(names["num_attention_heads"])
    key_value = before.get("num_key_value_heads")
    if key_value and old_heads:
        wanted = heads * key_value / old_heads
        divisors = [count for count in range(1, heads + 1) if heads % count == 0]
        config["num_key_value_heads"] = min(divisors, key=lambda count: abs(count - wanted))
    if "head_dim" in before:
        config["head_dim"] = sizes.head_dim
    model = base.model.model_dump(mode="json") | {"config": config}
    return SizedModel(f"w{width}", Model.model_validate(model), None)
