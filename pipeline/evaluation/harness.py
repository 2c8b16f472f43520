"""Scoring with lm-eval: one model loaded once, one call for a set of tasks, our progress bar.

Reads an exported folder. Imports torch and lm-eval: import this module only to make scores.
"""

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lm_eval.evaluator
import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers.utils import logging as transformers_logging

from pipeline.errors import DataError
from pipeline.evaluation.known_tasks import build_tasks, generated_tokens, silence_libraries
from pipeline.evaluation.results import HarnessResult
from pipeline.logs import progress
from pipeline.store.environment import environment
from pipeline.store.pretrained_folders import opening_options

Request = tuple[tuple[str, str] | None, list[int], list[int]]
"""The strings, the context's tokens, the answer's tokens."""
Score = tuple[float, bool]
"""Log-likelihood in nats; whether the answer is what greedy decoding gives."""


# lm-eval's decorators hide the real signatures from a type checker.
_TransformersModel: Any = HFLM
_simple_evaluate: Any = simple_evaluate


class HarnessModel(_TransformersModel):
    """The transformers model of lm-eval, with one progress bar a call and a check of lengths."""

    def __init__(self, folder: Path, batch_sequences: int) -> None:
        """Load an exported folder. Raises DataError where it brings code."""
        options = opening_options(folder, str(folder))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        transformers_logging.disable_progress_bar()
        with silence_libraries():
            super().__init__(
                pretrained=str(folder), batch_size=batch_sequences, device=device, **options
            )
        self.label = ""
        self.cut_requests: Counter[str] = Counter()
        """Sequences that were too long for the model and lost their beginning, by task."""
        self.requests: Counter[str] = Counter()
        """All sequences, by task."""
        self._asked_by: list[str] = []
        self._completed = 0
        self._update: Callable[[float, str], None] = lambda completed, detail: None

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Score]:
        self._asked_by = [request.task_name for request in requests]
        self.requests.update(self._asked_by)
        with self._progress(len(requests), "sequences"):
            return super().loglikelihood(requests, disable_tqdm=True)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        for request in requests:
            text, settings = request.args
            room = self.max_length - generated_tokens(settings)
            if room < 1:
                raise DataError(
                    f"{self.pretrained}: the model sees {self.max_length} tokens, and "
                    f"{request.task_name} has it write as "
                    f"many: nothing is left for the question. Take a model with a longer context "
                    f"(max_position_embeddings), or other tasks (evaluation.tasks)."
                )
            self.requests[request.task_name] += 1
            self.cut_requests[request.task_name] += len(self.tok_encode(text)) > room
        with self._progress(len(requests), "answers"):
            return super().generate_until(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        self._asked_by = []  # windows are made to fit
        windows = sum(
            -(-len(self.tok_encode(request.args[0])) // self.max_length) for request in requests
        )
        with self._progress(windows, "windows"):
            return super().loglikelihood_rolling(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Score]:
        longest = max((len(answer) for _, _, answer in requests), default=0)
        if longest > self.max_length:
            raise DataError(
                f"{self.pretrained}: the model sees {self.max_length} tokens and an answer has "
                f"{longest}. Take a model "
                "with a longer context (max_position_embeddings), or other tasks "
                "(evaluation.tasks)."
            )
        for task, (_, context, answer) in zip(self._asked_by, requests, strict=False):
            # The last token is only predicted, never read: so one more than the context fits.
            self.cut_requests[task] += len(context) + len(answer) > self.max_length + 1
        return super()._loglikelihood_tokens(requests, True, override_bs)

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        logits = super()._model_call(inps, *args, **kwargs)
        self._completed += len(inps)
        self._update(self._completed, "")
        return logits

    def _model_generate(self, context: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        written = super()._model_generate(context, *args, **kwargs)
        self._completed += len(context)
        self._update(self._completed, "")
        return written

    @contextmanager
    def _progress(self, total: int, unit: str) -> Generator[None]:
        self._completed = 0
        with progress(self.label, total, unit) as self._update:
            yield


def score(
    model: HarnessModel, manager: TaskManager, names: Sequence[str], shots: int | None, label: str
) -> HarnessResult:
    """Return the harness's results of the tasks with `shots` solved examples.

    `shots` = None: as many as each task says. `chance` is added: for each task with choices, the
    share of questions that guessing gets right. Raises ConfigError for a task that cannot be built.
    """
    model.label = label
    model.cut_requests.clear()
    model.requests.clear()
    with silence_libraries(), _our_commit():
        asked, tasks = build_tasks(manager, names)
        # Standard errors of means come in closed form, but the harness leaves them out at
        # bootstrap_iters = 0; a few iterations are enough for metrics that really need the
        # bootstrap.
        results = _simple_evaluate(
            model=model,
            tasks=asked,
            num_fewshot=shots,
            batch_size=model.batch_size,
            device=str(model.device),
            task_manager=manager,
            bootstrap_iters=1000,
            log_samples=False,
        )
    assert results is not None  # None comes back on ranks above 0 only
    return as_json_value(
        {**results, "chance": {name: _chance(task) for name, task in tasks.items()}}
    )


def _chance(task: Any) -> float | None:
    """Return the mean share of right answers among a question's choices; None without choices."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return None
    docs: Mapping[int, Any] = {instance.doc_id: instance.doc for instance in task.instances}
    shares = []
    for doc in docs.values():
        target = task.doc_to_target(doc)
        right = len(set(target)) if isinstance(target, list) else 1
        shares.append(right / len(task.doc_to_choice(doc)))
    return sum(shares) / len(shares)


@contextmanager
def _our_commit() -> Generator[None]:
    """Let the harness record the commit of this code; by itself it runs git in the current folder."""
    state = environment()["git"]
    asks_git = lm_eval.evaluator.get_git_commit_hash
    lm_eval.evaluator.get_git_commit_hash = lambda: state["commit"] if state else None
    try:
        yield
    finally:
        lm_eval.evaluator.get_git_commit_hash = asks_git


def as_json_value(value: Any) -> Any:
    """Return a value as JSON can hold it: numpy's numbers as numbers, unknown types as text."""
    if isinstance(value, dict):
        return {str(key): as_json_value(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json_value(inner) for inner in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return (
            float(value) if isinstance(value, float) else value
        )  # np.float64 is a float of another type
    return value.item() if hasattr(value, "item") else str(value)
