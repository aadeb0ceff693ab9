"""FLOP per second and the share of a device's peak, by hand."""

from jaxreg.study.engine.peaks import peak
from jaxreg.study.engine.utilization import Utilization, utilization_text


def test_chunks_are_summed_over_the_devices():
    used = Utilization(devices=4)
    assert used.row() == {} and utilization_text(used.row()) == ""
    used.wave(0, 1e12)
    used.chunk(1_000, 5.0)  # of a small model: nothing is counted
    assert used.row() == {}
    used.wave(2e9, 1e12)
    used.chunk(3_000, 2.0)  # 6e12 FLOP on four devices in 2 s, 8e12 possible
    assert used.row() == {"flop_per_second": 7.5e11, "mfu": 0.75}
    assert utilization_text(used.row()) == "750 GFLOP/s a device, MFU 75%"
    used.wave(2e9, None)  # of a dtype without a known peak
    used.chunk(9_000, 1.0)
    assert used.row() == {"flop_per_second": 2e12, "mfu": 0.75}
    assert utilization_text({"flop_per_second": 2e12}) == "2 TFLOP/s a device"


def test_a_cpu_has_no_known_peak():
    assert peak("cpu", "float32") is None and peak("TPU v5 lite", "float16") is None
    assert peak("TPU v5 lite", "bfloat16") == 197e12
