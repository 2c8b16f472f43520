"""Scores tasks with lm-eval: loads a model once, shows our progress bar, checks lengths.

Reads an exported folder. Imports torch and lm-eval, so it is imported only to make scores.
"""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import lm_eval.evaluator
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers.utils.logging import disable_progress_bar

from pipeline.errors import DataError
from pipeline.evaluation.known_tasks import build_tasks, generated_tokens, silence_libraries
from pipeline.evaluation.results import HarnessResult
from pipeline.logs import progress
from pipeline.store.environment import environment
from pipeline.store.pretrained_folders import opening_options
from pipeline.store.records import Json

TokenRequest: TypeAlias = tuple[tuple[str, str] | None, list[int], list[int]]
"""Context and answer as text, ids of the context, ids of the answer."""
Likelihood: TypeAlias = tuple[float, bool]
"""Log-likelihood of an answer in nats; whether greedy decoding gives that answer."""


# lm-eval's decorators hide the real signatures from a type checker.
_TransformersModel: Any = HFLM
_simple_evaluate: Any = simple_evaluate


class HarnessModel(_TransformersModel):
    """lm-eval's transformers model, with one progress bar a call and a check of lengths."""

    def __init__(self, folder: Path, batch_sequences: int) -> None:
        """Load an exported folder. Raises DataError where it brings code."""
        options = opening_options(folder, str(folder))
        device = "cpu"
        if torch.cuda.is_available():
            device = "cuda"
        disable_progress_bar()
        with silence_libraries():
            super().__init__(
                pretrained=str(folder), batch_size=batch_sequences, device=device, **options
            )
        self.label = ""
        """Text beside the progress bar."""
        self.cut_requests: Counter[str] = Counter()
        """Task -> number of sequences that were too long for the model and lost their beginning."""
        self.requests: Counter[str] = Counter()
        """Task -> number of all its sequences."""
        self._tasks_of_requests: list[str] = []
        self._completed = 0
        self._update: Callable[[float, str], None] = lambda completed, detail: None

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[Likelihood]:
        """Score one answer for each request."""
        self._tasks_of_requests = [str(request.task_name) for request in requests]
        self.requests.update(self._tasks_of_requests)
        with self._progress(len(requests), "sequences"):
            return super().loglikelihood(requests, disable_tqdm=True)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Write one answer for each request.

        Raises DataError for a task whose answers may be as long as the model's context.
        """
        for request in requests:
            text, settings = request.arguments
            room = self.max_length - generated_tokens(settings)
            if room < 1:
                raise DataError(
                    f"{self.pretrained}: the model's context has {self.max_length} tokens, and "
                    f"{request.task_name} allows an answer of as many: none is left for the question. "
                    "Use a model with a longer context (max_position_embeddings), or other tasks "
                    "(evaluation.tasks)."
                )
            task = str(request.task_name)
            self.requests[task] += 1
            self.cut_requests[task] += len(self.tok_encode(text)) > room
        with self._progress(len(requests), "answers"):
            return super().generate_until(requests, disable_tqdm=True)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Score whole texts, in windows as long as the model's context."""
        self._tasks_of_requests = []  # windows always fit, so none is counted as cut
        windows = sum(
            -(-len(self.tok_encode(request.args[0])) // self.max_length) for request in requests
        )
        with self._progress(windows, "windows"):
            return super().loglikelihood_rolling(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self,
        requests: list[TokenRequest],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[Likelihood]:
        """Score answers; raises DataError for an answer that is longer than the model's context."""
        longest = max((len(answer) for _, _, answer in requests), default=0)
        if longest > self.max_length:
            raise DataError(
                f"{self.pretrained}: the model's context has {self.max_length} tokens and an answer "
                f"has {longest}. Use a model with a longer context (max_position_embeddings), or "
                "other tasks (evaluation.tasks)."
            )
        for task, (_, context, answer) in zip(self._tasks_of_requests, requests, strict=False):
            # The last token is predicted and not read, so that one token more fits.
            self.cut_requests[task] += len(context) + len(answer) > self.max_length + 1
        return super()._loglikelihood_tokens(requests, True, override_bs)

    def _model_call(
        self,
        inps: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        logits = super()._model_call(inps, attn_mask, labels)
        self._completed += len(inps)
        self._update(self._completed, "")
        return logits

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **settings: Json
    ) -> torch.Tensor:
        written = super()._model_generate(context, max_length, stop, **settings)
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
    """Return the harness's results of some tasks, with `chance` added.

    `shots`: solved examples before each question; None for the number that each task names.
    `label`: text beside the progress bar. Raises ConfigError for a task that cannot be built.
    """
    model.label = label
    model.cut_requests.clear()
    model.requests.clear()
    with silence_libraries(), _our_commit():
        asked, tasks = build_tasks(manager, names)
        # Standard errors of means need no bootstrap, but the harness leaves them out at
        # bootstrap_iters = 0. A few iterations are enough for the metrics that need it.
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
    assert results is not None  # on rank 0, which is the only one
    return as_json_value(
        {**results, "chance": {name: _chance(task) for name, task in tasks.items()}}
    )


def _chance(task: Task) -> float | None:
    """Return the mean share of right answers among a question's choices; None without choices."""
    if task.OUTPUT_TYPE != "multiple_choice" or not isinstance(task, ConfigurableTask):
        return None
    questions = {instance.doc_id: instance.doc for instance in task.instances}
    shares: list[float] = []
    for question in questions.values():
        target = task.doc_to_target(question)
        right = 1
        if isinstance(target, list):
            right = len(set(target))
        shares.append(right / len(task.doc_to_choice(question)))
    return sum(shares) / len(shares)


@contextmanager
def _our_commit() -> Generator[None]:
    """Let the harness record the commit of this code, not that of the current folder."""
    state = environment()["git"]
    commit = None
    if state is not None:
        commit = state["commit"]
    function_of_harness = lm_eval.evaluator.get_git_commit_hash
    lm_eval.evaluator.get_git_commit_hash = lambda: commit
    try:
        yield
    finally:
        lm_eval.evaluator.get_git_commit_hash = function_of_harness


def as_json_value(value: Any) -> Any:
    """Return a value as JSON can hold it: numpy's numbers as numbers, other types as text."""
    if isinstance(value, dict):
        return {str(key): as_json_value(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json_value(inner) for inner in value]
    if isinstance(value, float):
        return float(value)  # np.float64 is a subclass
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "item"):
        return value.item()
    return str(value)
