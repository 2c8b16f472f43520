"""The runs of a study: one for each size, budget, place on the axes and seed, with its run file.

Pure but for the figures of the models, which a process of its own finds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from pipeline.config.kinds import STUDY_KINDS
from pipeline.config.mismatches import settings_that_do_not_fit
from pipeline.config.run_config import RUN_SECTIONS, RunConfig, section_problems
from pipeline.config.run_file import problems_in
from pipeline.config.study_file import BatchRule, StudyFile
from pipeline.config.yaml_files import merge
from pipeline.errors import ConfigError
from pipeline.model.model_facts import ModelFacts, facts_of_models
from pipeline.planning.study.axes import (
    Place,
    combinations_of_axes,
    micro_batch_of,
    rank_problems,
    settings_of_batch,
    study_at,
    variant_settings,
)
from pipeline.planning.study.branched_runs import TakenOver, taken_over
from pipeline.planning.study.run_names import digest_of_run, execution_of_run
from pipeline.planning.study.sizes import SizedModel, sized_models
from pipeline.planning.study.study_run import Budget, StudyRun, budgets_of_study
from pipeline.store.files import fingerprint
from pipeline.store.studies.study_folder import StudyFolder

BATCH_PARTS = 4
"""A batch by rule is rounded to a multiple of the power of two that is at most this part of it, so
that ranks and micro-batches divide it: a change of at most 1 / 8."""

Settings: TypeAlias = dict[str, Any]
"""Settings of a run file, by section."""


def runs_of_study(
    study: StudyFile, base: RunConfig, places: Sequence[Place] | None = None
) -> list[StudyRun]:
    """Return the runs of a study, in the order of its places and sizes, the longest of each first.

    `places`: where on the axes it has runs; default: at each combination. Raises ConfigError with
    every problem of every run file, each once.
    """
    base = _with_settings(study, base)
    if places is None:
        places = combinations_of_axes(study.axes)
    corners = [corner for place in places for corner in _corners_at(study, base, place)]

    # Models that several corners share are looked at once.
    models = {_model_key(corner.config): corner.config for corner in corners}
    facts = facts_of_models(list(models.values()), f"the models of {len(models)} sizes")
    facts_by_model = dict(zip(models, facts, strict=True))
    runs: list[StudyRun] = []
    for corner in corners:
        for seed in study.seeds:
            runs += _runs_of_corner(corner, facts_by_model[_model_key(corner.config)], seed)
    return runs


def batch_sequences(rule: BatchRule, tokens: float, sequence_length: int) -> int:
    """Return the sequences of a batch by the rule, for a training of `tokens` tokens."""
    wanted = rule.tokens * (tokens / rule.at_tokens) ** rule.exponent / sequence_length
    part = 2 ** max(0, math.floor(math.log2(max(1.0, wanted / BATCH_PARTS))))
    return max(1, round(wanted / part)) * part


def _with_settings(study: StudyFile, base: RunConfig) -> RunConfig:
    """Return the base with the study's own settings."""
    document = merge(base.model_dump(mode="json"), study.settings)
    document["preset"] = None
    return _checked(document, "settings", study.base.parent)


@dataclass(frozen=True)
class _Corner:
    """One size at one place on the axes."""

    study: StudyFile
    """With the rules that hold at the place."""
    place: Place
    size: SizedModel
    config: RunConfig
    """The base with the settings of place and size."""
    taken: TakenOver
    """What its runs take over from the checkpoint that they all begin from."""


def _corners_at(study: StudyFile, base: RunConfig, place: Place) -> list[_Corner]:
    """Return every size at a place."""
    there = study_at(study, place, base.batch.global_batch_tokens)
    document: Settings = merge(base.model_dump(mode="json"), variant_settings(study, place))
    if "batch_tokens" in place.values:
        document["batch"] |= settings_of_batch(int(place.number("batch_tokens")), base)
    if place.ranks is not None:
        document["launch"]["ranks"] = place.ranks
    label = place.label or "the base"
    own_base = _checked(document, label, study.base.parent)
    taken = taken_over(own_base)
    corners: list[_Corner] = []
    for size in sized_models(own_base, study.sizes):
        config = _with_model(there, own_base, size, place)
        corners.append(_Corner(there, place, size, config, taken))
    return corners


def _model_key(config: RunConfig) -> str:
    """Return what the figures of a model depend on, as text."""
    decisive = config.model_dump(mode="json", include={"model": True, "data": True})
    return fingerprint({**decisive, "optimizer": config.optimizer.kind})


