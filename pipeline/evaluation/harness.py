"""lm-eval without its noise: one model loaded once, one call a set of tasks, a progress bar of ours.

Imports torch and lm-eval: import this module only when scores are to be made.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
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
from pipeline.pretrained_folders import opening_options

Request = tuple[tuple[str, str] | None, list[int], list[int]]
"""The strings, the context's tokens, the answer's tokens."""
Score = tuple[float, bool]
"""Log-likelihood in nats; whether the answer is what greedy decoding gives."""


# lm-eval's decorators hide the real signatures from a type checker.
_HarnessModel: Any = HFLM
_simple_evaluate: Any = simple_evaluate


class Model(_HarnessModel):
    """lm-eval's transformers model as it is, with one progress bar a call and a check of lengths."""

    def __init__(self, folder: Path, batch_sequences: int) -> None:
        """Load an exported folder. Raises DataError where it brings code."""
        options = opening_options(folder, str(folder))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with quiet():
            super().__init__(pretrained=str(folder), batch_size=batch_sequences, device=device, **options)
        self.label = ""
        self.cut_requests = 0
        self._completed = 0
        self._update: Callable[[float, str], None] = lambda completed, detail: None

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Score]:
        with self._progress(len(requests), "sequences"):
            return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        windows = sum(-(-len(self.tok_encode(request.args[0])) // self.max_length) for request in requests)
        with self._progress(windows, "windows"):
            return super().loglikelihood_rolling(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Score]:
        longest = max((len(answer) for _, _, answer in requests), default=0)
        if longest > self.max_length:
            raise DataError(
                f"{self.pretrained}: the model sees {self.max_length} tokens and an answer has {longest}. Take a model "
                f"with a longer context (max_position_embeddings), or other tasks (evaluation.tasks)."
            )
        # The last token is only predicted, never read: so one more than the context fits.
        self.cut_requests += sum(len(context) + len(answer) > self.max_length + 1 for _, context, answer in requests)
        return super()._loglikelihood_tokens(requests, True, override_bs)

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        logits = super()._model_call(inps, *args, **kwargs)
        self._completed += len(inps)
        self._update(self._completed, "")
        return logits

    @contextmanager
    def _progress(self, total: int, unit: str) -> Iterator[None]:
        self._completed = 0
        with progress(self.label, total, unit) as self._update:
            yield


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
        results = _simple_evaluate(
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
