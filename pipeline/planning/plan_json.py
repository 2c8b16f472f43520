"""A plan as JSON values."""

from dataclasses import asdict

from pipeline.planning.plan import Plan


def plan_as_json(plan: Plan) -> dict[str, object]:
    """Return a plan as JSON values, with what follows from its fields."""
    values = asdict(plan)
    values["allocation"]["hardware"] = plan.allocation.hardware.model_dump(mode="json")
    values["allocation"]["hardware_kind"] = "assumed"
    values["time"] = values.pop("predicted_time")
    time = plan.predicted_time
    return {
        **values,
        "total_flops": plan.model.total_flops,
        "tokens_per_parameter": plan.model.tokens_per_parameter,
        "step_seconds": None if time is None else time.step.total,
        "efficiency": None if time is None else time.step.efficiency,
        "disk_bytes_at_most": plan.disk.most,
        "run_bytes_at_the_end": plan.disk.run_at_the_end,
    }