def _with_model(study: StudyFile, base: RunConfig, size: SizedModel, place: Place) -> RunConfig:
    """Return the base with one size's model and its learning rate."""
    document: Settings = base.model_dump(mode="json")
    document["model"] = size.model.model_dump(mode="json")
    width = study.rules.mup_base_width
    if width is not None:
        document["model"] |= {"mup": True, "mup_base_width": width}
    elif size.peak_learning_rate is not None:
        document["optimizer"]["peak_learning_rate"] = size.peak_learning_rate
    if "learning_rate_factor" in place.values:
        document["optimizer"]["peak_learning_rate"] *= place.number("learning_rate_factor")

    # The batch by which the learning rate was tuned.
    if study.rules.learning_rate != "none":
        document["optimizer"]["learning_rate_scaling"] = {
            "rule": study.rules.learning_rate,
            "reference_batch_tokens": study.rules.reference_batch_tokens,
        }
    return _checked(document, f"{size.label} {place.label}".strip())


@dataclass(frozen=True)
class _Length:
    """One training of a size: its budget, and its steps."""

    budget: Budget
    batch_tokens: int
    steps: int

    @property
    def tokens(self) -> int:
        return self.steps * self.batch_tokens


def _runs_of_corner(corner: _Corner, facts: ModelFacts, seed: int) -> list[StudyRun]:
    """Return the runs of one size, place and seed, the longest first."""
    study = corner.study
    lengths = sorted(_lengths(study, corner.config, facts), key=lambda length: -length.tokens)
    _refuse_unlike_budgets(study, corner.size, lengths)
    if study.rules.cooldown == "branches":
        return _trunk_and_branches(corner, facts, seed, lengths)
    runs: list[StudyRun] = []
    for length in lengths:
        decay = round(study.rules.decay * length.tokens)
        settings = _run_settings(corner, length, seed, length.tokens, decay)
        run = _named(corner, length, seed, settings, facts)
        runs.append(replace(run, first_step=corner.taken.steps + 1))
    return runs


def _lengths(study: StudyFile, config: RunConfig, facts: ModelFacts) -> list[_Length]:
    """Return the trainings of one size."""
    sequence_length = config.data.sequence_length
    budgets = budgets_of_study(study)
    wanted = [budget.tokens(facts, sequence_length) for budget in budgets]

    # The branches of a trunk share its batch: that of the geometric mean of their lengths.
    mean = math.exp(sum(map(math.log, wanted)) / len(wanted))
    lengths: list[_Length] = []
    for budget, tokens in zip(budgets, wanted, strict=True):
        batch = config.batch.global_batch_tokens
        if study.rules.batch is not None:
            basis = mean if study.rules.cooldown == "branches" else tokens
            batch = batch_sequences(study.rules.batch, basis, sequence_length) * sequence_length
        lengths.append(_Length(budget, batch, max(1, round(tokens / batch))))
    return lengths


def _refuse_unlike_budgets(study: StudyFile, size: SizedModel, lengths: Sequence[_Length]) -> None:
    """Raise ConfigError for lengths that are one training, and for branches of a single step."""
    problems = [
        f"budgets: {first.budget.label} and {second.budget.label} are both {first.steps:,} steps of "
        f"{size.label}; remove one"
        for first, second in pairwise(lengths)
        if first.tokens == second.tokens
    ]
    if study.rules.cooldown == "branches" and lengths[-1].steps < 2:
        problems.append(
            f"budgets: {lengths[-1].budget.label} is a single step of {size.label}, of which none is "
            "left before its decay; make the budget larger, or rules.batch smaller"
        )
    if problems:
        raise ConfigError(problems)


