"""A study file, read with its base and its runs, as the commands of `pipeline study` need it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli.start_checks import refuse_mistakes
from pipeline.cluster.study.queue import QueuedRun
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump, load
from pipeline.config.study_file import StudyFile, read_study
from pipeline.errors import ConfigError, DataError, first_of
from pipeline.logs import counted_noun
from pipeline.planning.study.grid import runs_of_study
from pipeline.planning.study.points import (
    COLUMNS,
    StudyPoint,
    points_of_study,
    write_points,
)
from pipeline.planning.study.run_names import record_tokens
from pipeline.planning.study.study_epochs import expected_epochs
from pipeline.planning.study.study_kind import StudyKind, study_kind
from pipeline.planning.study.study_run import StudyRun, trained_alone
from pipeline.store.artifacts import stage_states
from pipeline.store.files import write_atomic
from pipeline.store.layout import RunFolder, manifest_path
from pipeline.store.stages import STAGES
from pipeline.store.studies.study_folder import StudyFolder


@dataclass(frozen=True)
class OpenedStudy:
    """A study and its runs."""

    file: Path
    study: StudyFile
    base: RunConfig
    runs: Sequence[StudyRun]

    @property
    def folder(self) -> StudyFolder:
        """The folder of the study."""
        return StudyFolder(self.study.folder)

    def other_runs(self) -> list[str]:
        """Return the names of finished runs in the folder that the study does not have now."""
        names = {run.name for run in self.runs}
        homes = sorted(path.name for path in self.folder.runs.glob("*") if path.name not in names)
        return [
            name for name in homes if RunFolder(self.folder.run_dir(name)).train_manifest.is_file()
        ]

    def words_on_other_runs(self) -> str | None:
        """Return a sentence on finished runs that the study does not have now; None for none."""
        others = self.other_runs()
        if not others:
            return None
        return (
            f"{counted_noun(len(others), 'finished run')} in {self.folder.runs} of other settings or "
            f"data, not counted: {first_of(others, 3)}"
        )

    @property
    def kind(self) -> StudyKind:
        """What the study asks."""
        return study_kind(self.study)

    def grid_problems(self) -> list[str]:
        """Return why the grid cannot answer the study's question; empty for one that can."""
        return self.kind.grid_problems(self.study, self.runs, expected_epochs(self.runs))

    def queued(self) -> list[QueuedRun]:
        """Return the runs as those who train them need them."""
        return [self._queued_run(run) for run in self.runs]

    def _queued_run(self, run: StudyRun) -> QueuedRun:
        folder = self.folder
        is_alone = self.kind.is_measured_alone
        needs = None
        if run.trunk is not None:
            needs = RunFolder(folder.run_dir(run.trunk)).checkpoint(run.first_step - 1)
        return QueuedRun(
            name=run.name,
            home=folder.home(run.name),
            run_file=folder.run_file(run.name),
            run_dir=folder.run_dir(run.name),
            output=folder.output(run.name),
            steps=run.steps,
            first_step=run.first_step,
            work=run.own_flops,
            sequences=run.config.global_batch_sequences,
            micro_batch=run.config.batch.micro_batch_sequences,
            ranks=run.place.ranks,
            most_ranks=max(self.study.axes.ranks, default=None) if is_alone else None,
            trunk=run.trunk,
            needs=needs,
            stages=self.kind.stages_of(self.study),
        )

    def write_run_files(self) -> None:
        """Write the run file of every run, where it is not there as it should be."""
        record_tokens(self.folder, {run.config.paths.data_dir for run in self.runs})
        for run in self.runs:
            path = self.folder.run_file(run.name)
            text = dump(run.config)
            if path.is_file() and path.read_text() == text:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, text)


