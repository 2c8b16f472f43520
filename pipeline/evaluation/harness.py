"""lm-eval without its noise: one model loaded once, one call a set of tasks, a progress bar of ours.

Imports torch and lm-eval: import this module only when scores are to be made, and after `offline()`.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lm_eval.api.task
import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tqdm import tqdm

from pipeline.errors import ConfigError, DataError
from pipeline.logs import progress


SHARED_CONTEXT_TOKENS = 64
"""Contexts from this length on are computed once for all answers; shorter ones are faster in lm-eval's batches."""

Request = tuple[tuple[str, str] | None, list[int], list[int]]
"""The strings, the context's tokens, the answer's tokens."""
Score = tuple[float, bool]
"""Log-likelihood in nats; whether the answer is what greedy decoding gives."""


class Model(HFLM):
    """lm-eval's transformers model, with one progress bar a call, and economical where answers share their context.

    The context of a question is computed once and its keys and values are used for every answer, and what does not
    depend on the number of shots (an answer without a context) is computed once in all. The log-likelihoods are those
    of lm-eval's own path up to rounding; with 5 shots and 4 answers it is about 3 times as fast.
    """

    def __init__(self, folder: Path, batch_sequences: int) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with quiet():
            super().__init__(pretrained=str(folder), batch_size=batch_sequences, device=device)
        self.label = ""
        self.cut_requests = 0
        self._without_context: dict[tuple[int, ...], Score] = {}
        self._progress: Callable[[int], None] = lambda sequences: None

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Score]:
        return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        return super().loglikelihood_rolling(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Score]:
        self._check_lengths(requests)
        scores: list[Score | None] = [None] * len(requests)
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, (_, context, answer) in enumerate(requests):
            if len(context) == 1 and tuple(answer) in self._without_context:
                scores[index] = self._without_context[tuple(answer)]
            elif len(context) >= SHARED_CONTEXT_TOKENS and len(context) + len(answer) <= self.max_length:
                groups.setdefault(tuple(context), []).append(index)
        completed = sum(score is not None for score in scores)
        with progress(self.label, len(requests), "sequences") as update:

            def advance(sequences: int) -> None:
                nonlocal completed
                completed += sequences
                update(completed, "")

            self._progress = advance
            answers = [[requests[index][2] for index in members] for members in groups.values()]
            found = self._map(self._score_answers, [list(context) for context in groups], answers)
            for members, group in zip(groups.values(), found, strict=True):
                advance(len(members))
                for index, score in zip(members, group, strict=True):
                    scores[index] = score
            left = [index for index, score in enumerate(scores) if score is None]
            rest = [requests[index] for index in left]
            for index, score in zip(left, super()._loglikelihood_tokens(rest, True, override_bs), strict=True):
                scores[index] = score
        for (name, context, answer), score in zip(requests, scores, strict=True):
            if name is not None and len(context) == 1 and score is not None:  # windows of rolling texts have no name
                self._without_context[tuple(answer)] = score
        return [score for score in scores if score is not None]

    def _check_lengths(self, requests: list[Request]) -> None:
        longest = max((len(answer) for _, _, answer in requests), default=0)
        if longest > self.max_length:
            raise DataError(
                f"{self.pretrained}: the model sees {self.max_length} tokens and an answer has {longest}. Take a model "
                f"with a longer context (max_position_embeddings), or other tasks (evaluation.tasks)."
            )
        # The last token is only predicted, never read: so one more than the context fits.
        self.cut_requests += sum(len(context) + len(answer) > self.max_length + 1 for _, context, answer in requests)

    @torch.no_grad()
    def _score_answers(self, context: list[int], answers: list[list[int]]) -> list[Score]:
        """Return each answer's log-likelihood after the same context, and whether it is the model's first choice."""
        scores: list[Score] = []
        for start in range(0, len(answers), int(self.batch_size)):
            chunk = answers[start : start + int(self.batch_size)]
            prefix = torch.tensor([context[:-1]], device=self.device)
            cache = self.model(prefix, use_cache=True, logits_to_keep=1).past_key_values
            cache.batch_repeat_interleave(len(chunk))
            width = max(map(len, chunk))
            # Padding stands on the right, where a causal model's earlier positions do not see it.
            rows = [[context[-1], *answer[:-1], *[0] * (width - len(answer))] for answer in chunk]
            logits = self.model(torch.tensor(rows, device=self.device), past_key_values=cache).logits
            logs = torch.nn.functional.log_softmax(logits, dim=-1, dtype=self.softmax_dtype)
            for row, answer in zip(logs, chunk, strict=True):
                expected = torch.tensor(answer, device=self.device)
                taken = row[: len(answer)].gather(1, expected[:, None])
                greedy = bool((row[: len(answer)].argmax(-1) == expected).all())
                scores.append((float(taken.sum()), greedy))
        return scores

    def _map(
        self,
        function: Callable[[list[int], list[list[int]]], list[Score]],
        contexts: list[list[int]],
        answers: list[list[list[int]]],
    ) -> Iterator[list[Score]]:
        """Apply a function to every question: on CPU to one a core, as several cores on one small question wait more than
        they work (and on a busy machine do little else)."""
        if self.device.type != "cpu":
            yield from map(function, contexts, answers)
            return
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(function, contexts, answers)

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        logits = super()._model_call(inps, *args, **kwargs)
        self._progress(len(inps))
        return logits


def find_tasks(
    names: Sequence[str], folders: Sequence[Path], collections: Sequence[bool] = (False, True)
) -> TaskManager:
    """Return a manager that knows the tasks; lm-eval's own collection is searched only for names not in the folders.

    Raises ConfigError naming those that are nowhere.
    """
    unknown = list(names)
    for with_collection in collections:  # indexing lm-eval's takes 20 s
        manager = TaskManager(include_path=[str(f) for f in folders], include_defaults=with_collection)
        unknown = [name for name in names if name not in manager.all_tasks]
        if not unknown:
            return manager
    raise ConfigError(
        [
            f"evaluation.tasks: {name!r} is no built-in task, not in evaluation.task_paths and not a task of lm-eval"
            for name in unknown
        ]
    )


def score(model: Model, manager: TaskManager, names: Sequence[str], shots: int | None, label: str) -> dict[str, Any]:
    """Return the harness's results of the tasks at `shots` solved examples (None: as each task says)."""
    model.label, model.cut_requests = label, 0
    with quiet():
        # Standard errors of means come in closed form, but the harness leaves them out at bootstrap_iters = 0; a few
        # iterations are enough for metrics that really need the bootstrap.
        results = simple_evaluate(
            model=model,
            tasks=list(names),
            num_fewshot=shots,
            batch_size=model.batch_size,
            device=str(model.device),
            task_manager=manager,
            bootstrap_iters=1000,
            log_samples=False,
        )
    assert results is not None  # None comes back on ranks above 0 only
    return plain(results)


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: numpy numbers (some metrics are np.float64) as numbers, the rest as text."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return float(value) if isinstance(value, float) else value  # np.float64 is a float of another type
    return value.item() if hasattr(value, "item") else str(value)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the harness's log lines, warnings and bars from the terminal; errors still come through."""
    before, bar = logging.root.manager.disable, lm_eval.api.task.tqdm
    logging.disable(logging.WARNING)
    lm_eval.api.task.tqdm = partial(tqdm, disable=True)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        lm_eval.api.task.tqdm = bar