def _trunk_and_branches(
    corner: _Corner, facts: ModelFacts, seed: int, lengths: Sequence[_Length]
) -> list[StudyRun]:
    """Return a trunk, the longest training, and a branch off it for every shorter one."""
    study = corner.study
    longest, *shorter = lengths
    shortest = lengths[-1].tokens

    # The trunk keeps its checkpoints at the steps where branches begin.
    begins = {length: _decay_begin(length, study.rules.decay) for length in lengths}
    keep = [begins[length] for length in shorter]
    decay = longest.tokens - begins[longest] * longest.batch_tokens
    settings = _run_settings(corner, longest, seed, shortest, decay)
    settings["schedule"]["kind"] = "wsd"
    settings["checkpoint"]["keep_steps"] = sorted(set(keep))
    trunk = _named(corner, longest, seed, settings, facts)

    runs = [trunk]
    for length in shorter:
        begin = begins[length]
        decay = length.tokens - begin * length.batch_tokens
        settings = _run_settings(corner, length, seed, shortest, decay)
        settings["schedule"]["kind"] = "wsd"
        settings["train"] |= {
            "init_from": f"{StudyFolder(study.folder).run_dir(trunk.name)}@{begin}",
            "init_take": "everything",
        }
        branch = _named(corner, length, seed, settings, facts)
        runs.append(replace(branch, trunk=trunk.name, first_step=begin + 1))
    return runs


def _decay_begin(length: _Length, decay: float) -> int:
    """Return the last step before a training's decay: at least one, and not the last one."""
    return max(1, min(length.steps - 1, round((1 - decay) * length.steps)))


def _run_settings(
    corner: _Corner, length: _Length, seed: int, warmup_of: int, decay_tokens: int
) -> Settings:
    """Return the settings of a run, but for its folder.

    A run keeps its last checkpoint alone, unless the study's settings say otherwise.
    `warmup_of`: tokens of which the warm-up is a share. `decay_tokens`: for `wsd`.
    """
    study = corner.study
    settings: Settings = corner.config.model_dump(mode="json")
    ramp = [entry.model_dump() for entry in corner.taken.ramp]
    settings["batch"] |= {"global_batch_tokens": length.batch_tokens, "ramp": ramp}
    settings["train"] |= {
        "train_tokens": length.tokens,
        "seed": seed,
        "validate_every_steps": max(1, length.steps // study.rules.validations),
    }
    own = study.settings.get("checkpoint", {})
    settings["checkpoint"] |= {"keep_last": 1, "keep_every_steps": None, **own}
    settings["schedule"]["warmup_tokens"] = round(study.rules.warmup * warmup_of)
    if study.rules.cooldown == "branches" or settings["schedule"]["kind"] == "wsd":
        settings["schedule"]["decay_tokens"] = decay_tokens
    return settings


def _named(
    corner: _Corner, length: _Length, seed: int, settings: Settings, facts: ModelFacts
) -> StudyRun:
    """Return a run, named after what decides its loss."""
    study = corner.study
    place = corner.place

    # The largest micro-batch, at most the base's, that divides the batch of a rank.
    sequences = settings["batch"]["global_batch_tokens"] // settings["data"]["sequence_length"]
    problems = rank_problems(place, sequences)
    if problems:
        raise ConfigError(problems)
    fewest: int = STUDY_KINDS[study.kind].fewest_micro_batches
    most = settings["batch"]["micro_batch_sequences"]
    micro = micro_batch_of(sequences, place.ranks or 1, most, fewest)
    settings["batch"]["micro_batch_sequences"] = micro

    # Its name, by what decides its loss.
    labels = [corner.size.label, length.budget.label, place.label, f"s{seed}"]
    label = "-".join(part for part in labels if part).replace("+", "")
    more: dict[str, Any] = {"variants": variant_settings(study, place)}
    if corner.config.train.init_from is not None:
        more["init_from"] = str(corner.config.train.init_from)
        more["init_take"] = corner.config.train.init_take
    folder = StudyFolder(study.folder)
    config = _checked(settings, label)
    if STUDY_KINDS[study.kind].is_measured_alone:
        more["execution"] = execution_of_run(config)
    digest = digest_of_run(config, folder, more)
    name = f"{label}-{digest}"
    settings["paths"]["run_dir"] = str(folder.run_dir(name))
    config = _checked(settings, name)
    return StudyRun(name, corner.size.label, length.budget, place, seed, config, facts)


def _checked(settings: Settings, name: str, folder: Path | None = None) -> RunConfig:
    """Return settings as a config; relative paths start at `folder`.

    Raises ConfigError with every problem.
    """
    context = {"base": folder or Path.cwd()}
    try:
        config = RunConfig.model_validate(settings, context=context)
    except ValidationError as error:
        raise ConfigError([f"{name}: {each}" for each in problems_in(error, RunConfig)]) from None
    problems = section_problems(config.absent(RUN_SECTIONS), "each run of a study")
    problems += settings_that_do_not_fit(config)
    if problems:
        raise ConfigError([f"{name}: {problem}" for problem in problems])
    return config
