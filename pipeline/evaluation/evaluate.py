"""The stage `evaluate`: few-shot scores and bits per byte of models.

Reads the models that `evaluation.models` names and the validation documents; writes
run_dir/evaluation: `tasks/` (the built-in tasks, see `built_in/`), a cell for each model, task and
number of shots (`cells.py`), and the table of all scores. A cell that is on disk with the key of
what is asked for now is kept, so that an interrupted evaluation continues where it stopped, and one
more task costs only itself. No cell is deleted because something else is asked for.
"""

import importlib.metadata
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.run_config import RunConfig
from pipeline.corpus.selecting.kept_documents import kept_documents
from pipeline.errors import TasksFailed, UserError
from pipeline.evaluation.asked_tasks import BITS_PER_BYTE, asked_suite, asked_tasks
from pipeline.evaluation.built_in.built_in_tasks import write_tasks
from pipeline.evaluation.built_in.few_questions import tasks_with_fewer_questions
from pipeline.evaluation.cells import read_result, warn_of_damaged_cells
from pipeline.evaluation.grid.offline import forbid_network
from pipeline.evaluation.grid.scoring_workers import TaskNames, score_on_workers, scoring_executor
from pipeline.evaluation.models_to_score import (
    ALL,
    LAST,
    ModelToScore,
    chosen_models,
    deleted_models_error,
    folder_tokenizer,
    models_to_score,
)
from pipeline.evaluation.results import CellResult, Provenance
from pipeline.evaluation.suite_scores import write_suite_scores
from pipeline.evaluation.task_facts import describe_task_files, refuse_cloze_without_text
from pipeline.evaluation.watched_run import wait_for_watch
from pipeline.logs import counted_noun, human_bytes, note, number_or_blank, warn
from pipeline.store.artifacts import Result
from pipeline.store.counts import BitsPerByte, EvaluateCounts, TaskScore
from pipeline.store.files import file_record, fingerprint
from pipeline.store.layout import TASKS, run_folder
from pipeline.store.lease import Lease
from pipeline.store.pretrained_folders import content_of_model_folder
from pipeline.store.scores_folder import ScoresFolder

if TYPE_CHECKING:
    from pipeline.evaluation.clean_scores import ContaminationReport
    from pipeline.evaluation.grid.asked_cells import AskedCell
    from pipeline.evaluation.known_tasks import BuiltTasks

MOST_NAMED = 5
"""Maximum number of models that a message names."""


def evaluate(config: RunConfig) -> Result[EvaluateCounts]:
    """Score the models of `evaluation.models`, each in the cells that are missing.

    Raises DataError where the export is missing or there is too little held-out text; ConfigError
    for unknown models and tasks, and where `heldout_cloze` has no source with text.
    """
    run = run_folder(config)
    folder = ScoresFolder(run.evaluation)
    refuse_cloze_without_text(config)
    wait_for_watch(config)
    with Lease(run.evaluation, "pipeline evaluate"):
        models = models_to_score(config)
        questions = prepare_questions(config)
        # From here on the older manifest is not true any more; what is refused above leaves it.
        run.evaluation_manifest.unlink(missing_ok=True)
        score_models(config, models, questions)

    # What the manifest holds.
    names = [
        *(f"{TASKS}/{name}" for name in questions.files),
        *_names_of_files(folder, models, questions.cells),
        folder.table.name,
    ]
    names += write_suite_of(config, folder, models)
    counts = _counts(folder, models, questions)
    contamination = _contamination(config, questions.built, models)
    names += [str(path.relative_to(folder.path)) for path in contamination.files]
    files = {name: file_record(folder.path / name) for name in names}
    kept = _kept_of_other_scorer(config, models, questions)
    return Result(counts, files, closing=[*kept, *contamination.closing])


@dataclass(frozen=True)
class Questions:
    """What any one model is asked."""

    files: Sequence[str]
    """Files of the built-in tasks."""
    source: TaskNames
    """What the tasks were built from."""
    built: "BuiltTasks"
    cells: Sequence["AskedCell"]
    warned: set[tuple[str, int]]
    """Names that were asked for, and numbers of shots, whose cut sequences a message has named."""


def prepare_questions(config: RunConfig) -> Questions:
    """Write the built-in tasks, and build all tasks of the run file with their data.

    Raises DataError where there is too little held-out text; ConfigError for unknown tasks.
    """
    # Only sources with text have held-out documents.
    with_text = config.sources_with_text
    without = ", ".join(name for name in config.sources if name not in with_text)
    if without:
        note(
            f"evaluate: no held-out text and no bits per byte of {without}, whose ids were made "
            "elsewhere (kind megatron)"
        )
    documents = kept_documents(config)
    written = write_tasks(
        run_folder(config).tasks, documents, with_text, asked_tasks(config), config.evaluation
    )
    asked_built_in = [name for name, shots in asked_tasks(config).items() if shots]
    fewer = tasks_with_fewer_questions(
        run_folder(config).tasks, asked_built_in, config.evaluation.limit
    )
    for task, (questions, wanted) in fewer.items():
        warn(f"{task} has {questions:,} questions and not {wanted:,}: no more can be made here")

    # The libraries are imported after the network has been forbidden.
    forbid_network()
    source, built = _build_tasks(config, written)
    return Questions(written, source, built, _asked_cells(config, built), set())


