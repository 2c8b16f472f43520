"""Questions on the Hugging Face hub, for tasks that the wheel does not have.

Needs a network. A data set is loaded at the revision that the folder of questions records for it;
the first time, at the one that is current, which is then recorded. Imports lm-eval and datasets.
"""

import datasets
import pyarrow as pa
from huggingface_hub import HfApi
from lm_eval.tasks._index import TaskIndex
from lm_eval.tasks._yaml_loader import load_yaml

from pipeline.errors import DataError, one_line
from pipeline.evaluation.task_data.catalogue import PublicTask
from pipeline.evaluation.task_data.stored_tasks import COLLECTION
from pipeline.store.files import read_json, write_json
from pipeline.store.tasks_folder import SPLITS_OF_TASKS, TasksFolder


def questions_on_hub(task: PublicTask, tasks: TasksFolder) -> tuple[dict[str, pa.Table], str]:
    """Return the rows of each split, and the data set with its revision.

    Raises DataError where the hub cannot be reached, has no such revision, or the data set has
    other splits; and where the file of revisions is damaged.
    """
    # Where lm-eval's definition has its data from.
    assert task.definition is not None
    path = TaskIndex.build([COLLECTION / task.definition])[task.name].yaml_path
    assert path is not None
    definition = load_yaml(path, resolve_func=False)
    data_set = str(definition["dataset_path"])
    part = definition.get("dataset_name")

    # A revision is loaded by its hash: the recorded one, or the one that is current now.
    revisions = _recorded_revisions(tasks)
    revision = revisions.get(data_set)
    remedy = "Run the same command where huggingface.co can be reached."
    if revision is not None:
        remedy += f" It was asked for revision {revision}, which {tasks.hub_revisions} records."
    try:
        if revision is None:
            revision = str(HfApi().dataset_info(data_set).sha)
        loaded = datasets.load_dataset(data_set, part, revision=revision)
    except Exception as error:  # whatever the hub, datasets and the network raise
        raise DataError(
            f"{task.name}: {data_set} could not be loaded from the hub "
            f"({type(error).__name__}: {one_line(error)}). {remedy}"
        ) from None
    splits = {
        split: loaded[split].data.table.combine_chunks().replace_schema_metadata(None)
        for split in SPLITS_OF_TASKS
        if split in loaded
    }
    if not splits:
        raise DataError(
            f"{task.name}: {data_set} has the splits {', '.join(map(str, loaded))}, none of which "
            f"{task.name} reads. Leave the task out."
        )
    write_json(tasks.hub_revisions, {**revisions, data_set: revision})
    return splits, f"hub {data_set} {part or ''}@{revision}"


def _recorded_revisions(tasks: TasksFolder) -> dict[str, str]:
    """Return data set -> revision, of those fetched into a folder before."""
    revisions = read_json(tasks.hub_revisions)
    if revisions is None:
        return {}
    if not isinstance(revisions, dict) or not all(isinstance(r, str) for r in revisions.values()):
        raise DataError(
            f"{tasks.hub_revisions}: does not name a revision for each data set. Delete it to fetch "
            "the revisions that are current."
        )
    return revisions
