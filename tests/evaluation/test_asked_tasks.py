"""The tasks that a run file asks for: its own and those of its suite."""

from pathlib import Path

import pytest
from own_tasks import write_task
from stored_questions import write_small_tasks

from pipeline.config.evaluation_section import Evaluation
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.evaluation.asked_tasks import asked_suite, asked_tasks
from pipeline.evaluation.known_tasks import build_tasks

JOBS = Path(__file__).parents[2] / "jobs"
BUILT_IN = ("heldout_cloze", "patterns", "arithmetic")


def asking(**settings: object) -> RunConfig:
    """Return the quickstart's settings with another section `evaluation`."""
    config = load(JOBS / "quickstart.yaml")
    return config.model_copy(update={"evaluation": Evaluation.model_validate(settings)})


def test_a_suite_brings_its_own_numbers_of_examples(tmp_path: Path) -> None:
    tasks = write_small_tasks(tmp_path)
    asked = asked_tasks(asking(tasks=("copa",), suite="pythia", tasks_dir=tasks.path))
    assert asked["copa"] == (0, 1, 5)
    assert asked["piqa"] == (0, 5)
    assert "logiqa" not in asked
    given = asking(tasks=("copa",), suite="pythia", shots=(3, 1))
    assert set(asked_tasks(given).values()) == {(1, 3)}


def test_what_has_to_come_from_elsewhere_is_asked_once_it_is_here(tmp_path: Path) -> None:
    tasks = write_small_tasks(tmp_path)
    tasks.task("copa").rename(tasks.task("logiqa"))
    suite = asked_suite(asking(suite="pythia", tasks_dir=tasks.path))
    assert suite is not None
    assert "logiqa" in [task.name for task in suite.tasks]
    assert "logiqa" not in suite.missing


def test_each_task_is_asked_as_the_name_says_that_it_was_built_for(tmp_path: Path) -> None:
    write_task(tmp_path, "parity", tag=["numbers"])
    write_task(tmp_path, "parity_alone", num_fewshot=0)
    questions = tmp_path / "sums.jsonl"
    questions.write_text('{"query": "1 + 1 =", "choices": ["2", "3"], "gold": 0}\n' * 9)
    asked = dict.fromkeys(("numbers", "parity_alone", str(questions)), (0, 5))
    built = build_tasks(list(asked), [tmp_path])
    assert built.shots_of_tasks(asked) == {
        "parity": (0, 5),
        "parity_alone": (0,),
        "sums": (0, 5),
    }
    assert set(built.shots_of_tasks({"copa": (1,)}).values()) == {(0,)}


def test_the_quickstart_asks_the_built_in_tasks() -> None:
    asked = asked_tasks(load(JOBS / "quickstart.yaml"))
    assert asked == dict.fromkeys(BUILT_IN, (0, 1, 5))


def test_a_suite_is_scored_without_cloze_where_no_source_has_text() -> None:
    changes = [
        "sources={ids: {kind: megatron, paths: [one]}}",
        "data.mixture={ids: 1}",
        "tokenizer={kind: pretrained, path: made}",
    ]
    with pytest.raises(ConfigError, match="require_cloze_standard_errors: needs heldout_cloze"):
        load(JOBS / "quickstart.yaml", changes)
    ids = load(
        JOBS / "quickstart.yaml", [*changes, "evaluation.require_cloze_standard_errors=null"]
    )
    assert set(asked_tasks(ids)) == {"patterns", "arithmetic"}
    suite = asked_suite(ids)
    assert suite is not None
    assert suite.missing == {"heldout_cloze": "made from held-out text, and no source has text"}


@pytest.mark.parametrize("size", ["125m", "350m", "1.3b"])
def test_the_large_jobs_score_pythias_tasks(size: str) -> None:
    config = load(JOBS / f"gpt-{size}.yaml")
    settings = config.evaluation
    assert settings.suite == "pythia"
    assert settings.tasks_dir is not None
    assert "mmlu" in asked_tasks(config)
