"""Lines that commands print about one stage: its result, its missing files, its changed inputs."""

from collections.abc import Mapping

from pipeline.config.run_config import RunConfig
from pipeline.errors import first_items, first_of
from pipeline.logs import note, warn
from pipeline.store.artifacts import StageState, outputs_of
from pipeline.store.data_readers import live_readers
from pipeline.store.records import AnyManifest
from pipeline.store.table.stage_row import Stage

MOST_NAMED = 10
"""Maximum number of tasks that a line names."""
MOST_REASONS = 5
"""Reasons why a stage is stale that are printed when it starts, or when another one reads it."""


def note_result(stage: Stage, config: RunConfig, how: str, manifest: AnyManifest | None) -> None:
    """Print the headline of a stage that is done, and its notes for the user."""
    if not stage.is_asked(config):
        note_not_asked(stage)
        return
    assert manifest is not None, "only a stage that is not asked for is done without one"
    note(f"{stage.name}: {how}: {manifest['counts'].get('headline', '')}")
    for line in [*manifest.get("closing", []), *uncovered_task_lines(stage, config)]:
        note(f"{stage.name}: {line}")


def shown_reasons(state: StageState) -> list[str]:
    """Return why a stage is stale: the first reasons, and the number of the others."""
    return first_items(state.reasons, MOST_REASONS, "changes (`pipeline status` has all)")


def stale_lines(stage: Stage, state: StageState) -> list[str]:
    """Return a line for each reason that is shown why a stage is stale."""
    return [f"{stage.name}: stale, {reason}" for reason in shown_reasons(state)]


def note_not_asked(stage: Stage) -> None:
    """Print that the run file does not ask for a stage."""
    note(f"{stage.name}: not asked for")


def uncovered_task_lines(stage: Stage, config: RunConfig) -> list[str]:
    """Return a line that names the tasks to score whose questions no document was searched for.

    Such a task may have been added to `evaluation` at any time: it makes no data stale.
    """
    if stage.name != "select" or config.select is None or config.select.decontaminate is None:
        return []
    # Imported here: pyarrow takes longer to import than most commands run.
    from pipeline.corpus.decontaminating.searched_tasks import tasks_not_covered
    from pipeline.evaluation.asked_tasks import asked_tasks

    names = tasks_not_covered(
        config.select.decontaminate, asked_tasks(config), config.evaluation.tasks_dir
    )
    if not names:
        return []
    return [
        f"select.decontaminate does not cover {first_of(names, MOST_NAMED)}, which `evaluation` asks "
        "for: documents may hold their questions. Naming them searches all documents again"
    ]


def missing_file_lines(stage: Stage, config: RunConfig, state: StageState) -> list[str]:
    """Return a line about missing files and the remedy; none where the next run makes them again."""
    if state.kind != "done" or not state.missing_files:
        return []
    again = f"delete {stage.manifest_path(config)} and run `pipeline {stage.name}`"
    if stage.keeps_output:
        effect = "it makes all files of the stage again, the same ones if no text was added since"
    else:
        # Checkpoints: training them again costs too much to be started without being asked.
        effect = "it resumes from the newest sound checkpoint"
    return [
        f"{stage.name}: {stage.folder(config)}: {'; '.join(state.missing_files)}. Restore them "
        f"from a copy, or {again}: {effect}."
    ]


def changed_input_lines(
    stage: Stage, config: RunConfig, table: Mapping[str, Stage], manifest: AnyManifest | None
) -> list[str]:
    """Return a line for each input that has changed since a stage made the output that it keeps."""
    if not stage.keeps_output or manifest is None:
        return []
    now = outputs_of(stage.inputs_made(config, table), config, table)
    made_from = manifest.get("made_from", {})
    lines: list[str] = []
    for name, output in now.items():
        if output is None or output == made_from.get(name):
            continue
        if name in made_from:
            origin = f"an earlier output of {name}"
        elif name == "select" and made_from:
            origin = "all documents, before the run file had the section `select`"
        else:
            continue
        lines.append(
            f"{stage.name} was made from {origin} and is kept: a new one would make all that follows "
            f"stale. To make it again, delete {stage.manifest_path(config)}"
        )
    return lines


def warn_of_readers(stage: Stage, config: RunConfig) -> None:
    """Warn of the runs that read the data that a stage is about to change."""
    readers = live_readers(config.paths.data_dir)
    if readers:
        warn(
            f"{stage.name}: {config.paths.data_dir} is in use by {', '.join(map(str, readers))}, "
            "which continues with the files that it has open. If this stage changes the tokens, "
            "such a run cannot be resumed: it needs the tokens that it began with. "
            "To avoid that, use another paths.data_dir."
        )
