"""The host's memory where it is the device's: how glibc keeps it."""

import ctypes
import importlib.metadata
import importlib.util

import jax

# Numbers of malloc.h. One arena, because a thread's own cannot hold a large buffer; nothing mapped apart and nothing
# trimmed, because either goes back to the system.
_SETTINGS = ((-8, 1), (-4, 0), (-1, -1))  # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD


def keep_freed_memory() -> bool:
  """Has this process keep what it frees, where JAX runs on CPUs alone; call it before JAX starts its devices.

  Large buffers otherwise go back to the system after each step and come back a page fault at a time: of a training step
  at 4 layers x 256 that is a tenth, and a token of the 79M model that is read between other work takes four times as
  long.

  Returns:
    Whether it does: not where an accelerator may be the device, nor without glibc.
  """
  if not _only_cpus():
    return False
  try:
    set_option = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):
    return False
  return all([set_option(option, value) for option, value in _SETTINGS])


def _only_cpus() -> bool:
  """Known without starting them."""
  if jax.config.jax_platforms:
    return jax.config.jax_platforms == 'cpu'
  plugins = importlib.metadata.entry_points(group='jax_plugins')
  return not plugins and importlib.util.find_spec('libtpu') is None