def open_study(file: Path, overrides: Sequence[str]) -> OpenedStudy:
    """Read a study file and its base, and plan its runs. Raises ConfigError with all problems."""
    study = read_study(file, overrides)
    if not study.base.is_file():
        raise ConfigError(
            [f"base = {study.base}: there is no such file; set it to a run file"], str(file)
        )
    base = load(study.base)
    kind = study_kind(study)
    problems = _problems_of_kind(study, kind)
    if problems:
        raise ConfigError(problems, str(file))
    runs = runs_of_study(study, base, kind.places(study))
    return OpenedStudy(file, study, base, _with_lost_beginnings(StudyFolder(study.folder), runs))


def _problems_of_kind(study: StudyFile, kind: StudyKind) -> list[str]:
    """Return what is wrong about a study whatever its runs are."""
    problems = [
        f"axes.variants.{axis}: the table of runs has a column of that name; rename it"
        for axis in study.axes.variants
        if axis in COLUMNS
    ]
    executor = study.executor
    if kind.is_measured_alone and executor.kind == "local" and executor.jobs > 1:
        problems.append(
            f"executor.jobs = {executor.jobs}: a study of kind {study.kind} measures speed, so one run "
            "at a time has the machine; set it to 1"
        )
    return problems


def _with_lost_beginnings(folder: StudyFolder, runs: Sequence[StudyRun]) -> list[StudyRun]:
    """Return the runs; a branch whose trunk is done without its checkpoint is trained alone.

    So is one of a budget that was added to a finished study.
    """
    return [trained_alone(run) if _has_lost_beginning(folder, run) else run for run in runs]


def _has_lost_beginning(folder: StudyFolder, run: StudyRun) -> bool:
    own = RunFolder(folder.run_dir(run.name))
    if run.trunk is None or own.metrics.is_file() or own.train_manifest.is_file():
        return False
    trunk = RunFolder(folder.run_dir(run.trunk))
    checkpoint = trunk.checkpoint(run.first_step - 1)
    return trunk.train_manifest.is_file() and not manifest_path(checkpoint).is_file()


def refuse_missing_data(opened: OpenedStudy) -> None:
    """Raise DataError where the base's data are not there, or are stale: no run makes them."""
    config = opened.runs[0].config
    table = {stage.name: stage for stage in STAGES}
    needed = [
        name
        for name in ("train-tokenizer", "tokenize", "pack")
        if not table[name].is_left_out(config)
    ]
    states = stage_states(table, config, look_at=needed)
    for name in needed:
        if states[name].kind != "done":
            to_make = [
                f"`{stage.command} {opened.study.base}`"
                for stage in STAGES
                if stage.shared and stage.is_asked(config)
            ]
            raise DataError(
                f"{config.paths.data_dir}: {name} is {states[name].kind}, and a study makes no data. "
                f"Make them with {', '.join(to_make[:-1])} and {to_make[-1]}"
            )
    train = table["train"]
    for run in opened.runs:
        refuse_mistakes([check for check in train.checks if check.is_ahead], run.config)


def is_study_file(path: Path) -> bool:
    """Tell by its name whether a file is a study, and not a table of points."""
    return path.suffix in (".yaml", ".yml")


def table_of_points(path: Path, overrides: Sequence[str] = ()) -> Path:
    """Return a table of points: the file itself, or for a study file that of its runs, made now.

    Raises DataError for a study of which no run has begun, ConfigError for overrides of a table.
    """
    if not is_study_file(path):
        if overrides:
            raise ConfigError([f"{overrides[0]}: a table has no settings; leave it out"], str(path))
        return path
    opened = open_study(path, overrides)
    renew_points(opened)
    return opened.folder.points


def renew_points(opened: OpenedStudy) -> list[StudyPoint]:
    """Return the points of a study's runs, and write its table of them.

    Raises DataError for a study of which no run has begun.
    """
    points = points_of_study(opened.folder, opened.runs)
    if not points:
        path = opened.file
        others = opened.words_on_other_runs()
        found = f" ({others})" if others else ""
        raise DataError(
            f"{path}: no run has begun{found}; train them with `pipeline study run {path}`"
        )
    write_points(opened.folder, points)
    return points
