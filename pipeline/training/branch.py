"""What must agree between a run and the checkpoint of another one that it begins from. Free of
torch."""

from pipeline.checkpoint.folders import complete_checkpoints
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.store.artifacts import differences
from pipeline.store.files import read_json
from pipeline.store.layout import RunFolder, run_folder
from pipeline.store.pretrained_folders import MODEL_CONFIG
from pipeline.training.origin import Origin, find_origin
from pipeline.training.resume import settings_of


def check_branch(config: RunConfig) -> None:
    """Raise ConfigError where a run that has yet to begin cannot begin from what `train.init_from`
    names."""
    if complete_checkpoints(run_folder(config).checkpoints):
        return
    if (
        config.model.pretrained is not None
        and not (config.model.pretrained / MODEL_CONFIG).is_file()
    ):
        raise ConfigError(
            [
                f"model.pretrained = {config.model.pretrained}: holds no config.json; name a "
                "transformers folder"
            ]
        )

    # With weights alone, all but the model may differ; the ranks compare that.
    origin = find_origin(config)
    if origin is None or config.train.init_take == "weights":
        return

    # With everything, the checkpoint's step has to be one of this run's.
    state = origin.manifest["state"]
    plan = config.step_plan
    planned = plan.tokens_after(state["step"])
    problems = []
    if planned != state["tokens"]:
        problems.append(
            f"batch, data.sequence_length: step {state['step']} ends after {planned} tokens, in "
            f"{origin.checkpoint} after "
            f"{state['tokens']}; set them to those of {origin.run}, or train.init_take to weights"
        )
    if plan.total_steps <= state["step"]:
        problems.append(
            f"train.train_tokens = {config.train.train_tokens}: must be above the "
            f"{state['tokens']} tokens that "
            f"{origin.checkpoint} has seen, which count"
        )

    # The optimizer's state has to be one of this run's.
    before = read_json(RunFolder(origin.run).settings) or {}
    for name, own in (
        ("precision.dtype", config.precision.dtype),
        ("optimizer.kind", config.optimizer.kind),
    ):
        if name in before and before[name] != own:
            problems.append(
                f"{name} = {own}: {origin.run} has {before[name]}; set it back, or train.init_take "
                "to weights"
            )
    if problems:
        raise ConfigError(problems)


def changed_settings(config: RunConfig, origin: Origin) -> list[str]:
    """Name every setting that differs from those of the run that a branch begins from, data and
    schedule included."""
    before = read_json(RunFolder(origin.run).settings) or {}
    return differences(before, settings_of(config))