def score_models(config: RunConfig, models: Iterable[ModelToScore], questions: Questions) -> None:
    """Make the cells that are missing, model by model, then write the table of all scores.

    Whatever ends it, the table has all cells that are complete. Raises DataError after all others
    were scored where a model was deleted meanwhile.
    """
    from pipeline.evaluation.grid.cell_scorer import make_missing_cells
    from pipeline.evaluation.score_table import write_score_table

    folder = ScoresFolder(run_folder(config).evaluation)
    executor = scoring_executor(config)
    models = list(models)
    deleted: list[ModelToScore] = []

    # A damaged cell counts as missing.
    warn_of_damaged_cells(cell.place(folder, model) for model in models for cell in questions.cells)

    # Make what is missing.
    try:
        # On workers, all that can be scored is scored.
        if executor.uses_slurm or executor.workers != 1:
            try:
                made = score_on_workers(
                    models,
                    questions.cells,
                    questions.built.single,
                    questions.source,
                    folder,
                    config.evaluation,
                    executor,
                )
                _warn_of_cut_sequences(made, questions)
            except TasksFailed:
                if not any(model.gone() for model in models):
                    raise
        # Here, one by one, what is still missing.
        for model in models:
            try:
                made = make_missing_cells(
                    model, questions.cells, questions.built.single, folder, config.evaluation
                )
            except (UserError, OSError):
                if not model.gone():
                    raise
                deleted.append(model)
                continue
            _warn_of_cut_sequences(made, questions)
    finally:
        write_score_table(folder, {model.name for model in models})
    if deleted:
        raise deleted_models_error(deleted)


def evaluation_inputs(config: RunConfig) -> dict[str, str | None]:
    """Describe the task files and models that are no output of a stage, for the fingerprint.

    None for a model that has been moved away. Of a transformers folder only the edges of its
    weights are read here, since `status` asks, too; the keys of its cells cover all bytes.
    """
    content = describe_task_files(config)
    for choice in config.evaluation.models:
        if choice == LAST:  # what `export` wrote, which is an input of the stage
            continue
        if isinstance(choice, Path) and choice != ALL and choice.is_dir():
            edges = [content_of_model_folder(choice), folder_tokenizer(choice)]
            content[f"model {choice}"] = fingerprint(edges)
            continue
        try:
            models = chosen_models(config, choice)
        except UserError:
            content[f"model {choice}"] = None
            continue
        content |= {f"model {model.name}": fingerprint(dict(model.identity)) for model in models}
    return content


def _build_tasks(config: RunConfig, written: Sequence[str]) -> tuple[TaskNames, "BuiltTasks"]:
    """Build the tasks of the run file, and those of bits per byte whose files were written.

    Says which files of code the user's task files run.
    """
    from pipeline.evaluation.known_tasks import build_tasks, own_code

    settings = config.evaluation
    texts = [f"{BITS_PER_BYTE}{source}" for source in config.sources]
    names = [
        *(name for name, shots in asked_tasks(config).items() if shots),
        *(name for name in texts if f"{name}.yaml" in written),
    ]
    suite = asked_suite(config)
    if suite is not None and suite.missing:
        note(f"evaluate: left out of suite {suite.name}: {', '.join(suite.missing)}")
    written_tasks = run_folder(config).tasks
    folders = (written_tasks, *settings.task_paths)
    source = TaskNames(tuple(names), folders, settings.tasks_dir)
    built = build_tasks(source.names, source.folders, source.tasks_dir)
    for path in own_code(built, [written_tasks.resolve(), written_tasks]):
        note(f"evaluate: a task of evaluation.task_paths runs the code in {path}")
    return source, built


def _asked_cells(config: RunConfig, built: "BuiltTasks") -> list["AskedCell"]:
    from pipeline.evaluation.grid.asked_cells import asked_cells
    from pipeline.evaluation.known_tasks import task_identity

    identities = {name: task_identity(task) for name, task in built.single.items()}
    return asked_cells(built, identities, asked_tasks(config), config.evaluation)


def _kept_of_other_scorer(
    config: RunConfig, models: Sequence[ModelToScore], questions: Questions
) -> list[str]:
    from pipeline.evaluation.grid.asked_cells import kept_of_other_scorer

    folder = ScoresFolder(run_folder(config).evaluation)
    return kept_of_other_scorer(folder, models, questions.cells, config.evaluation.scorer)


def _contamination(
    config: RunConfig, built: "BuiltTasks", models: Sequence[ModelToScore]
) -> "ContaminationReport":
    """Find which questions the run has read, where `evaluation.contamination` asks for it."""
    from pipeline.evaluation import clean_scores

    if not config.evaluation.contamination:
        return clean_scores.ContaminationReport([], [])
    steps = [clean_scores.last_read_step(model.name, model.step) for model in models]
    own_steps = [step for step in steps if step is not None]
    report = clean_scores.check_contamination(config, list(built.single), own_steps)
    others = [model.title for model, step in zip(models, steps, strict=True) if step is None]
    if not others or config.evaluation.tasks_dir is None:
        return report
    names = ", ".join(others[:MOST_NAMED])
    if len(others) > MOST_NAMED:
        names = f"{names} and {len(others) - MOST_NAMED} more"
    line = f"contamination: not known of {names}: trained elsewhere"
    return replace(report, closing=[*report.closing, line])


