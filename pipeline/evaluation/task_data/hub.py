"""Questions on the Hugging Face hub, for tasks that the wheel does not have.

Needs a network and HF_HUB_OFFLINE=0. The revision that is current is looked up, loaded by its hash,
and recorded. Imports lm-eval and datasets.
"""

import datasets
import pyarrow as pa
from huggingface_hub import HfApi
from lm_eval.tasks._index import TaskIndex
from lm_eval.tasks._yaml_loader import load_yaml

from pipeline.errors import DataError, one_line
from pipeline.evaluation.task_data.catalogue import PublicTask
from pipeline.evaluation.task_data.stored_tasks import COLLECTION
from pipeline.store.tasks_folder import SPLITS_OF_TASKS


def questions_on_hub(task: PublicTask) -> tuple[dict[str, pa.Table], str]:
    """Return the rows of each split, and the data set with its revision.

    Raises DataError where the hub cannot be reached or the data set has other splits.
    """
    # Where lm-eval's definition has its data from.
    assert task.definition is not None
    path = TaskIndex.build([COLLECTION / task.definition])[task.name].yaml_path
    assert path is not None
    definition = load_yaml(path, resolve_func=False)
    data_set = str(definition["dataset_path"])
    part = definition.get("dataset_name")

    # The revision that is current now is loaded by its hash.
    try:
        revision = HfApi().dataset_info(data_set).sha
        loaded = datasets.load_dataset(data_set, part, revision=revision)
    except Exception as error:  # whatever the hub, datasets and the network raise
        raise DataError(
            f"{task.name}: {data_set} could not be loaded from the hub "
            f"({type(error).__name__}: {one_line(error)}). Run the same command where "
            "huggingface.co can be reached."
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
    return splits, f"hub {data_set} {part or ''}@{revision}"
