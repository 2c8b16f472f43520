"""A check in a process of its own: build the tasks that are not built in, with their data."""

from collections.abc import Sequence

from lm_eval.api.task import Task

from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, one_line
from pipeline.evaluation.asked_tasks import asked_tasks
from pipeline.evaluation.known_tasks import (
    build_tasks,
    generated_tokens,
    silence_libraries,
)
from pipeline.evaluation.task_facts import foreign_tasks
from pipeline.work.separate_checks import serve_separate_check


def check_tasks(config: RunConfig) -> dict[str, dict[str, int]]:
    """Return the fields of `task_facts.TaskFacts`.

    Raises ConfigError with all reasons why tasks cannot be scored.
    """
    settings = config.evaluation
    built = build_tasks(foreign_tasks(config), settings.task_paths, settings.tasks_dir)
    shots_of_tasks = built.shots_of_tasks(asked_tasks(config))
    problems: list[str] = []
    with silence_libraries():
        for name, task in built.single.items():
            problems += _problems_of(name, task, shots_of_tasks[name])
    if problems:
        raise ConfigError(problems)
    tasks = built.single
    return {
        "generated_tokens": {
            name: generated_tokens(task.config.generation_kwargs or {})
            for name, task in tasks.items()
            if _generates(task)
        }
    }


def _problems_of(name: str, task: Task, asked_shots: Sequence[int]) -> list[str]:
    """Return why a task cannot be scored: at most one message."""
    if getattr(task, "UNSAFE_CODE", False):
        return [
            f"evaluation.tasks: {name!r} runs code that the model writes, which is not offered; "
            "leave it out"
        ]
    if getattr(task, "MULTIMODAL", False):
        return [
            f"evaluation.tasks: {name!r} shows pictures or sounds to the model, which only reads "
            "text; leave it out"
        ]
    for shots in asked_shots:
        problem = _cannot_ask(name, task, shots)
        if problem:
            return [problem]
    return []


def _cannot_ask(name: str, task: Task, shots: int) -> str | None:
    """Return why the first question cannot be asked with `shots` examples; None where it can.

    Puts the question together as the evaluation will.
    """
    task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(seed=0)
    try:
        task.build_all_requests(limit=1, rank=0, world_size=1)
    except Exception as error:  # whatever templates, samplers and the task's own code raise
        reason = f"{type(error).__name__}: {one_line(error)}"
        return (
            f"evaluation.shots = {shots}: {name!r} cannot put a question together with {shots} "
            f"examples ({reason}); set fewer, or leave the task out"
        )
    return None


def _generates(task: Task) -> bool:
    """Tell whether the model writes its answers freely."""
    return task.OUTPUT_TYPE == "generate_until"


if __name__ == "__main__":
    serve_separate_check(check_tasks)
