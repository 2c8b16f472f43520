"""The table of the parts of the annotations, in the order of their columns."""

from collections.abc import Sequence

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.language import Language
from pipeline.corpus.annotating.minhash import MinHashBands
from pipeline.corpus.annotating.paragraphs import ParagraphHashes
from pipeline.corpus.annotating.part import AnnotationPart
from pipeline.corpus.annotating.pii import PersonalData
from pipeline.corpus.annotating.published_attributes import PublishedAttributes
from pipeline.corpus.annotating.published_duplicate import PublishedDuplicate
from pipeline.corpus.annotating.signals.signals_part import QualitySignals
from pipeline.corpus.annotating.text_hash import TextHash
from pipeline.corpus.decontaminating.contamination_part import Contamination

PARTS: tuple[type[AnnotationPart], ...] = (
    QualitySignals,
    Language,
    PersonalData,
    TextHash,
    MinHashBands,
    ParagraphHashes,
    Contamination,
    PublishedDuplicate,
    PublishedAttributes,
)


def parts_asked_for(
    config: RunConfig, parts: Sequence[type[AnnotationPart]] = PARTS
) -> Sequence[AnnotationPart]:
    """Return those of some parts that the run file asks for, in their order.

    Raises ConfigError where one of them cannot be made.
    """
    asked = [part.asked_for(config) for part in parts]
    return [part for part in asked if part is not None]
