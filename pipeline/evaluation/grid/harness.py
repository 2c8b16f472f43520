"""Scores a task with lm-eval: a loaded model as lm-eval's own, and one cell of scores at a time.

Imports torch and lm-eval, so it is imported only to make scores.
"""

import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

import lm_eval
import numpy as np
import torch
import xxhash
from lm_eval.api.instance import Instance
from lm_eval.api.task import Task
from lm_eval.models.huggingface import HFLM

from pipeline.errors import DataError
from pipeline.evaluation.cells import Answer, Item
from pipeline.evaluation.known_tasks import generated_tokens, silence_libraries
from pipeline.evaluation.models import LoadedModel
from pipeline.evaluation.results import HarnessResult, TaskKind
from pipeline.evaluation.scorer.model_fit import UnfitModel
from pipeline.evaluation.scorer.sharing_scorer import SharingScorer
from pipeline.evaluation.scorer.slices import WHOLE, Likelihood
from pipeline.evaluation.task_data.compiled_templates import templates_compiled_once
from pipeline.evaluation.task_data.items import right_answers
from pipeline.logs import progress
from pipeline.store.records import Json

TokenRequest: TypeAlias = tuple[tuple[str, str] | None, list[int], list[int]]
"""Context and answer as text, ids of the context, ids of the answer."""
StoredCall: TypeAlias = tuple[str, list[Likelihood]]
"""Hash of the requests of a call, and their likelihoods."""
UNSCORED: Likelihood = (0.0, False)
"""What stands for the likelihood of a request of another part of a cell."""
BOOTSTRAP_ITERATIONS = 1000
"""Standard errors of means need no bootstrap, but lm-eval leaves them out at 0."""

Progress: TypeAlias = Callable[
    [str, float, str], AbstractContextManager[Callable[[float, str], None]]
]
"""`(label, total, unit)`: a context that yields `update(completed, detail)`."""

# lm-eval's decorators hide the real signatures from a type checker.
_TransformersModel: Any = HFLM
_evaluate: Any = lm_eval.evaluate


class StalePartsError(Exception):
    """The stored parts of a cell answer other requests than are made now."""


