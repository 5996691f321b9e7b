"""The 16 Procgen games (Cobbe et al. 2020): every seed is a level of its own.

Levels are hard, but easy in maze and heist, as in the paper's data (section 7.3). An episode is one level; the game
itself gives up after 500 or 1,000 steps. Scores are returns.
"""

from collections.abc import Mapping
import importlib
from types import ModuleType

import numpy as np

from data_pipelines.environments.procgen_experts import EXPERTS, MazeSolver, RolloutSearch
from data_pipelines.environments.simulation import SimulatedEnvironment, Transition
from data_pipelines.environments.specs import ArraySpec, Observation, TaskSpec
from data_pipelines.errors import InputError

DOMAIN = 'procgen'
GAMES = ('bigfish', 'bossfight', 'caveflyer', 'chaser', 'climber', 'coinrun', 'dodgeball', 'fruitbot', 'heist',
         'jumper', 'leaper', 'maze', 'miner', 'ninja', 'plunder', 'starpilot')
EASY = ('heist', 'maze')
# Its wheels for Python 3.11 declare numpy<2, which they do not need, and want the gym of 2022: no extra can hold them.
REMEDY = ('on Python 3.11: pip install cffi cloudpickle gym-notices && '
          'pip install --no-deps procgen2==0.10.7 gym3==0.3.3 gym==0.26.2')
SPECS: Mapping[str, TaskSpec] = {
    game: TaskSpec(f'{DOMAIN}/{game}', DOMAIN, {'image': ArraySpec('image', (64, 64, 3))},
                   ArraySpec('discrete', (), 15), 1000)
    for game in GAMES
}
EVALUATION_ONLY = tuple(game for game in GAMES if game not in EXPERTS)


class ProcgenEnvironment(SimulatedEnvironment):
  """A Procgen game."""

  demonstration_seconds = 300  # the search takes a while

  def __init__(self, spec: TaskSpec):
    super().__init__(spec)
    self._library = import_procgen()
    self._level = self.build(1, 0)

  def build(self, count: int, seed: int):
    """A simulator of `count` copies of the level of `seed`."""
    game = self.spec.task
    return self._library.ProcgenGym3Env(
        count, game, distribution_mode='easy' if game in EASY else 'hard', start_level=seed, num_levels=1,
        rand_seed=seed, num_threads=0)

  def state(self) -> bytes:
    """All that the rest of the episode depends on."""
    return self._level.callmethod('get_state')[0]

  def _reset(self, seed: int) -> Observation:
    self._level.close()
    self._level = self.build(1, seed)
    return self._observation()

  def _step(self, action: np.ndarray) -> Transition:
    self._level.act(action[None])
    reward, _, first = self._level.observe()
    return Transition(self._observation(), float(reward[0]), bool(first[0]))

  def _observation(self) -> Observation:
    return {'image': self._level.observe()[1]['rgb'][0].copy()}

  def render(self) -> np.ndarray | None:
    return self._observation()['image']

  def close(self) -> None:
    self._level.close()


def import_procgen() -> ModuleType:
  """The simulator's module; raises InputError saying how to install it."""
  try:
    return importlib.import_module('procgen')
  except ImportError as error:
    raise InputError(f'cannot import procgen ({error}); {REMEDY}') from error


def make(spec: TaskSpec) -> ProcgenEnvironment:
  return ProcgenEnvironment(spec)


def make_expert(environment: ProcgenEnvironment) -> MazeSolver | RolloutSearch:
  """The game's expert; raises InputError where it has none, as it can only be played."""
  game = environment.spec.task
  if game not in EXPERTS:
    raise InputError(f'{environment.spec.name} has no expert: it can be evaluated, but no demonstrations made of it; '
                     f'there are experts for {", ".join(EXPERTS)}')
  return EXPERTS[game](environment)
