"""Decides which split is scored and which one solved examples come from. Pure functions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pipeline.store.records import Json
from pipeline.store.tasks_folder import DEV, VALIDATION

KEYS = ("training_split", "validation_split", "test_split", "fewshot_split")


@dataclass(frozen=True)
class SplitChoice:
    """The splits of a definition, of which those that are not here are left out."""

    changes: dict[str, str | None]
    """Entries of the definition to replace."""
    scored: str
    """Split whose questions are scored."""
    examples_from: str
    """Split of the solved examples, in words."""


def choose_splits(definition: Mapping[str, Json], present: Collection[str]) -> SplitChoice | None:
    """Return the splits to use of those that are here; None where none of them can be scored.

    lm-eval scores `test_split`, or else `validation_split`; examples come from `fewshot_split`, or
    else from `training_split`, or else from `validation_split`. Where the split of the examples is
    not here, they come from `dev` or `validation`. Where only the scored split is here, they come
    from it; it is then named as `test_split`, because only there lm-eval leaves out the question
    that is scored.
    """
    named = {key: definition.get(key) for key in KEYS}
    kept: dict[str, str | None] = {}
    for key, split in named.items():
        kept[key] = None
        if isinstance(split, str) and split in present:
            kept[key] = split
    scored = kept["test_split"] or kept["validation_split"]
    if scored is None:
        return None
    if kept["fewshot_split"]:
        return SplitChoice(kept, scored, kept["fewshot_split"])
    if kept["training_split"]:
        return SplitChoice(kept, scored, kept["training_split"])
    for split in (DEV, VALIDATION):
        if split in present and split != scored:
            kept["fewshot_split"] = split
            return SplitChoice(kept, scored, split)
    kept["fewshot_split"] = scored
    kept["test_split"] = scored
    return SplitChoice(kept, scored, f"{scored}, without the question that is scored")
