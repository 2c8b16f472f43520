"""Check that a run can begin from another run's checkpoint. Free of torch.

Reads the checkpoint's manifest and the other run's settings.
"""

from pipeline.checkpoint.folders import complete_checkpoints
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.store.files import read_json
from pipeline.store.layout import RunFolder, run_folder
from pipeline.store.manifests.recorded_settings import differences
from pipeline.store.pretrained_folders import MODEL_CONFIG
from pipeline.training.origin import Origin, find_origin
from pipeline.training.resume import settings_of


def check_branch(config: RunConfig) -> None:
    """Check that a new run can begin from what `model.pretrained` or `train.init_from` names.

    Raises ConfigError where it cannot. Does nothing for a run that has checkpoints.
    """
    # A pretrained model has to be a transformers folder.
    if complete_checkpoints(run_folder(config).checkpoints):
        return
    pretrained = config.model.pretrained
    if pretrained is not None and not (pretrained / MODEL_CONFIG).is_file():
        raise ConfigError(
            [
                f"model.pretrained = {pretrained}: holds no config.json; set it to a transformers "
                "folder"
            ]
        )

    # With weights alone, everything but the model may differ; the ranks compare the model later.
    origin = find_origin(config)
    if origin is None or config.train.init_take == "weights":
        return

    # With everything, the checkpoint's step has to end at the same tokens in this run.
    state = origin.manifest["state"]
    plan = config.step_plan
    planned = plan.tokens_after(state["step"])
    problems = []
    if planned != state["tokens"]:
        problems.append(
            f"batch, data.sequence_length: step {state['step']} ends after {planned} tokens, but in "
            f"{origin.checkpoint} after {state['tokens']}; set them to the values of {origin.run}, "
            "or set train.init_take to weights"
        )
    if plan.total_steps <= state["step"]:
        problems.append(
            f"train.train_tokens = {config.train.train_tokens}: must be above the "
            f"{state['tokens']} tokens that {origin.checkpoint} has seen, which count"
        )

    # The optimizer's state has to fit this run's optimizer and precision.
    before = read_json(RunFolder(origin.run).settings) or {}
    fixed = {"precision.dtype": config.precision.dtype, "optimizer.kind": config.optimizer.kind}
    for name, value in fixed.items():
        if name in before and before[name] != value:
            problems.append(
                f"{name} = {value}: {origin.run} has {before[name]}; set it back, or set "
                "train.init_take to weights"
            )
    if problems:
        raise ConfigError(problems)


def changed_settings(config: RunConfig, origin: Origin) -> list[str]:
    """Return every setting that differs between a branch and the run that it begins from."""
    before = read_json(RunFolder(origin.run).settings) or {}
    return differences(before, settings_of(config))
