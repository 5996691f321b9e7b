"""A gymnasium environment and a policy of your own, as a suite that is learned from and evaluated.

    config.data.environments = ('experiments/examples/own_environment.py',)
    config.data.mixture['own'] = mixture_entry(0.1, tasks=('pendulum',), episodes=100, noise=0.5)

Its scores, which evaluation wants, were measured by

    python -m data_pipelines.environments.reference_scores --domain own \\
        --environments experiments/examples/own_environment.py
"""

import gymnasium
import numpy as np

from data_pipelines.environments.gymnasium_environment import GymnasiumEnvironment, PolicyExpert, gymnasium_spec

DOMAIN = 'own'


def pendulum():
  return gymnasium.make('Pendulum-v1', render_mode='rgb_array')


def swing_up(observation):
  """Near the top it balances; elsewhere it pumps energy, 5 of which are enough to rise."""
  cosine, sine, velocity = observation['observation']
  if cosine > 0.8:
    return np.clip([-12 * sine - 3 * velocity], -2, 2)
  energy = velocity**2 / 6 + 5 * cosine
  return np.array([2.0 if (5 - energy) * velocity > 0 else -2.0])


SPECS = {'pendulum': gymnasium_spec('own/pendulum', pendulum(), max_steps=200)}


def make(spec):
  return GymnasiumEnvironment(spec, pendulum)


def make_expert(environment):
  return PolicyExpert(environment, swing_up)
