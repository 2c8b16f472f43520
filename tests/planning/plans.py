"""A device and a model whose costs are easy to compute by hand."""

from pipeline.config.hardware import Hardware
from pipeline.model.costs import ModelSize
from pipeline.model.model_facts import ModelFacts
from pipeline.model.shape import ModelShape
from pipeline.planning.plan import Allocation

HARDWARE = Hardware(
    description="a round device",
    device_names=("Round",),
    peak_bf16_tflops=2.0,
    peak_fp16_tflops=2.0,
    peak_fp32_tflops=1.0,
    memory_gib=1.0,
    devices_per_node=4,
    link_gb_per_second=10.0,
    network_gb_per_second=1.0,
    host_memory_gib=8.0,
    cores_per_node=8,
    assumed_mfu=0.5,
)


def facts_of(parameters: int = 1_000_000) -> ModelFacts:
    """Return a model of which every parameter multiplies, with 2 layers of 100."""
    return ModelFacts(
        parameters=parameters,
        embedding_parameters=100_000,
        one_dimensional_parameters=500,
        active_parameters=parameters,
        is_mixture=False,
        size=ModelSize(parameters, 100_000, layers=2, attention_width=100),
        shape=ModelShape(parameters, 2, 100, 4, 100, 100, 300, True, 1000),
        moment_bytes=8.0,
        positions=8,
    )


def allocation(nodes: int = 1, hours_per_job: float = 24.0) -> Allocation:
    """Return whole nodes of HARDWARE."""
    devices = nodes * HARDWARE.devices_per_node
    return Allocation("round", HARDWARE, nodes, devices, hours_per_job)
