"""The tasks of DCLM's CORE: which file of llm-foundry's local_data, in which shape.

Source: mlfoundations/dclm@361714b eval/mmlu_and_lowvar.yaml (files, delimiters) and
eval/additional_aggregation.json (`low_variance_datasets`, the tasks of CORE).
"""

from dataclasses import dataclass

from pipeline.evaluation.task_data.question_shapes import Shape

_ANSWER = "\nAnswer: "


@dataclass(frozen=True)
class CoreFile:
    """One task of CORE."""

    name: str
    """Name of the task here."""
    file: str
    """Name of its file, without the suffix."""
    shape: Shape = "choices"
    delimiter: str = " "
    """Text between question and answer."""


CORE_FILES = (
    CoreFile("core_agi_eval_lsat_ar", "agi_eval_lsat_ar"),
    CoreFile("core_arc_challenge", "arc_challenge", delimiter=_ANSWER),
    CoreFile("core_arc_easy", "arc_easy", delimiter=_ANSWER),
    CoreFile("core_bigbench_cs_algorithms", "bigbench_cs_algorithms", "continuation"),
    CoreFile("core_bigbench_dyck_languages", "bigbench_dyck_languages", "continuation"),
    CoreFile("core_bigbench_language_identification", "bigbench_language_identification"),
    CoreFile("core_bigbench_operators", "bigbench_operators", "continuation"),
    CoreFile("core_bigbench_qa_wikidata", "bigbench_qa_wikidata", "continuation"),
    CoreFile("core_bigbench_repeat_copy_logic", "bigbench_repeat_copy_logic", "continuation"),
    CoreFile("core_boolq", "boolq", delimiter=_ANSWER),
    CoreFile("core_commonsense_qa", "commonsense_qa"),
    CoreFile("core_copa", "copa"),
    CoreFile("core_coqa", "coqa", "continuation"),
    CoreFile("core_hellaswag", "hellaswag"),
    CoreFile("core_jeopardy", "jeopardy_all", "continuation", _ANSWER),
    CoreFile("core_lambada_openai", "lambada_openai", "continuation"),
    CoreFile("core_openbook_qa", "openbook_qa"),
    CoreFile("core_piqa", "piqa", delimiter=_ANSWER),
    CoreFile("core_squad", "squad", "continuation"),
    CoreFile("core_winograd", "winograd_wsc", "schema"),
    CoreFile("core_winogrande", "winogrande", "schema"),
)
"""The tasks, sorted; HellaSwag is asked with two numbers of examples."""
