"""Memory that is freed stays with the process: page faults counted by the system, in processes of their own."""

import os
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys
import jax, jax.numpy as jnp
from gato_jax.allocator import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == 'keep' else None
fill = jax.jit(lambda value: jnp.full((4096, 4096), value))

def faults(calls):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  for value in range(calls):
    fill(float(value)).block_until_ready()
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(10)
print(kept, faults(10))
"""


def count_faults(argument, **environment):
  output = subprocess.run(
      [sys.executable, '-c', COUNT_FAULTS, argument], check=True, capture_output=True, text=True,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu', **environment}).stdout
  kept, faults = output.split()
  return kept, int(faults)


@pytest.mark.skipif(sys.platform != 'linux', reason='glibc')
def test_a_buffer_is_faulted_in_once():
  """Ten buffers of 64 MB: 16,384 pages each, or 32 huge ones."""
  kept, few = count_faults('keep')
  _, many = count_faults('leave')
  assert kept == 'True' and many >= 320
  assert few <= many / 4  # another thread may once have taken the place that was free


def test_it_is_for_cpus_alone():
  assert count_faults('keep', JAX_PLATFORMS='cpu,cuda')[0] == 'False'