class HarnessModel(_TransformersModel):
    """lm-eval's transformers model, with one progress bar a call and a check of lengths."""

    def __init__(self, loaded: LoadedModel, batch_sequences: int, shares_contexts: bool) -> None:
        """Score with a model that is in memory, on a GPU where there is one.

        With `shares_contexts`, answers are scored with each context read once, where the model's
        architecture allows it; otherwise as lm-eval does, `batch_sequences` at a time.
        """
        # lm-eval's model, on the device.
        device = "cpu"
        if torch.cuda.is_available():
            device = "cuda"
        with silence_libraries():
            super().__init__(
                pretrained=torch.nn.Module.to(loaded.model, device),
                tokenizer=loaded.tokenizer,
                batch_size=batch_sequences,
            )
        self.name = loaded.name
        """The model, for messages."""

        # What scores answers.
        self.scorer = "harness"
        """`sharing`, or `harness` with the reason why the model does not share contexts."""
        self._sharing: SharingScorer | None = None
        if shares_contexts:
            try:
                self._sharing = SharingScorer(loaded.model, self.max_length)
                self.scorer = "sharing"
            except UnfitModel as error:
                self.scorer = f"harness ({error})"

        # Which part of a cell is scored.
        self.part = WHOLE
        """The part that the next calls score; the other requests' likelihoods are 0."""
        self.calls: list[dict[int, Likelihood]] = []
        """Likelihoods of the part by request, of each call since `score_task` began."""
        self.requests_of_calls: list[str] = []
        """Hash of all requests of each of these calls; empty where a whole cell is scored."""
        self.replayed: Iterator[StoredCall] | None = None
        """Instead of scoring: the likelihoods that the next calls return, with their hashes."""

        # What messages and the progress bar need.
        self.label = ""
        """Text beside the progress bar."""
        self.encoded: list[tuple[int, int]] = []
        """Tokens of the context and of the answer, of each request of the last call."""
        self._asked: list[Instance] = []
        """Requests of the last call that scores answers, for messages."""
        self.requests = 0
        """Sequences that the last task's questions needed."""
        self.cut_requests = 0
        """Those of them that were too long for the model and lost their beginning."""
        self.progress: Progress = progress
        """Shows the progress of a call."""
        self._completed = 0
        self._update: Callable[[float, str], None] = lambda completed, detail: None

    @property
    def computes_as(self) -> str:
        """What decides the likelihoods of this model besides its weights and the requests."""
        return f"{self.scorer}, {self.model.dtype}, {self.device.type}"

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[Likelihood]:
        """Score one answer for each request."""
        self._asked = requests
        with self._progress(len(requests), "sequences"):
            return super().loglikelihood(requests, disable_tqdm=True)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Write one answer for each request.

        Raises DataError for a task whose answers may be as long as the model's context.
        """
        self.encoded = []
        for request in requests:
            text, settings = request.arguments
            room = self.max_length - generated_tokens(settings)
            if room < 1:
                raise DataError(
                    f"{self.name}: the model's context has {self.max_length} tokens, and "
                    f"{request.task_name} allows an answer of as many: none is left for the question. "
                    "Use a model with a longer context (max_position_embeddings), or other tasks "
                    "(evaluation.tasks)."
                )
            self.encoded.append((len(self.tok_encode(text)), generated_tokens(settings)))
        with self._progress(len(requests), "answers"):
            return super().generate_until(requests, disable_tqdm=True)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Score whole texts, in windows as long as the model's context."""
        lengths = [len(self.tok_encode(request.args[0])) for request in requests]
        windows = sum(-(-length // self.max_length) for length in lengths)
        with self._progress(windows, "windows"):
            values = super().loglikelihood_rolling(requests, disable_tqdm=True)
        # Windows always fit, so none of a text's tokens counts as context that could be cut.
        self.encoded = [(0, length) for length in lengths]
        return values

    def is_cut(self, context: int, answer: int) -> bool:
        """Tell whether a sequence of so many tokens is longer than the model can read."""
        # The last token is predicted and not read, so that one token more fits.
        return context > 0 and context + answer > self.max_length + 1

    def _loglikelihood_tokens(
        self,
        requests: list[TokenRequest],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[Likelihood]:
        """Score answers; raises DataError for an answer that is longer than the model's context."""
        lengths = [len(answer) for _, _, answer in requests]
        longest = max(lengths, default=0)
        if longest > self.max_length:
            # Texts are scored in windows that always fit, so that these are answers to questions.
            question = self._asked[lengths.index(longest)]
            raise DataError(
                f"{self.name}: the model's context has {self.max_length} tokens and an answer "
                f"has {longest}: task {question.task_name}, question {question.doc_id} (from 0). Use "
                "a model with a longer context (max_position_embeddings), or other tasks "
                "(evaluation.tasks)."
            )
        self.encoded = [(len(context), len(answer)) for _, context, answer in requests]
        if self.replayed is not None:
            hash_of_requests, likelihoods = next(self.replayed)
            if hash_of_requests != _hash_of_requests(requests):
                raise StalePartsError
            return likelihoods
        if self.part != WHOLE:
            self.requests_of_calls.append(_hash_of_requests(requests))
        scored = self._score_part(requests, override_bs)
        self.calls.append(scored)
        return [scored.get(index, UNSCORED) for index in range(len(requests))]

    def _score_part(
        self, requests: list[TokenRequest], override_bs: int | None
    ) -> dict[int, Likelihood]:
        """Return the likelihoods of the requests of `part` by their indices."""
        if self._sharing is not None:
            answers = [(context, answer) for _, context, answer in requests]
            return self._sharing.likelihoods_of_part(answers, self.part, self._update)
        # The harness sorts all requests together, so that none may be scored without the others.
        if self.part.number:
            return {}
        return dict(enumerate(super()._loglikelihood_tokens(requests, True, override_bs)))

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
        with self.progress(self.label, total, unit) as self._update:
            yield


def score_task(
    model: HarnessModel, name: str, task: Task, shots: int, seed: int, limit: int | None
) -> tuple[HarnessResult, list[Item]]:
    """Return lm-eval's result of one task, and each of its questions.

    `shots`: solved examples before each question, chosen by `seed`. `limit`: number of questions,
    the first ones; None for all. Randomness that a task's own code uses begins as it does in
    `lm_eval run`.
    """
    model.calls = []
    model.requests_of_calls = []
    random.seed(0)
    np.random.seed(1234)
    torch.manual_seed(1234)
    task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(seed=seed)
    with silence_libraries(), templates_compiled_once():
        result = _evaluate(
            lm=model,
            task_dict={"tasks": {name: task}, "groups": {}},
            limit=limit,
            bootstrap_iters=BOOTSTRAP_ITERATIONS,
        )
        assert result is not None  # on rank 0, which is the only one
        samples = result.pop("samples")[name]
        encoded = list(model.encoded)
        model.requests = len(encoded)
        model.cut_requests = sum(model.is_cut(*tokens) for tokens in encoded)
        unconditional = _unconditional(model, task)
    items = _items(model, task, samples, encoded, unconditional)
    return as_json_value(result), items


def _hash_of_requests(requests: Sequence[TokenRequest]) -> str:
    """Return the number of requests and a hash of all their token ids, as `number-hash`."""
    content = xxhash.xxh3_128()
    for _, context, answer in requests:
        content.update(np.array([len(context), len(answer), *context, *answer], "<i8").tobytes())
    return f"{len(requests)}-{content.hexdigest()}"


def _unconditional(model: HarnessModel, task: Task) -> Mapping[str, float]:
    """Return the log-likelihoods of a task's distinct answers without their questions, in nats.

    Empty for tasks without choices, and where the answers are contexts.
    """
    if kind_of(task) != "multiple_choice" or getattr(task, "multiple_input", 0):
        return {}
    answers = list(dict.fromkeys(str(instance.args[-1]) for instance in task.instances))
    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=("", answer), idx=number)
        for number, answer in enumerate(answers)
    ]
    values = model.loglikelihood(requests)
    return {answer: value for answer, (value, _) in zip(answers, values, strict=True)}


def _items(
    model: HarnessModel,
    task: Task,
    samples: Sequence[Mapping[str, Any]],
    encoded: Sequence[tuple[int, int]],
    unconditional: Mapping[str, float],
) -> list[Item]:
    """Return a row for each question, in the order of the task's evaluation split.

    `samples`: lm-eval's records, one for each question and filter. `encoded`: tokens of context and
    answer, for each of the task's instances in their order.
    """
    # A question's requests stand together; all filters of a question share them.
    lengths: dict[int, list[tuple[int, int]]] = {}
    requests: dict[int, list[Instance]] = {}
    for instance, tokens in zip(task.instances, encoded, strict=True):
        assert instance.doc_id is not None
        lengths.setdefault(instance.doc_id, []).append(tokens)
        requests.setdefault(instance.doc_id, []).append(instance)

    # A question with several filters has a sample for each, which differ in their metrics.
    items: dict[int, Item] = {}
    for sample in samples:
        number = sample["doc_id"]
        metrics = {
            _metric_name(metric, sample["filter"]): float(sample[metric])
            for metric in sample["metrics"]
            if isinstance(sample[metric], int | float | np.number)
        }
        if number in items:
            items[number]["metrics"] |= metrics
            continue
        written = None
        answers: list[Answer] = []
        right: list[int] = []
        if kind_of(task) == "generate_until":
            written = str(requests[number][0].resps[0])
        else:
            right = right_answers(task, sample["doc"])
            texts = _answer_texts(task, sample["doc"], requests[number])
            answers = [
                _answer(text, instance, tokens[1], unconditional)
                for text, instance, tokens in zip(
                    texts, requests[number], lengths[number], strict=False
                )
            ]
        items[number] = {
            "id": number,
            "hash": sample["doc_hash"],
            "answers": answers,
            "right": right,
            "cut": any(model.is_cut(*tokens) for tokens in lengths[number]),
            "written": written,
            "metrics": metrics,
        }
    return list(items.values())


def _metric_name(metric: str, filter_name: str) -> str:
    if filter_name == "none":
        return metric
    return f"{metric} ({filter_name})"


def _answer(
    text: str, instance: Instance, tokens: int, unconditional: Mapping[str, float]
) -> Answer:
    """Return what the model thinks of one answer; `text` is the answer without its delimiter."""
    response = instance.resps[0]
    if isinstance(response, tuple):
        value, is_greedy = response
    else:  # a whole text
        value = response
        is_greedy = False
    return {
        "log_likelihood": float(value),
        "is_greedy": bool(is_greedy),
        "characters": len(text),
        "bytes": len(text.encode()),
        "tokens": tokens,
        "unconditional": unconditional.get(instance.args[-1]),
    }


def _answer_texts(
    task: Task, question: Mapping[str, Any], requests: Sequence[Instance]
) -> list[str]:
    """Return the answers of a question as lm-eval measures their lengths."""
    if kind_of(task) == "multiple_choice":
        return list(task.doc_to_choice(question))  # pyright: ignore[reportAttributeAccessIssue]
    return [requests[0].args[-1]]


def kind_of(task: Task) -> TaskKind:
    """Return how a task asks."""
    kind: Any = task.OUTPUT_TYPE
    return kind


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
