"""Tables of kinds: for each name that a setting may have, the class that implements it.

The classes are in the folders that do the work, and those folders import `config`. A table
therefore holds import paths, and a class is imported when it is first needed. A new kind is one new
file, and one line here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from pydantic_core import PydanticKnownError, core_schema


class KindTable:
    """The kinds that one setting can name, and their objects."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        """Take the class of each kind as `module:Class`; its constructor takes no arguments."""
        self.paths = dict(paths)

    def __contains__(self, name: object) -> bool:
        return name in self.paths

    def __getitem__(self, name: str) -> Any:
        """Return the object of a kind, always the same one; import its class if necessary."""
        return _object_at(self.paths[name])


@cache
def _object_at(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)()


@dataclass(frozen=True, eq=False)
class KindName:
    """Pydantic annotation of a field that accepts only the names in a table of kinds."""

    table: KindTable
    others: tuple[str, ...] = ()
    """Names that the field accepts, too, and that stand for no kind."""

    def __get_pydantic_core_schema__(self, *_: object) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    @property
    def words(self) -> str:
        """The names, as `pipeline config --describe` prints the type of a field."""
        return f"one of {', '.join(self._names)}"

    @property
    def _names(self) -> tuple[str, ...]:
        return (*self.others, *self.table.paths)

    def _check(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self._names:
            expected = quoted_choices(self._names)
            raise PydanticKnownError("literal_error", {"expected": expected})
        return value


def quoted_choices(names: Iterable[str]) -> str:
    """Return names as pydantic lists the values of a Literal: `'a', 'b' or 'c'`."""
    quoted = [repr(name) for name in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"


OPTIMIZERS = KindTable(
    {
        "muon": "pipeline.engine.optimizers.muon:MuonKind",
        "adamw": "pipeline.engine.optimizers.adamw:AdamWKind",
    }
)
"""Optimizers (`pipeline/engine/optimizers`)."""

SCHEDULES = KindTable(
    {
        "linear": "pipeline.config.schedules:Linear",
        "cosine": "pipeline.config.schedules:Cosine",
        "wsd": "pipeline.config.schedules:WarmupStableDecay",
        "inverse-square-root": "pipeline.config.schedules:InverseSquareRoot",
        "constant": "pipeline.config.schedules:Constant",
    }
)
"""Learning-rate schedules (`pipeline/config/schedules.py`)."""

MIXTURE_RULES = KindTable(
    {
        "mixture": "pipeline.config.mixture_rules:GivenWeights",
        "epochs": "pipeline.config.mixture_rules:GivenEpochs",
    }
)
"""Rules of the mixture (`pipeline/config/mixture_rules.py`), by the field that states the numbers."""

SOURCE_KINDS = KindTable(
    {
        "jsonl": "pipeline.corpus.kinds.json_lines:JsonLines",
        "parquet": "pipeline.corpus.kinds.parquet_files:ParquetFiles",
        "csv": "pipeline.corpus.kinds.separated_values:SeparatedValues",
        "text": "pipeline.corpus.kinds.text_files:TextFiles",
        "warc": "pipeline.corpus.kinds.web_archives:WebArchives",
        "local-machine": "pipeline.corpus.kinds.local_machine:LocalMachine",
        "megatron": "pipeline.tokens.existing_pairs:ExistingPairs",
    }
)
"""Kinds of sources of text or token ids (`pipeline/corpus/source_kind.py`)."""

TREE_LAYOUTS = KindTable(
    {
        "redpajama-v1": "pipeline.corpus.trees.redpajama_v1:RedPajamaV1",
        "redpajama-v2": "pipeline.corpus.trees.redpajama_v2:RedPajamaV2",
        "slimpajama": "pipeline.corpus.trees.slimpajama:SlimPajama",
        "dolma": "pipeline.corpus.trees.dolma:Dolma",
    }
)
"""Layouts of published corpora (`pipeline/corpus/trees`)."""

TOKENIZER_KINDS = KindTable(
    {
        "sentencepiece-bpe": "pipeline.tokens.kinds.sentencepiece_bpe_kind:SentencePieceBpe",
        "sentencepiece-unigram": (
            "pipeline.tokens.kinds.sentencepiece_unigram_kind:SentencePieceUnigram"
        ),
        "byte-level-bpe": "pipeline.tokens.kinds.byte_level:ByteLevelBpe",
        "pretrained": "pipeline.tokens.kinds.pretrained_kind:PretrainedTokenizer",
    }
)
"""Kinds of tokenizers (`pipeline/tokens/kinds`)."""

TOKENIZER_FORMS = KindTable(
    {
        "folder": "pipeline.tokens.forms.transformers_folder:TransformersFolder",
        "merges": "pipeline.tokens.forms.merges_files:MergesFiles",
        "json": "pipeline.tokens.forms.fast_file:FastFile",
        "tiktoken": "pipeline.tokens.forms.tiktoken_file:TiktokenFile",
        "sentencepiece": "pipeline.tokens.forms.sentencepiece_model_file:SentencePieceFile",
    }
)
"""Forms of an existing tokenizer (`pipeline/tokens/forms`); the first that recognises
`tokenizer.path` reads it."""

LAUNCH_KINDS = KindTable(
    {
        "local": "pipeline.cluster.local_launch:LocalLaunch",
        "slurm": "pipeline.cluster.slurm_launch:SlurmLaunch",
        "hostfile": "pipeline.cluster.hostfile_launch:HostfileLaunch",
    }
)
"""Ways to start the ranks of a training run (`pipeline/cluster`)."""

STUDY_KINDS = KindTable(
    {
        "scaling": "pipeline.planning.study.scaling:ScalingStudy",
        "few-shot": "pipeline.planning.study.few_shot:FewShotStudy",
        "throughput": "pipeline.planning.study.throughput:ThroughputStudy",
        "time-to": "pipeline.planning.study.time_to:TimeToStudy",
        "batch": "pipeline.planning.study.batch:BatchStudy",
        "critical-batch": "pipeline.planning.study.critical_batch:CriticalBatchStudy",
        "width": "pipeline.planning.study.width:WidthStudy",
    }
)
"""Kinds of studies (`pipeline/planning/study`)."""

FORKED_LAUNCH_KINDS = KindTable({"local": "pipeline.cluster.warm.forked_launch:ForkedLaunch"})
"""Ways that replace those of LAUNCH_KINDS in a process that was forked from a warm one."""
