"""How much memory a process of a run holds, so that a leak is seen before the machine is full."""

import jax
import psutil

_GIB = 2**30


def memory_held() -> dict[str, float]:
  """In GiB: `host_memory_gib`, resident now; `device_memory_gib`, the most so far on the fullest of this process's
  devices, where devices tell (CPUs do not).
  """
  held = {'host_memory_gib': psutil.Process().memory_info().rss / _GIB}
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  peaks = [device['peak_bytes_in_use'] for device in stats if 'peak_bytes_in_use' in device]
  if peaks:
    held['device_memory_gib'] = max(peaks) / _GIB
  return held
