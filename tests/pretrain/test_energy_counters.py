"""The machine's counters: CPU packages on made files, a GPU's on a stand-in of its library."""

import ctypes
import subprocess
import time

import pynvml
import pytest
import torch

from pretrain.metrics.energy import CounterError, counters_of
from pretrain.metrics.energy.nvml import GpuCounter
from pretrain.metrics.energy.rapl import CpuPackages

INTEL_RANGE = 262_143_328_850
AMD_RANGE = 65_532_610_987


class Clock:
    """Seconds that pass where the test says so."""

    now = 0.0
    asked = 0

    def __call__(self):
        self.asked += 1
        return self.now

    def wait_for_a_reading(self):
        """Each begins with a look at the clock, so one has ended when the next does."""
        enough, deadline = self.asked + 2, time.monotonic() + 30.0
        while self.asked < enough:
            assert time.monotonic() < deadline
            time.sleep(0.001)


def write_zone(folder, zone, name, energy_uj, range_uj=INTEL_RANGE):
    (folder / zone).mkdir(parents=True, exist_ok=True)
    (folder / zone / "name").write_text(f"{name}\n")
    (folder / zone / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / zone / "max_energy_range_uj").write_text(f"{range_uj}\n")


@pytest.fixture
def powercap(tmp_path):
    """Two packages as Linux shows them, with what must not be counted a second time."""
    write_zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    write_zone(tmp_path, "intel-rapl:0:0", "dram", 10)
    write_zone(tmp_path, "intel-rapl:1", "package-1", INTEL_RANGE - 4_000_000)
    write_zone(tmp_path, "intel-rapl:1:0", "core", 10)
    write_zone(tmp_path, "intel-rapl:2", "psys", 10)
    write_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 10)
    return tmp_path


@pytest.fixture
def packages_of():
    """Opens packages; their threads end with the test."""
    made = []

    def opened(folder, poll_seconds=3600.0, clock=time.monotonic):
        made.append(CpuPackages(folder, poll_seconds, clock))
        return made[-1]

    yield opened
    for packages in made:
        packages.close()


def test_packages_are_counted_over_their_wrap_and_their_parts_are_not(powercap, packages_of):
    packages = packages_of(powercap)
    assert set(packages.joules().values()) == {0.0}
    write_zone(powercap, "intel-rapl:0", "package-0", 6_000_000)
    write_zone(powercap, "intel-rapl:1", "package-1", 3_000_000)
    write_zone(powercap, "intel-rapl:0:0", "dram", 900_000_000)
    write_zone(powercap, "intel-rapl:2", "psys", 900_000_000)
    write_zone(powercap, "intel-rapl-mmio:0", "package-0", 900_000_000)
    used = packages.joules()
    assert used == {"package-0 (intel-rapl:0)": 5.0, "package-1 (intel-rapl:1)": 7.0}
    assert packages.joules() == used


def test_a_counter_that_may_have_wrapped_twice_is_told_and_then_goes_on(powercap, packages_of):
    clock = Clock()
    write_zone(powercap, "intel-rapl:1", "package-1", 0, AMD_RANGE)
    packages = packages_of(powercap, clock=clock)
    clock.now = 66.0  # 66 kJ at a kilowatt
    with pytest.raises(CounterError, match=r"package-1 \(intel-rapl:1\) was not read for 66 s"):
        packages.joules()
    clock.now = 131.0
    write_zone(powercap, "intel-rapl:1", "package-1", 9_000_000, AMD_RANGE)
    assert packages.joules()["package-1 (intel-rapl:1)"] == 9.0


