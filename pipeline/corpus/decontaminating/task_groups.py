"""Groups of public tasks: one name in a run file, a folder of questions for each member.

The subjects of MMLU, in the groups of lm-eval. Source: Hendrycks et al. 2020 (arXiv:2009.03300).
"""

_HUMANITIES = (
    "formal_logic",
    "high_school_european_history",
    "high_school_us_history",
    "high_school_world_history",
    "international_law",
    "jurisprudence",
    "logical_fallacies",
    "moral_disputes",
    "moral_scenarios",
    "philosophy",
    "prehistory",
    "professional_law",
    "world_religions",
)
_OTHER = (
    "business_ethics",
    "clinical_knowledge",
    "college_medicine",
    "global_facts",
    "human_aging",
    "management",
    "marketing",
    "medical_genetics",
    "miscellaneous",
    "nutrition",
    "professional_accounting",
    "professional_medicine",
    "virology",
)
_SOCIAL_SCIENCES = (
    "econometrics",
    "high_school_geography",
    "high_school_government_and_politics",
    "high_school_macroeconomics",
    "high_school_microeconomics",
    "high_school_psychology",
    "human_sexuality",
    "professional_psychology",
    "public_relations",
    "security_studies",
    "sociology",
    "us_foreign_policy",
)
_STEM = (
    "abstract_algebra",
    "anatomy",
    "astronomy",
    "college_biology",
    "college_chemistry",
    "college_computer_science",
    "college_mathematics",
    "college_physics",
    "computer_security",
    "conceptual_physics",
    "electrical_engineering",
    "elementary_mathematics",
    "high_school_biology",
    "high_school_chemistry",
    "high_school_computer_science",
    "high_school_mathematics",
    "high_school_physics",
    "high_school_statistics",
    "machine_learning",
)
MMLU_SUBJECTS = tuple(sorted((*_HUMANITIES, *_OTHER, *_SOCIAL_SCIENCES, *_STEM)))
"""All subjects, sorted."""
MMLU_GROUPS = {
    "mmlu": MMLU_SUBJECTS,
    "mmlu_humanities": _HUMANITIES,
    "mmlu_other": _OTHER,
    "mmlu_social_sciences": _SOCIAL_SCIENCES,
    "mmlu_stem": _STEM,
}
"""Group of lm-eval -> its subjects."""
GROUPS: dict[str, tuple[str, ...]] = {
    **{
        group: tuple(f"mmlu_{subject}" for subject in names) for group, names in MMLU_GROUPS.items()
    },
    "mmlu_continuation": tuple(f"mmlu_{subject}_continuation" for subject in MMLU_SUBJECTS),
}
"""Group of lm-eval -> its tasks."""


def members_of(name: str) -> tuple[str, ...]:
    """Return the tasks of a group, or the task itself."""
    return GROUPS.get(name, (name,))
