"""Sites: what the batch system of a computing centre must be told, so that jobs start there.

Reads `presets/sites/*.yaml`, or a file of the user's own in the same form. Imports no torch.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_origin

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError

from pipeline.config.field_descriptions import section_in
from pipeline.config.hardware import Hardware, is_hardware_file, read_hardware
from pipeline.config.run_file import problems_in
from pipeline.config.run_sections import SLURM_TIME_PATTERN, SlurmTime, seconds_of_slurm_time
from pipeline.config.shipped_files import SITES, shipped_file
from pipeline.config.values import Section
from pipeline.config.yaml_files import Document, YamlValue, apply_override, read_yaml
from pipeline.errors import ConfigError

PREFIX = "site."
"""Beginning of the overrides on the command line that change the site, not the run file."""

CPU_NODES_ARE_LEFT = (
    f"{PREFIX}cpu_nodes: the site leaves the nodes of the data job to you; add "
    f"{PREFIX}cpu_nodes.partition=NAME {PREFIX}cpu_nodes.cores=N "
    f"{PREFIX}cpu_nodes.longest_time=HH:MM:SS to the command, or make the data before "
    "with the data stages, `pipeline prepare` to `pipeline pack`"
)

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.@%+-]+$")]
"""A name without blanks, such as a partition's."""
Option = Annotated[str, StringConstraints(pattern=r"^--[a-z][a-z-]*(=\S+)?$")]
"""An option of sbatch in its long form, with `=` before its value."""


def _as_text(value: YamlValue) -> YamlValue:
    """Return a YAML number as the text that a shell exports."""
    if type(value) is int:
        return str(value)
    return value


ShellValue = Annotated[str, BeforeValidator(_as_text)]
"""The value of an environment variable; whole numbers may be written without quotes."""


class Nodes(Section):
    """Nodes of one kind, and the partition by which jobs reach them."""

    partition: Word | None = None
    """Slurm partition; none: the cluster's default."""
    qos: Word | None = None
    """Slurm's quality of service, on which limits may depend; none: that of the account."""
    cores: int = Field(ge=1)
    """Cores of a node that a job may use."""
    longest_time: SlurmTime = Field(pattern=SLURM_TIME_PATTERN)
    """Longest time limit of a job, as Slurm writes it."""
    most_nodes: int | None = Field(default=None, ge=1)
    """Largest number of nodes of one job; none where no limit is known."""
    options: tuple[Option, ...] = ()
    """Further options of sbatch for jobs on these nodes."""

    @property
    def longest_seconds(self) -> int:
        """The longest time limit in seconds."""
        return seconds_of_slurm_time(self.longest_time)


class GpuNodes(Nodes):
    """Nodes on which models are trained and scored."""

    gpus: int = Field(ge=0)
    """Devices of a node as Slurm counts them, one rank each; 0: ranks run on the cores."""


