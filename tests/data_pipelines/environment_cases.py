"""What the tests of simulators do with them."""

import numpy as np


def play(environment, seed, steps, rng=None):
  """Observations and rewards of up to `steps` random steps; the actions depend on `rng` only."""
  rng = rng or np.random.default_rng(0)
  observations, rewards = [environment.reset(seed)], []
  for _ in range(steps):
    spec = environment.spec.action
    action = np.int32(rng.integers(spec.num_values)) if spec.kind == 'discrete' else rng.uniform(-1, 1, spec.shape)
    result = environment.step(action)
    observations.append(result.observation)
    rewards.append(result.reward)
    if result.terminated or result.truncated:
      break
  return observations, rewards
