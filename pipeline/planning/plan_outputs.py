"""A plan as JSON values, and everything that it rests on."""

from dataclasses import asdict, fields

from pipeline.planning.plan import GIB, Plan
from pipeline.planning.rates import Rate

LINKS = ("link_gb_per_second", "network_gb_per_second")
"""Rates that have names of their own for people."""


def plan_as_json(plan: Plan) -> dict[str, object]:
    """Return a plan as JSON values, with what follows from its fields."""
    values = asdict(plan)
    values["allocation"]["hardware"] = plan.allocation.hardware.model_dump(mode="json")
    values["allocation"]["hardware_kind"] = "assumed"
    values["time"] = values.pop("predicted_time")
    time = plan.predicted_time
    if time is not None:
        jobs = values["time"].pop("jobs")
        chain = time.chain
        values["time"] |= {
            "job": jobs["job"],
            "wall_seconds": time.wall_seconds,
            "chain": None if chain is None else asdict(chain),
            "device_hours": time.device_hours,
        }
    return {
        **values,
        "total_flops": plan.model.total_flops,
        "tokens_per_parameter": plan.model.tokens_per_parameter,
        "step_seconds": None if time is None else time.step.total,
        "efficiency": None if time is None else time.step.efficiency,
        "disk_bytes_at_most": plan.disk.most,
        "run_bytes_at_the_end": plan.disk.run_at_the_end,
    }


def rates_by_name(plan: Plan) -> dict[str, Rate]:
    """Return all that a plan's numbers rest on besides the run file, with units in the names."""
    # The hardware.
    hardware = plan.allocation.hardware
    dtype = plan.memory.dtype
    peak = hardware.peak_flops(dtype)
    assert peak is not None, "a plan was made for this format"
    source = f"hardware {plan.allocation.hardware_name}"
    figures = {
        f"peak TFLOP/s in {dtype}": peak / 1e12,
        "memory of a device, GiB": plan.memory.free.device / GIB,
        "memory of a host, GiB": hardware.host_memory_gib,
    }
    named = {name: Rate(value, "assumed", source) for name, value in figures.items()}

    # The plan's own rates, and the corpus.
    named["link in a node, GB/s"] = plan.rates.link_gb_per_second
    named["network of a device, GB/s"] = plan.rates.network_gb_per_second
    for field in fields(plan.rates):
        if field.name not in LINKS:
            named[field.name.replace("_", " ")] = getattr(plan.rates, field.name)
    named["tokens on disk"] = plan.disk.data.basis
    return named
