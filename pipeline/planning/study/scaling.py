"""The study `scaling`: loss over parameters and tokens, for the law of Hoffmann et al. 2022."""

from collections.abc import Mapping, Sequence

from pipeline.config.study_file import StudyFile
from pipeline.planning.laws.loss_law import CHINCHILLA_REFIT
from pipeline.planning.laws.points import LEAST_STEPS
from pipeline.planning.laws.refusals import LEAST_BUDGETS, LEAST_SIZES, MOST_EPOCHS
from pipeline.planning.study.study_kind import StudyKind
from pipeline.planning.study.study_run import StudyRun, budgets_of_study


class ScalingStudy(StudyKind):
    """Loss of several sizes at several budgets."""

    def grid_problems(
        self, study: StudyFile, runs: Sequence[StudyRun], epochs: Mapping[str, float]
    ) -> list[str]:
        """Return what a fit would refuse: too few sizes, budgets or steps, too many epochs.

        With budgets of FLOPs, the size with the lowest loss has to lie between the smallest and the
        largest that count; where it lies is estimated by a published law, whose models were larger.
        """
        problems: list[str] = []
        budgets = budgets_of_study(study)
        if len(budgets) < LEAST_BUDGETS:
            problems.append(
                f"budgets: {len(budgets)}, and a law needs at least {LEAST_BUDGETS}; add some"
            )
        for budget in budgets:
            own = [run for run in runs if run.budget == budget]
            counted = [
                run
                for run in own
                if run.steps >= LEAST_STEPS and epochs.get(run.name, 0) <= MOST_EPOCHS
            ]
            sizes = {run.size: run.facts.active_parameters for run in counted}
            if len(sizes) < LEAST_SIZES:
                problems.append(
                    f"budget {budget.label}: {len(sizes)} sizes have at least "
                    f"{LEAST_STEPS} steps and at most {MOST_EPOCHS:g} epochs, "
                    f"and {LEAST_SIZES} are needed; {_remedy(len({run.size for run in own}))}"
                )
            elif budget.kind == "flops":
                problems += _minimum_outside(budget.label, budget.value, list(sizes.values()))
        return problems


def _remedy(sizes: int) -> str:
    if sizes < LEAST_SIZES:
        return "add sizes"
    return "make the budget larger, rules.batch smaller, or the sizes smaller"


def _minimum_outside(label: str, flops: float, parameters: Sequence[int]) -> list[str]:
    """Return a problem where the estimated best size is not inside the range of sizes."""
    best = CHINCHILLA_REFIT.optimal_parameters(flops)
    if min(parameters) < best < max(parameters):
        return []
    side = "smaller" if best <= min(parameters) else "larger"
    return [
        f"budget {label}: the lowest loss is expected at about {best:,.0f} parameters, outside of "
        f"{min(parameters):,} to {max(parameters):,}; add {side} sizes"
    ]
