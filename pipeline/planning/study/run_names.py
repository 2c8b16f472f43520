"""Names of a study's runs: what decides a run's loss, as a digest.

Reads the manifest of the tokens, and the record of it that the study's folder keeps.
"""

from pathlib import Path
from typing import Any

from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_config import read_template
from pipeline.store.artifacts import read_manifest
from pipeline.store.files import fingerprint, read_json, write_json
from pipeline.store.layout import DataFolder
from pipeline.store.records import Json
from pipeline.store.studies.study_folder import StudyFolder

DECISIVE_SECTIONS = {"model", "data", "optimizer", "schedule", "precision"}
DECISIVE_OF_TRAINING = {"train_tokens", "seed"}
"""Settings of the section `train` that decide a run's loss. Where a branch begins is not among them:
its losses are those of a run from the beginning."""


def digest_of_run(config: RunConfig, folder: StudyFolder, more: Json) -> str:
    """Return eight hexadecimal digits of everything that decides the loss of a run.

    Settings that have their default are left out, so that a setting that is added to the program
    changes no name. `more`: what else tells the run from others of its study.
    """
    decisive: dict[str, Any] = config.model_dump(
        mode="json",
        include={
            **dict.fromkeys(DECISIVE_SECTIONS, True),
            "train": DECISIVE_OF_TRAINING,
            "batch": {"global_batch_tokens"},
        },
        exclude_defaults=True,
    )
    decisive["tokens"] = _content_of_tokens(folder, config.paths.data_dir)
    decisive["more"] = more
    return fingerprint(decisive)[:8]


def execution_of_run(config: RunConfig) -> Json:
    """Return what decides the speed of a run and not its loss: for the names of runs that measure it."""
    template: Any = read_template(config.deepspeed)
    return {
        "template": template,
        "micro_batch_sequences": config.batch.micro_batch_sequences,
        "activation_checkpointing": config.train.activation_checkpointing,
        "compile": config.train.compile,
        "communication_steps": config.train.communication_steps,
    }


def record_tokens(folder: StudyFolder, data_dirs: set[Path]) -> None:
    """Write down what identifies the tokens of a study, so that its runs keep their names without them.

    Data folders without tokens keep what is recorded of them.
    """
    recorded: dict[str, str] = read_json(folder.recorded_tokens) or {}
    now = {str(path): _content_now(path) for path in sorted(data_dirs)}
    known = recorded | {path: content for path, content in now.items() if content is not None}
    if known != recorded:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.recorded_tokens, known)


def _content_of_tokens(folder: StudyFolder, data_dir: Path) -> str | None:
    """Return what identifies the content of the tokens, wherever they lie; None where nothing does.

    Where they are gone, as from an archived study, it is what the study's folder recorded.
    """
    content = _content_now(data_dir)
    if content is not None:
        return content
    recorded: dict[str, str] = read_json(folder.recorded_tokens) or {}
    if len(recorded) == 1:
        return next(iter(recorded.values()))
    return recorded.get(str(data_dir))


def _content_now(data_dir: Path) -> str | None:
    manifest = read_manifest(DataFolder(data_dir).tokens_manifest)
    if manifest is None:
        return None
    return manifest["output"]
