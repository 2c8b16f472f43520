"""The links of this machine to others, as the kernel reports them: InfiniBand and Ethernet.

Reads /sys. Rates are those on paper.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

INFINIBAND = Path("/sys/class/infiniband")
INTERFACES = Path("/sys/class/net")
LOOPBACK = "lo"


@dataclass(frozen=True)
class NetworkLink:
    """A port or an interface."""

    kind: str
    """InfiniBand, RoCE or Ethernet."""
    name: str
    gigabits: float | None
    """10^9 bits a second; None where the kernel does not know it, as of a virtual interface."""


def network_links(
    infiniband: Path = INFINIBAND, interfaces: Path = INTERFACES
) -> list[NetworkLink]:
    """Return the links that are up, InfiniBand and RoCE first."""
    return [*_ports(infiniband), *_interfaces(interfaces)]


def links_in_words(links: Sequence[NetworkLink]) -> str:
    """Return for example `InfiniBand mlx5_0 200 Gbit/s, Ethernet eth0 10 Gbit/s`."""
    words: list[str] = []
    for link in links:
        rate = "of unknown rate"
        if link.gigabits is not None:
            rate = f"{link.gigabits:g} Gbit/s"
        words.append(f"{link.kind} {link.name} {rate}")
    return ", ".join(words) or "no link to other machines"


def _ports(folder: Path) -> list[NetworkLink]:
    """Return the active ports of InfiniBand adapters; such a port may also speak Ethernet (RoCE)."""
    links: list[NetworkLink] = []
    for port in sorted(folder.glob("*/ports/*")):
        if "ACTIVE" not in _text(port / "state"):
            continue
        kind = "InfiniBand"
        if _text(port / "link_layer") == "Ethernet":
            kind = "RoCE"
        # The kernel writes `200 Gb/sec (4X HDR)`.
        gigabits = _number(_text(port / "rate").partition(" ")[0])
        links.append(NetworkLink(kind, port.parents[1].name, gigabits))
    return links


def _interfaces(folder: Path) -> list[NetworkLink]:
    """Return the Ethernet interfaces that are up."""
    links: list[NetworkLink] = []
    for interface in sorted(folder.glob("*")):
        is_up = _text(interface / "operstate") in ("up", "unknown")
        # 1: Ethernet; 32 is IP over InfiniBand, whose port is listed already.
        if interface.name == LOOPBACK or not is_up or _text(interface / "type") != "1":
            continue
        megabits = _number(_text(interface / "speed"))
        gigabits = None
        if megabits is not None and megabits > 0:
            gigabits = megabits / 1000
        links.append(NetworkLink("Ethernet", interface.name, gigabits))
    return links


def _text(path: Path) -> str:
    """Return what a file of /sys says; empty where it cannot be read, as a speed without a cable."""
    with suppress(OSError):
        return path.read_text().strip()
    return ""


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return float(text)
    return None
