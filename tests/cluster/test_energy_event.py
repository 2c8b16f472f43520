"""Energy travels from the meters of ranks through their heartbeats into events."""

from pathlib import Path

import pytest

from pipeline.cluster import energy_event
from pipeline.cluster.energy_event import EnergyWatch, write_energy
from pipeline.store.events import ENERGY, read_events
from pipeline.store.heartbeat import EnergyReading, Heartbeat, delete_heartbeats, read_heartbeat


class Reading:
    def __init__(self, joules: float, seconds: float) -> None:
        self.reading: EnergyReading = {"joules": joules, "seconds": seconds}

    def read(self) -> EnergyReading:
        return self.reading


def test_the_energy_of_all_ranks_is_one_event(tmp_path: Path) -> None:
    for rank, meter in enumerate((Reading(100.0, 9.0), Reading(50.25, 10.0), None)):
        beat = Heartbeat(tmp_path, rank)
        beat.measure_energy(meter)
        beat.beat("step 1 done")
    assert read_heartbeat(tmp_path, 2) == {"beat": 1, "doing": "step 1 done"}
    write_energy(tmp_path)
    (event,) = read_events(tmp_path, ENERGY)
    assert (event["joules"], event["seconds"]) == (150.2, 10.0)


def test_where_no_device_tells_there_is_no_event(tmp_path: Path) -> None:
    write_energy(tmp_path)
    Heartbeat(tmp_path, 0).beat("step 1 done")
    write_energy(tmp_path)
    assert read_events(tmp_path, ENERGY) == []


def test_the_energy_of_an_earlier_start_is_not_counted_again(tmp_path: Path) -> None:
    beat = Heartbeat(tmp_path, 0)
    beat.measure_energy(Reading(1.0, 1.0))
    beat.beat("step 1 done")
    delete_heartbeats(tmp_path)
    write_energy(tmp_path)
    assert read_events(tmp_path, ENERGY) == []


def test_it_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beat = Heartbeat(tmp_path, 0)
    beat.measure_energy(Reading(1.0, 1.0))
    beat.beat("step 1 done")
    watch = EnergyWatch(tmp_path)
    watch.look()
    assert read_events(tmp_path, ENERGY) == []
    monkeypatch.setattr(energy_event, "WRITE_SECONDS", 0.0)
    watch.look()
    watch.look()
    assert len(read_events(tmp_path, ENERGY)) == 2
