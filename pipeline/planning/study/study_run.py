"""A run of a study, and the lengths that its trainings have."""

from dataclasses import dataclass, replace

from pipeline.config.run_config import RunConfig
from pipeline.config.study_file import StudyFile
from pipeline.model.model_facts import ModelFacts
from pipeline.planning.plan import flops_per_token
from pipeline.planning.study.axes import Place


@dataclass(frozen=True)
class Budget:
    """One length of a study's trainings."""

    label: str
    """Part of the names of its runs: `c1e+12`, `20tpp`, `d3e+08`."""
    kind: str
    """flops, tokens_per_parameter or tokens."""
    value: float

    def tokens(self, facts: ModelFacts, sequence_length: int) -> float:
        """Return the tokens that a model is trained on."""
        if self.kind == "flops":
            return self.value / flops_per_token(facts, sequence_length)
        if self.kind == "tokens_per_parameter":
            return self.value * facts.active_parameters
        return self.value


@dataclass(frozen=True)
class StudyRun:
    """One run of a study."""

    name: str
    """Its folder: size, budget, place, seed, and a digest of all settings that decide its loss."""
    size: str
    budget: Budget
    place: Place
    """Where it is on the axes."""
    seed: int
    config: RunConfig
    """All settings, with its own run folder."""
    facts: ModelFacts
    trunk: str | None = None
    """Name of the run that it branches off, None where it is trained from its beginning."""
    first_step: int = 1
    """Its first own step: those before are the trunk's."""

    @property
    def steps(self) -> int:
        """Steps of the training, those of its trunk included."""
        return self.config.total_steps

    @property
    def tokens(self) -> int:
        """D: tokens of the training, those of its trunk included."""
        return self.config.step_plan.total_tokens

    @property
    def flops_per_token(self) -> float:
        """6 N + 12 L d T."""
        return flops_per_token(self.facts, self.config.data.sequence_length)

    @property
    def flops(self) -> float:
        """C: FLOPs of the training, those of its trunk included."""
        return self.flops_per_token * self.tokens

    @property
    def own_flops(self) -> float:
        """FLOPs that the run itself takes."""
        before = self.config.step_plan.tokens_after(self.first_step - 1)
        return self.flops_per_token * (self.tokens - before)


def budgets_of_study(study: StudyFile) -> list[Budget]:
    """Return the lengths of a study's trainings."""
    budgets = study.budgets
    flops = [Budget(f"c{value:g}", "flops", value) for value in budgets.flops]
    per_parameter = [
        Budget(f"{value:g}tpp", "tokens_per_parameter", value)
        for value in budgets.tokens_per_parameter
    ]
    tokens = [Budget(f"d{value:g}", "tokens", value) for value in budgets.tokens]
    return [*flops, *per_parameter, *tokens]


def trained_alone(run: StudyRun) -> StudyRun:
    """Return a branch as a run from its beginning, which has the same losses and the same name."""
    train = run.config.train.model_copy(update={"init_from": None, "init_take": "weights"})
    config = run.config.model_copy(update={"train": train})
    return replace(run, config=config, trunk=None, first_step=1)