class Site(Section):
    """A cluster: its nodes, and what jobs there need to be told."""

    description: str
    """Name for people."""
    hardware: str
    """Name of a file in `presets/hardware`, or a path: the devices of `gpu_nodes`."""
    account: Word | None = None
    """Account that is charged; none: the user's default."""
    gpu_nodes: GpuNodes
    """Nodes of the jobs that train and evaluate."""
    cpu_nodes: Nodes | None = None
    """Nodes of the job that prepares the data; none: the user names some where it is needed."""
    network_interfaces: tuple[Word, ...] = ()
    """Interfaces between nodes, for NCCL_SOCKET_IFNAME; none: NCCL chooses."""
    environment: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], ShellValue] = Field(
        default_factory=dict
    )
    """Further environment variables of all jobs."""
    modules: tuple[str, ...] = ()
    """Modules that jobs load, in this order."""
    nodes_have_network: bool
    """Whether compute nodes reach the internet."""
    may_requeue: bool = True
    """Whether jobs may put themselves back into the queue (`scontrol requeue`). `false`: a long
    training is a chain of jobs, each of which waits for the one before."""
    shared_folders: tuple[str, ...] = ()
    """Folders that all nodes see, such as scratch; environment variables may stand in them. None:
    nothing is known."""
    options: tuple[Option, ...] = ()
    """Further options of sbatch for all jobs."""
    left_to_user: tuple[str, ...] = ()
    """Dotted names of fields that every user has to give: they are personal, or not published."""

    @property
    def devices(self) -> Hardware:
        """The devices of `gpu_nodes`."""
        return read_hardware(self.hardware, f"{PREFIX}hardware")

    @property
    def ranks_per_node(self) -> int:
        """Ranks of a node: one for each GPU; without GPUs, as many as the hardware's devices."""
        return self.gpu_nodes.gpus or self.devices.devices_per_node

    def sees(self, folder: Path) -> bool | None:
        """Tell whether a folder is below one that all nodes see; None where none is known."""
        known = [Path(os.path.expandvars(each)) for each in self.shared_folders]
        if not known:
            return None
        return any(folder.is_relative_to(each) for each in known)


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the overrides of the run file, and those of the site without their prefix."""
    of_run = [override for override in overrides if not override.startswith(PREFIX)]
    of_site = [
        override.removeprefix(PREFIX) for override in overrides if override.startswith(PREFIX)
    ]
    return of_run, of_site


def read_site(written: str, overrides: Sequence[str] = (), *, with_cpu_nodes: bool = False) -> Site:
    """Return the shipped site of a name, or that of a YAML file, named with slash or suffix.

    `overrides`: `field=value` without the prefix. `with_cpu_nodes`: whether there is a data job.
    Raises ConfigError for an unknown name, with all names, for a wrong value, and for all that the
    site leaves to the user and nobody gave.
    """
    path = Path(written)
    if "/" not in written and not path.suffix:
        try:
            path = shipped_file(written, SITES, "site")
        except ValueError as error:
            raise ConfigError([f"--site = {written}: {error}; or name a file"]) from None
    document: Document = read_yaml(path)
    hardware = document.get("hardware")
    if isinstance(hardware, str) and is_hardware_file(hardware):
        document["hardware"] = str(path.absolute().parent / hardware)
    for override in overrides:
        apply_override(document, override)

    # What is left to the user is asked for before it is missed as a field.
    problems = _left_to_user(document, path)
    if with_cpu_nodes and document.get("cpu_nodes") is None:
        problems.append(CPU_NODES_ARE_LEFT)
    if problems:
        raise ConfigError(problems, f"site {written}")
    try:
        return Site.model_validate(document)
    except ValidationError as error:
        problems = [f"{PREFIX}{problem}" for problem in problems_in(error, Site)]
        raise ConfigError(problems, f"site {written}") from None


def _left_to_user(document: Document, path: Path) -> list[str]:
    """Return a message for each field that the site leaves to the user and nobody gave."""
    left = document.get("left_to_user")
    if not isinstance(left, list):
        return []
    names = [str(name) for name in left]
    unknown = [
        f"{path}: left_to_user: {name}: a site has no such field; remove or correct it"
        for name in names
        if not _is_field_of(Site, name)
    ]
    missing = [
        _left_message(name, path)
        for name in names
        if _is_field_of(Site, name) and _value_of(document, name) is None
    ]
    return unknown + missing


def _is_field_of(section: type[Section], dotted: str) -> bool:
    """Tell whether a dotted name is that of a field of a section, or of one below it."""
    first, _, rest = dotted.partition(".")
    if first not in section.model_fields:
        return False
    if not rest:
        return True
    annotation = section.model_fields[first].annotation
    below = section_in(annotation)
    if below is None:
        # A mapping has keys of the user's own.
        return get_origin(annotation) is dict
    return _is_field_of(below, rest)


def _value_of(document: Document, dotted: str) -> YamlValue:
    """Return the value of a dotted name, None where it or a section above it is not set."""
    value: YamlValue = document
    for part in dotted.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def _left_message(name: str, path: Path) -> str:
    return (
        f"{PREFIX}{name}: the site leaves it to you; add {PREFIX}{name}=VALUE to the command, or "
        f"copy {path}, fill it in there and name the copy with --site"
    )


def cpu_nodes_of(site: Site, site_name: str) -> Nodes:
    """Return the nodes of the data job. Raises ConfigError where the site names none."""
    if site.cpu_nodes is None:
        raise ConfigError([CPU_NODES_ARE_LEFT], f"site {site_name}")
    return site.cpu_nodes
