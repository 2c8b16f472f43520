"""Mixtures of experts: found by what their models are made of, refused unless the run file says
that they are wanted."""

from pathlib import Path
from typing import Any

import pytest
from registry import config_of, names
from torch import nn
from transformers import CONFIG_MAPPING, PretrainedConfig

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.engine.optimizers.parameter_groups import parameter_groups
from pipeline.errors import ConfigError
from pipeline.model.architecture import model_config
from pipeline.model.construction import build_model
from pipeline.model.experts import expert_modules, expert_problems
from pipeline.model.language_model import LanguageModel
from pipeline.model.model_check import check_model_settings
from pipeline.model.objective import objective_problems
from pipeline.model.sizes import build_on_meta
from pipeline.model.small_copy import small_copy

DENSE: dict[str, dict[str, Any]] = {
    "llama": {},
    "doge": {},  # its config has num_experts and router_aux_loss_coef, and is_moe: false
    "granitemoehybrid": {
        "num_local_experts": 0,
        "num_hidden_layers": 2,
        "layer_types": ["attention", "attention"],
    },
    "lfm2": {},
    "gemma3n_text": {
        "num_hidden_layers": 5,
        "num_kv_shared_layers": 0,
    },  # its modality_router mixes no experts
}
MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": {},
    "deepseek_v3": {},
    "jetmoe": {},
    "gpt_oss": {},
    "doge": {"is_moe": True},
}


def small(architecture: str, **settings: Any) -> PretrainedConfig:
    return small_copy(CONFIG_MAPPING[architecture](**settings))


def given(run_file: Path, architecture: str, *overrides: str) -> RunConfig:
    return load(run_file, [f"model.architecture={architecture}", "model.config={}", *overrides])


@pytest.mark.parametrize("architecture", MIXTURES)
def test_a_mixture_of_experts_is_refused(run_file: Path, architecture: str) -> None:
    model = build_on_meta(small(architecture, **MIXTURES[architecture]))
    for kind in ("adamw", "muon"):
        (problem,) = expert_problems(given(run_file, architecture, f"optimizer.kind={kind}"), model)
        assert problem.startswith(f"model.architecture = {architecture}:")


@pytest.mark.parametrize("architecture", DENSE)
def test_a_dense_model_is_not(run_file: Path, architecture: str) -> None:
    model = build_on_meta(
        CONFIG_MAPPING[architecture](**{"num_hidden_layers": 2, **DENSE[architecture]})
    )
    assert expert_problems(given(run_file, architecture, "optimizer.kind=muon"), model) == []


@pytest.mark.parametrize(
    ("architecture", "coefficient"),
    [("mixtral", "router_aux_loss_coef"), ("jetmoe", "aux_loss_coef")],
)
def test_it_can_be_asked_for_without_balancing_and_with_adamw(
    run_file: Path, architecture: str, coefficient: str
) -> None:
    model = build_on_meta(small(architecture))

    def count(kind: str, value: str) -> int:
        overrides = [f"optimizer.kind={kind}", f"model.config={{{coefficient}: {value}}}"]
        return len(expert_problems(given(run_file, architecture, *overrides), model))

    assert [
        count("adamw", "0"),
        count("adamw", "0.0"),
        count("adamw", "0.01"),
        count("muon", "0"),
    ] == [0, 0, 1, 1]


def test_without_a_coefficient_nothing_says_that_it_is_wanted(run_file: Path) -> None:
    model = build_on_meta(small("deepseek_v3"))
    assert len(expert_problems(given(run_file, "deepseek_v3", "optimizer.kind=adamw"), model)) == 1


def test_the_check_before_training_and_the_ranks_refuse(run_file: Path) -> None:
    config, architecture = (
        given(run_file, "mixtral", "model.config={num_hidden_layers: 1}"),
        small("mixtral"),
    )
    with pytest.raises(ConfigError, match=r"model\.architecture = mixtral: "):
        check_model_settings(config)
    with pytest.raises(ConfigError, match=r"model\.architecture = mixtral: "):
        build_model(config, architecture)


def test_one_that_is_wanted_is_built_and_every_parameter_has_adamw(run_file: Path) -> None:
    wanted = ["optimizer.kind=adamw", "model.config={router_aux_loss_coef: 0}"]
    config, architecture = given(run_file, "mixtral", *wanted), small("mixtral")
    assert objective_problems(config, architecture, build_on_meta(architecture)) == []
    model = build_model(config, architecture)
    groups = parameter_groups(config, LanguageModel(model))
    assert {group["kind"] for group in groups} == {"adamw"}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_a_coefficient_of_0_reaches_the_config_of_a_new_and_of_a_pretrained_model(
    run_file: Path, tmp_path: Path
) -> None:
    """A whole 0, as YAML reads it, where transformers wants a float; of a pretrained model it may
    be set, too."""
    settings = "model.config={num_hidden_layers: 1, router_aux_loss_coef: 0}"
    new = given(run_file, "mixtral", "optimizer.kind=adamw", settings)
    check_model_settings(new)
    small("mixtral").save_pretrained(tmp_path / "folder")
    overrides = [
        "optimizer.kind=adamw",
        "model.config={router_aux_loss_coef: 0}",
        "model.architecture=null",
    ]
    taken = load(run_file, [*overrides, f"model.pretrained={tmp_path / 'folder'}"])
    for config in (new, taken):
        architecture = model_config(config, (8, 0))
        assert architecture.router_aux_loss_coef == 0
        assert expert_problems(config, build_on_meta(small_copy(architecture))) == []


def stacked(model: nn.Module) -> list[str]:
    """Return the parameters that hold a matrix for each of several experts, outside of
    convolutions."""
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [
        f"{name}.{own}"
        for name, module in model.named_modules()
        for own, parameter in module.named_parameters(recurse=False)
        if parameter.dim() == 3
        and min(parameter.shape) > 1
        and not isinstance(module, convolutions)
    ]


@pytest.mark.full
def test_no_mixture_of_the_registry_goes_unnoticed() -> None:
    """Stacked matrices mark the same architectures as names of modules do, but for three that are
    no mixtures."""
    found, by_shape = set[str](), set[str]()
    for name in names():
        config = config_of(name)
        try:
            model = build_on_meta(small_copy(config)) if config is not None else None
        except Exception:  # see `build_copy`
            continue
        if model is not None and expert_modules(model):
            found.add(name)
        if model is not None and stacked(model):
            by_shape.add(name)
    assert by_shape - found <= {"xlnet", "recurrent_gemma", "got_ocr2"}, (
        "heads, blocks of a diagonal, positions in images"
    )
    assert len(found) > 40