def test_the_thread_follows_turns_that_nobody_asks_about(powercap, packages_of):
    clock = Clock()
    packages = packages_of(powercap, poll_seconds=0.001, clock=clock)
    for energy_uj in (AMD_RANGE // 2, 0, AMD_RANGE // 2, 0):
        write_energy(powercap / "intel-rapl:0", energy_uj)
        clock.wait_for_a_reading()
    used = packages.joules()["package-0 (intel-rapl:0)"]
    assert used == pytest.approx((2 * INTEL_RANGE - 1_000_000) / 1e6)


def write_energy(zone, energy_uj):
    """At once, as sysfs shows it: never an empty file."""
    (zone / "new").write_text(str(energy_uj))
    (zone / "new").replace(zone / "energy_uj")


def make_unreadable(path):
    """Also for root, whom no permission stops."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda zone: make_unreadable(zone / "energy_uj"), "rapl:1's energy_uj: Is a directory"),
        (lambda zone: (zone / "energy_uj").write_text(""), "energy_uj: '' is no number"),
        (lambda zone: (zone / "max_energy_range_uj").unlink(), "max_energy_range_uj: No such"),
    ],
)
def test_a_package_that_cannot_be_read_leaves_no_number_of_the_others(powercap, spoil, reason):
    spoil(powercap / "intel-rapl:1")
    with pytest.raises(CounterError, match=reason):
        CpuPackages(powercap)


def test_a_machine_that_shows_no_package_says_so(tmp_path):
    write_zone(tmp_path, "intel-rapl:2", "psys", 10)
    with pytest.raises(CounterError, match="no intel-rapl package in "):
        CpuPackages(tmp_path)


STAND_IN = """
extern "C" {
static int users = 0;
static unsigned long long millijoules = 5000000000000ULL;
int nvmlInitWithFlags(unsigned flags) { users++; return 0; }
int nvmlShutdown(void) { users--; return 0; }
int count_users(void) { return users; }
const char *nvmlErrorString(int status) { return status == 3 ? "Not Supported" : "Not Found"; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    if (uuid[0] != 'G') return 6;
    *device = (void *)(0x7f0000000000ULL + uuid[4]);  /* a pointer of more than 32 bits */
    return 0;
}
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *pending) {
    if (device == (void *)(0x7f0000000000ULL + 'n')) return 3;
    *now = *pending = device == (void *)(0x7f0000000000ULL + 'm');
    return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy) {
    if (device == (void *)(0x7f0000000000ULL + 'o')) return 3;
    *energy = millijoules += 250000;
    return 0;
}
}
"""
"""Of nvml.h's functions: GPU-new, GPU-old without a counter, GPU-mig and GPU-no-mig-at-all."""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A library with the signatures of nvml.h; no test here sees the real one, nor a GPU."""
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.cpp").write_text(STAND_IN)
    path = folder / "libnvidia-ml.so"
    subprocess.run(["c++", "-shared", "-fPIC", "-o", path, folder / "nvml.cpp"], check=True)
    return ctypes.CDLL(str(path))


@pytest.fixture
def nvml(library, monkeypatch):
    """The stand-in, which NVIDIA's binding takes for the driver's library."""
    monkeypatch.setattr(pynvml, "nvmlLib", library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return library


@pytest.mark.parametrize("uuid", ["GPU-hopper", "GPU-no-mig-at-all"])
def test_a_gpus_millijoules_are_joules(nvml, uuid):
    gpu = GpuCounter(uuid)
    before, after = gpu.joules()["GPU"], gpu.joules()["GPU"]
    assert (before > 5e9, after - before) == (True, 250.0)
    gpu.close()
    assert nvml.count_users() == 0


@pytest.mark.parametrize(
    ("uuid", "reason"),
    [
        ("GPU-old", "NVML: Not Supported"),
        ("MIG-part", "NVML: Not Found"),
        ("GPU-mig", "shared out in parts"),
    ],
)
def test_a_gpu_without_a_counter_of_its_own_says_so_and_lets_go(nvml, uuid, reason):
    with pytest.raises(CounterError, match=reason):
        GpuCounter(uuid)
    assert nvml.count_users() == 0


def test_a_machine_without_the_driver_says_so(monkeypatch):
    def load(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setattr(pynvml, "CDLL", load)
    with pytest.raises(CounterError, match="NVML Shared Library Not Found"):
        GpuCounter("GPU-hopper")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_gpus_counter_grows_while_it_works():
    device = torch.device("cuda", 0)
    gpu = counters_of(device)["gpu"]()
    before, end = gpu.joules()["GPU"], time.monotonic() + 2.0
    matrix = torch.ones(4096, 4096, device=device)
    while time.monotonic() < end:
        (matrix @ matrix).sum().item()
    watts = (gpu.joules()["GPU"] - before) / 2.0
    gpu.close()
    assert 20.0 < watts < 2000.0
