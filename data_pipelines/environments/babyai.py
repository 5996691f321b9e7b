"""BabyAI levels with a mission in words, solved by the bot that comes with them.

A task shows the partial view as a picture of 7 x 7 tiles of 8 pixels; its `-symbolic` variant shows what is on each
tile as three numbers. An episode ends at success, which is its score.
"""

from collections.abc import Mapping
import contextlib
import io

import numpy as np

from data_pipelines.environments.simulation import SimulatedEnvironment, Transition, import_simulator
from data_pipelines.environments.specs import ArraySpec, Observation, TaskSpec

DOMAIN = 'babyai'
SYMBOLIC = '-symbolic'
LEVELS = {'OpenRedDoor-v0': 50, 'GoToRedBallNoDists-v0': 64, 'GoToLocalS5N2-v0': 25}  # level -> max_steps
TILE_PIXELS = 8
PICTURE = ArraySpec('image', (7 * TILE_PIXELS, 7 * TILE_PIXELS, 3))
SYMBOLS = ArraySpec('discrete', (7, 7, 3), 11)  # object type, colour, state; the largest of them is type 10


def _spec(task: str, view: ArraySpec, max_steps: int) -> TaskSpec:
  observation = {'image': view, 'mission': ArraySpec('text')}
  return TaskSpec(f'{DOMAIN}/{task}', DOMAIN, observation, ArraySpec('discrete', (), 7), max_steps, 'success')


SPECS: Mapping[str, TaskSpec] = {
    **{level: _spec(level, PICTURE, steps) for level, steps in LEVELS.items()},
    **{level + SYMBOLIC: _spec(level + SYMBOLIC, SYMBOLS, steps) for level, steps in LEVELS.items()},
}


class BabyAIEnvironment(SimulatedEnvironment):
  """A BabyAI level.

  Attributes:
    simulator: the minigrid environment, which the bot reads.
  """

  def __init__(self, spec: TaskSpec):
    super().__init__(spec)
    import_simulator('minigrid')  # registers the levels
    gymnasium = import_simulator('gymnasium')
    level = spec.name.split('/')[1].removesuffix(SYMBOLIC)
    self.simulator = gymnasium.make(f'BabyAI-{level}', render_mode='rgb_array').unwrapped
    self._symbolic = spec.observation['image'].kind == 'discrete'

  def _reset(self, seed: int) -> Observation:
    with contextlib.redirect_stdout(io.StringIO()):  # level generation prints every layout it rejects
      observation, _ = self.simulator.reset(seed=seed)
    return self._observation(observation)

  def _step(self, action: np.ndarray) -> Transition:
    observation, reward, terminated, _, _ = self.simulator.step(int(action))
    return Transition(self._observation(observation), float(reward), bool(terminated), bool(reward > 0))

  def _observation(self, observation) -> Observation:
    if self._symbolic:
      view = observation['image'].astype(np.int32)
    else:
      view = self.simulator.get_frame(tile_size=TILE_PIXELS, agent_pov=True)
    return {'image': view, 'mission': observation['mission']}

  def render(self) -> np.ndarray | None:
    return self.simulator.render()

  def close(self) -> None:
    self.simulator.close()


class BotExpert:
  """The BabyAI bot. It remembers the cells it has seen, and replans from the action that was really taken."""

  def __init__(self, environment: BabyAIEnvironment):
    self._environment = environment
    self._bot_class = import_simulator('minigrid.utils.baby_ai_bot').BabyAIBot
    self._bot = None

  def reset(self) -> None:
    self._bot = self._bot_class(self._environment.simulator)

  def act(self, observation: Observation) -> np.ndarray:
    """May raise or, rarely, never return: `collection.collect_episode` guards against both."""
    del observation  # the bot reads the simulator
    taken = self._environment.last_action
    return np.int32(self._bot.replan(None if taken is None else int(taken)))


def make(spec: TaskSpec) -> BabyAIEnvironment:
  return BabyAIEnvironment(spec)


def make_expert(environment: BabyAIEnvironment) -> BotExpert:
  return BotExpert(environment)
