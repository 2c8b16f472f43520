"""What a run needs of its nodes, worked out here for `pipeline doctor`.

Launch, settings, model, disk, operators.
"""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pipeline.checkpoint.disk import disk_space_needed
from pipeline.cluster.doctor.examination import Needs
from pipeline.cluster.doctor.finding import ALL, Finding
from pipeline.cluster.doctor.job_findings import launch_findings, refused
from pipeline.cluster.doctor.looks import Looks
from pipeline.cluster.doctor.rate_findings import OperatorNeed
from pipeline.config.groups import group_sizes
from pipeline.config.hardware import read_hardware
from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_config import read_template, resolve_template, zero_stage
from pipeline.engine.memory import checkpoint_bytes
from pipeline.engine.operators import needed_operators
from pipeline.errors import ConfigError, UserError
from pipeline.logs import human_bytes
from pipeline.model.model_facts import model_facts
from pipeline.planning.rates import assumed_rates
from pipeline.planning.run_setting import measured_data, planned_data
from pipeline.store.layout import data_folder
from pipeline.store.stages import STAGES
from pipeline.training.preflight import check_settings

HERE_SECONDS = 120.0
"""Time limit of each check here; the model is built for one of them."""


def needs_of_run(config: RunConfig) -> Needs:
    """Return what the run needs, with what was found about its launch, disk and operators.

    A run file that describes no training needs its folders alone.
    """
    run = Looks(HERE_SECONDS)
    checks: dict[str, Callable[[], list[Finding]]] = {}
    if is_training_described(config):
        checks = {
            "launch": lambda: launch_findings(config),
            "settings": lambda: settings_findings(config),
            "model": lambda: model_findings(config),
            "disk": lambda: disk_findings(config),
        }
    findings: list[Finding] = []
    for name, check in checks.items():
        none: list[Finding] = []
        found = run.run(name, check, none)
        if name in run.problems:
            remedy = "look at the file system of this folder: `df PATH`"
            found = [Finding(name, ALL, run.problems[name], "stops", remedy)]
        # Launch and settings both look at the batch.
        reported = {finding.remedy for finding in findings if finding.remedy}
        found = [finding for finding in found if finding.remedy not in reported]
        # The seconds of a check stand in its first row.
        if found:
            found[0] = replace(found[0], seconds=run.seconds[name])
        findings += found

    # Where the template cannot be used, the check `settings` says so.
    operators: list[OperatorNeed] = []
    with suppress(UserError):
        operators = operators_of_run(config)
    folders = {
        "paths.data_dir": str(nearest_folder(config.paths.data_dir)),
        "paths.run_dir": str(nearest_folder(config.paths.run_dir)),
    }
    return Needs(config, operators, findings, folders)


def is_training_described(config: RunConfig) -> bool:
    """Tell whether the run file has all sections that the stage `train` reads."""
    table = {stage.name: stage for stage in STAGES}
    return not table["train"].absent_sections(config, table)


def settings_findings(config: RunConfig) -> list[Finding]:
    """Judge what training checks of the run file alone: template, batch, vocabulary, muP."""
    try:
        check_settings(config)
    except UserError as error:
        return refused("settings", error)
    return [Finding("settings", ALL, "template, batch, vocabulary and muP fit together")]


def model_findings(config: RunConfig) -> list[Finding]:
    """Judge whether the model can be built."""
    try:
        facts = model_facts(config)
    except UserError as error:
        return refused("model", error)
    return [Finding("model", ALL, f"{facts.parameters:,} parameters")]


def disk_findings(config: RunConfig) -> list[Finding]:
    """Compare the free space of run_dir's disk with what the checkpoints of the run will take.

    Nothing is found where their size is not known: the checks of settings and model say why.
    """
    try:
        facts = model_facts(config)
        stage = zero_stage(read_template(config.deepspeed))
    except UserError:
        return []
    size = checkpoint_bytes(facts.parameters, config.precision.dtype, stage, facts.moment_bytes)
    summary, problems = disk_space_needed(config, size)
    findings = refused("disk", ConfigError(problems))
    if not findings:
        findings = [Finding("disk", ALL, summary)]
    return findings + data_findings(config, facts.shape.vocabulary)


def data_findings(config: RunConfig, vocabulary: int) -> list[Finding]:
    """Compare the free space of data_dir's disk with planned documents and tokens.

    Nothing is found where there is room, or where the tokens are there.
    """
    folder = data_folder(config)
    if measured_data(folder) is not None:
        return []
    rates = assumed_rates(read_hardware("cpu"), "cpu", overlaps=False)
    data = planned_data(config, vocabulary, rates)
    needed = data.document_bytes + data.token_bytes
    free = shutil.disk_usage(nearest_folder(folder.path)).free
    if needed <= free:
        return []
    seen = (
        f"paths.data_dir = {folder.path}: its disk has {human_bytes(free)} free, and documents and "
        f"tokens of train.train_tokens = {data.tokens:,.0f}, each read once, would take about "
        f"{human_bytes(needed)}"
    )
    remedy = "choose a larger disk; a corpus that is read several times is smaller than this"
    return [Finding("disk", ALL, seen, "warning", remedy)]


def operators_of_run(config: RunConfig) -> list[OperatorNeed]:
    """Return the DeepSpeed operators that every rank of the run loads.

    Raises ConfigError where the template cannot be used.
    """
    # Operators do not depend on the number of ranks; one rank divides every batch.
    resolved = resolve_template(read_template(config.deepspeed), config, group_sizes(1))
    return [
        OperatorNeed(operator.name, operator.usual, operator.remedy)
        for operator in needed_operators(resolved, config.optimizer)
    ]


def nearest_folder(folder: Path) -> Path:
    """Return a folder if it exists, else the nearest one above it that does."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())
