"""A GPU's energy counter, by NVIDIA's own binding of the library that comes with its driver."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pynvml

from pretrain.metrics.energy.counter import CounterError

_NotSupportedError = pynvml.nvmlExceptionClass(pynvml.NVML_ERROR_NOT_SUPPORTED)


class GpuCounter:
    """The energy of one GPU as a whole; the counter moves every 0.02 to 0.1 s.

    Source: NVML API reference, ``nvmlDeviceGetTotalEnergyConsumption`` (millijoules since the
    driver was loaded; Volta or newer).

    Args:
        uuid: ``GPU-...``, which names the same GPU however ``CUDA_VISIBLE_DEVICES`` orders them.

    Raises:
        CounterError: there is no driver, no such GPU, it has no counter, or it is cut up (MIG).
    """

    def __init__(self, uuid: str) -> None:
        with _told_as_counter_error():
            pynvml.nvmlInit()
        try:
            with _told_as_counter_error():
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            self._refuse_parts()
            self.joules()
        except CounterError:
            self.close()
            raise

    def joules(self) -> dict[str, float]:
        """What the GPU has used since its driver was loaded.

        Raises:
            CounterError: NVML says why.
        """
        with _told_as_counter_error():
            return {"GPU": pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3}

    def close(self) -> None:
        """Let go of NVML."""
        with suppress(pynvml.NVMLError):  # the driver is gone: there is nothing to let go of
            pynvml.nvmlShutdown()

    def _refuse_parts(self) -> None:
        """The counter is the whole GPU's, and a part of it may be all that this rank has."""
        with _told_as_counter_error():
            try:
                now, _ = pynvml.nvmlDeviceGetMigMode(self._handle)
            except _NotSupportedError:
                return  # it cannot be cut up
        if now:
            raise CounterError("the GPU is shared out in parts (MIG), and has one counter for all")


@contextmanager
def _told_as_counter_error() -> Iterator[None]:
    try:
        yield
    except pynvml.NVMLError as error:
        raise CounterError(f"NVML: {error}") from error
