"""hardware.json: sessions add up, energy is what counters say or null."""

import json

import pytest
import torch

from train.run.hardware import Hardware, NvmlCounter, RaplCounter

CPU = torch.device("cpu")


class Told:
    """A counter that gives what it was told, one after the other."""

    def __init__(self, *values):
        self.values = list(values)

    def joules(self):
        return self.values.pop(0)


def sessions(path):
    return json.loads(path.read_text())["sessions"]


def test_a_later_session_is_added_to_those_before_and_replaces_only_itself(tmp_path):
    path = tmp_path / "hardware.json"
    for counted in ((5.0, 8.0), (2.0, 3.0)):
        hardware = Hardware(path, CPU, rank=0, gather=lambda one: [one], counters=(None, Told(*counted)))
        hardware.write(10)
        hardware.write(20)
    found = sessions(path)
    assert [(one["last_step"], one["cpu_joules"], one["gpu_joules"]) for one in found] == [
        (20, 8.0, None),
        (20, 3.0, None),
    ]
    assert all(one["seconds"] >= 0 and sum(one["devices"].values()) == one["processes"] == 1 for one in found)


def test_energy_of_all_ranks_is_added_and_null_where_one_cannot_be_read(tmp_path):
    def ranks(*gpus):
        return lambda mine: [{"device": "A800", "gpu": [joules], "cpu": None} for joules in gpus]

    for gpus, total in (((1.5, 2.0, 3.0), 6.5), ((1.5, None), None)):
        path = tmp_path / f"{len(gpus)}.json"
        Hardware(path, CPU, rank=0, gather=ranks(*gpus), counters=(None, None)).write(3)
        [session] = sessions(path)
        assert (session["gpu_joules"], session["cpu_joules"]) == (total, None)
        assert session["devices"] == {"A800": len(gpus)}


def test_other_ranks_write_nothing(tmp_path):
    Hardware(tmp_path / "h.json", CPU, rank=1, gather=lambda one: [one, one], counters=(None, None)).write(1)
    assert not (tmp_path / "h.json").exists()


@pytest.mark.parametrize("damage", ["", "{}", "[1", '{"sessions": 3'])
def test_a_damaged_file_begins_anew(tmp_path, damage):
    path = tmp_path / "h.json"
    path.write_text(damage)
    Hardware(path, CPU, rank=0, gather=lambda one: [one], counters=(None, None)).write(1)
    assert len(sessions(path)) == 1


def package(root, number, name, microjoules, largest=1_000_000):
    zone = root / f"intel-rapl:{number}"
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "name").write_text(name)
    (zone / "energy_uj").write_text(str(microjoules))
    (zone / "max_energy_range_uj").write_text(str(largest))
    return zone


def test_packages_are_added_across_the_end_of_a_counter(tmp_path):
    zones = [package(tmp_path, number, f"package-{number}", 900_000) for number in (0, 1)]
    package(tmp_path, 2, "psys", 0)
    package(tmp_path, "0:0", "core", 0)
    counter = RaplCounter(tmp_path)
    (zones[0] / "energy_uj").write_text("950000")
    (zones[1] / "energy_uj").write_text("100000")  # it began again
    assert counter.joules() == pytest.approx(0.05 + 0.2)
    (zones[1] / "energy_uj").write_text("300000")
    assert counter.joules() == pytest.approx(0.45)


def test_what_cannot_be_read_is_not_estimated(tmp_path):
    assert RaplCounter(tmp_path).joules() is None
    zone = package(tmp_path, 0, "package-0", 5)
    counter = RaplCounter(tmp_path)
    (zone / "energy_uj").unlink()
    assert counter.joules() is None
    (zone / "energy_uj").write_text("9")
    assert counter.joules() is None  # what was used meanwhile is not known
    assert NvmlCounter("no-such-gpu").joules() is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_counts_its_energy():
    counter = NvmlCounter(str(torch.cuda.get_device_properties(0).uuid))
    matrix = torch.rand(4096, 4096, device="cuda")
    for _ in range(2000):
        matrix = torch.nn.functional.normalize(matrix @ matrix)
    torch.cuda.synchronize()
    assert counter.joules() > 1
