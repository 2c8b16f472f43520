"""Links to other machines, from folders as /sys has them."""

from pathlib import Path

from pipeline.work.network_links import NetworkLink, links_in_words, network_links


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def test_infiniband_comes_first_and_its_ip_interface_is_left_out(tmp_path: Path) -> None:
    ports = tmp_path / "infiniband"
    rate = "200 Gb/sec (4X HDR)"
    active = "4: ACTIVE"
    write(ports / "mlx5_0/ports/1", state=active, link_layer="InfiniBand", rate=rate)
    write(ports / "mlx5_1/ports/1", state=active, link_layer="Ethernet", rate="100 Gb/sec (4X EDR)")
    write(ports / "mlx5_2/ports/1", state="1: DOWN", link_layer="InfiniBand", rate=rate)
    interfaces = tmp_path / "net"
    write(interfaces / "eth0", operstate="up", type="1", speed="10000")
    write(interfaces / "eth1", operstate="down", type="1", speed="10000")
    write(interfaces / "ib0", operstate="up", type="32", speed="200000")
    write(interfaces / "lo", operstate="unknown", type="772", speed="0")
    links = network_links(ports, interfaces)
    assert links == [
        NetworkLink("InfiniBand", "mlx5_0", 200),
        NetworkLink("RoCE", "mlx5_1", 100),
        NetworkLink("Ethernet", "eth0", 10),
    ]
    assert links_in_words(links) == (
        "InfiniBand mlx5_0 200 Gbit/s, RoCE mlx5_1 100 Gbit/s, Ethernet eth0 10 Gbit/s"
    )


def test_a_virtual_interface_has_no_rate(tmp_path: Path) -> None:
    write(tmp_path / "net/eth0", operstate="up", type="1", speed="-1")
    links = network_links(tmp_path / "none", tmp_path / "net")
    assert links_in_words(links) == "Ethernet eth0 of unknown rate"
    assert links_in_words([]) == "no link to other machines"
