"""The suite with physical parameters 20 to 40% off; see `dm_control_random`."""

from data_pipelines.environments import dm_control_suite
from data_pipelines.environments.dm_control_random import RandomBodyEnvironment, random_specs
from data_pipelines.environments.specs import TaskSpec

DOMAIN = 'dm_control_random_large'
RANGES = ((0.6, 0.8), (1.2, 1.4))
SPECS = random_specs(DOMAIN, tuple(dm_control_suite.SPECS))
HELD_OUT = dm_control_suite.HELD_OUT
TRAINED = tuple(task for task in SPECS if task not in HELD_OUT)
make_expert = dm_control_suite.make_expert


def make(spec: TaskSpec) -> RandomBodyEnvironment:
  return RandomBodyEnvironment(spec, RANGES)