def _warn_of_cut_sequences(results: Iterable[CellResult], questions: Questions) -> None:
    """Warn once for each name that was asked for and number of shots whose sequences were too long.

    The tasks of a group are one name.
    """
    provenances: dict[tuple[str, int], list[Provenance]] = {}
    for result in results:
        (task,) = result["n-samples"]
        place = (questions.built.built_for[task], result["provenance"]["shots"])
        provenances.setdefault(place, []).append(result["provenance"])
    for (name, shots), of_name in provenances.items():
        cut = sum(provenance["cut_requests"] for provenance in of_name)
        if not cut or (name, shots) in questions.warned:
            continue
        questions.warned.add((name, shots))
        requests = sum(provenance["requests"] for provenance in of_name)
        warn(
            f"k = {shots}: {cut:,} of {requests:,} sequences of {name} were longer than the model's "
            f"{of_name[0]['context_tokens']} tokens and lost their beginning"
        )


def write_suite_of(
    config: RunConfig, folder: ScoresFolder, models: Sequence[ModelToScore]
) -> list[str]:
    """Write the scores of the suite and say those of the models; return the name of their file."""
    suite = asked_suite(config)
    if suite is None:
        return []
    scores = write_suite_scores(folder, suite, asked_tasks(config))
    names = {model.name for model in models}
    for score in scores:
        if score["model"] not in names:
            continue
        error = number_or_blank(score["standard_error"], ".3f")
        note(
            f"{score['title']}: suite {suite.name}, {score['shots']}: {score['mean']:.3f} ± {error} "
            f"over {counted_noun(len(score['benchmarks']), 'benchmark')}, centred on chance "
            f"{score['centred_mean']:.3f}"
        )
    return [folder.suite.name]


def _names_of_files(
    folder: ScoresFolder, models: Iterable[ModelToScore], cells: Sequence["AskedCell"]
) -> list[str]:
    """Return the files of all cells that were asked for, below the stage's folder."""
    places = [cell.place(folder, model) for model in models for cell in cells]
    paths = [path for place in places for path in (place.rows, place.result)]
    return [str(path.relative_to(folder.path)) for path in paths]


def _counts(
    folder: ScoresFolder, models: Sequence[ModelToScore], questions: Questions
) -> EvaluateCounts:
    """Return the scores and the bits per byte of the model of the last step."""
    from pipeline.evaluation.score_table import scores_of_model

    # The scores of one model, in the order of the tasks.
    chosen = max(models, key=lambda model: model.step or 0)
    results: dict[tuple[str, int, int], CellResult] = {}
    for cell in questions.cells:
        result = read_result(cell.place(folder, chosen))
        assert result is not None, "the cell has just been made or found complete"
        results[cell.task, cell.shots, cell.seed] = result
    few_shot = {
        key: result for key, result in results.items() if not key[0].startswith(BITS_PER_BYTE)
    }
    scores = scores_of_model(few_shot, questions.built.groups)
    bits: dict[str, BitsPerByte] = {}
    for (task, _, _), result in results.items():
        if task.startswith(BITS_PER_BYTE):
            value = result["results"][task]["bits_per_byte,none"]
            assert isinstance(value, int | float)
            if not math.isfinite(value):
                continue
            bits[task.removeprefix(BITS_PER_BYTE)] = {
                "value": value,
                "bytes": result["provenance"]["text_bytes"],
            }
    return {
        "headline": _headline(models, few_shot, scores, bits),
        "model": chosen.name,
        "models": [model.name for model in models],
        "scores": scores,
        "bits_per_byte": bits,
        "harness": importlib.metadata.version("lm_eval"),
    }


def _headline(
    models: Sequence[ModelToScore],
    few_shot: Mapping[tuple[str, int, int], CellResult],
    scores: Sequence[TaskScore],
    bits: Mapping[str, BitsPerByte],
) -> str:
    """Return the line that the stage ends with."""
    parts: list[str] = []
    if scores:
        shots = ", ".join(str(k) for k in sorted({row["shots"] for row in scores}))
        questions = {
            task: result["n-samples"][task]["effective"]
            for (task, _, _), result in few_shot.items()
        }
        parts.append(
            f"{counted_noun(len(questions), 'task')}, "
            f"{counted_noun(sum(questions.values()), 'question')} at k = {shots}"
        )
    if bits:
        size = human_bytes(sum(entry["bytes"] for entry in bits.values()))
        mean = sum(entry["value"] for entry in bits.values()) / len(bits)
        parts.append(f"{mean:.2f} bits per byte on {size} of held-out text of {len(bits)} sources")
    headline = "; ".join(parts) or "nothing asked for"
    if len(models) == 1:
        return headline
    return f"{counted_noun(len(models), 'model')}; of the last: {headline}"
