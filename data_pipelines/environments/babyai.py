"""BabyAI levels with a mission in words, solved by the bot that comes with them.

A task shows the partial view as a picture of 7 x 7 tiles of 8 pixels; its `-symbolic` variant shows what is on each
tile as three numbers. An episode ends at success, which is its score.

Of minigrid's 96 levels those are left out which the bot cannot solve (KeyInBox, PutNext...Carrying), seldom solves
(OpenDoorsOrder...Debug, which ends at the first wrong door), sometimes does not (SynthS5R2), or in which it may search
for ever (GoToImpUnlock, UnlockToUnlock).
"""

from collections.abc import Mapping
import contextlib
import functools
import io

import numpy as np

from data_pipelines.environments.simulation import SimulatedEnvironment, Transition, import_simulator
from data_pipelines.environments.specs import ArraySpec, Observation, TaskSpec

DOMAIN = 'babyai'
SYMBOLIC = '-symbolic'
# Level -> max_steps: minigrid's own; where it grows with the mission's clauses, the most that 20 missions got.
LEVELS: Mapping[str, int] = {
    'ActionObjDoor-v0': 441, 'BlockedUnlockPickup-v0': 576, 'BossLevel-v0': 1152, 'BossLevelNoUnlock-v0': 1728,
    'FindObjS5-v0': 500, 'FindObjS6-v0': 720, 'FindObjS7-v0': 980, 'GoTo-v0': 576, 'GoToDoor-v0': 441,
    'GoToLocal-v0': 64, 'GoToLocalS5N2-v0': 25, 'GoToLocalS6N2-v0': 36, 'GoToLocalS6N3-v0': 36, 'GoToLocalS6N4-v0': 36,
    'GoToLocalS7N4-v0': 49, 'GoToLocalS7N5-v0': 49, 'GoToLocalS8N2-v0': 64, 'GoToLocalS8N3-v0': 64,
    'GoToLocalS8N4-v0': 64, 'GoToLocalS8N5-v0': 64, 'GoToLocalS8N6-v0': 64, 'GoToLocalS8N7-v0': 64, 'GoToObj-v0': 64,
    'GoToObjDoor-v0': 576, 'GoToObjMaze-v0': 576, 'GoToObjMazeOpen-v0': 576, 'GoToObjMazeS4-v0': 144,
    'GoToObjMazeS4R2-v0': 64, 'GoToObjMazeS5-v0': 225, 'GoToObjMazeS6-v0': 324, 'GoToObjMazeS7-v0': 441,
    'GoToObjS4-v0': 16, 'GoToObjS6-v1': 36, 'GoToOpen-v0': 576, 'GoToRedBall-v0': 64, 'GoToRedBallGrey-v0': 64,
    'GoToRedBallNoDists-v0': 64, 'GoToRedBlueBall-v0': 64, 'GoToSeq-v0': 1152, 'GoToSeqS5R2-v0': 400,
    'KeyCorridor-v0': 1080, 'KeyCorridorS3R1-v0': 270, 'KeyCorridorS3R2-v0': 270, 'KeyCorridorS3R3-v0': 270,
    'KeyCorridorS4R3-v0': 480, 'KeyCorridorS5R3-v0': 750, 'KeyCorridorS6R3-v0': 1080, 'MiniBossLevel-v0': 200,
    'MoveTwoAcrossS5N2-v0': 400, 'MoveTwoAcrossS8N9-v0': 1024, 'OneRoomS12-v0': 144, 'OneRoomS16-v0': 256,
    'OneRoomS20-v0': 400, 'OneRoomS8-v0': 64, 'Open-v0': 576, 'OpenDoor-v0': 576, 'OpenDoorColor-v0': 576,
    'OpenDoorDebug-v0': 576, 'OpenDoorLoc-v0': 576, 'OpenDoorsOrderN2-v0': 720, 'OpenDoorsOrderN4-v0': 720,
    'OpenRedBlueDoors-v0': 720, 'OpenRedBlueDoorsDebug-v0': 720, 'OpenRedDoor-v0': 50, 'OpenTwoDoors-v0': 720,
    'Pickup-v0': 576, 'PickupAbove-v0': 288, 'PickupDist-v0': 49, 'PickupDistDebug-v0': 49, 'PickupLoc-v0': 64,
    'PutNextLocal-v0': 128, 'PutNextLocalS5N3-v0': 50, 'PutNextLocalS6N4-v0': 72, 'PutNextS4N1-v0': 128,
    'PutNextS5N1-v0': 200, 'PutNextS5N2-v0': 200, 'PutNextS6N3-v0': 288, 'PutNextS7N4-v0': 392, 'Synth-v0': 576,
    'SynthLoc-v0': 1152, 'SynthSeq-v0': 1728, 'UnblockPickup-v0': 576, 'Unlock-v0': 576, 'UnlockLocal-v0': 576,
    'UnlockLocalDist-v0': 576, 'UnlockPickup-v0': 72, 'UnlockPickupDist-v0': 72,
}
VIEW = 7  # tiles
TILE_PIXELS = 8
PICTURE = ArraySpec('image', (VIEW * TILE_PIXELS, VIEW * TILE_PIXELS, 3))
SYMBOLS = ArraySpec('discrete', (VIEW, VIEW, 3), 11)  # object type, colour, state; the largest of them is type 10
AGENT_TILE = (VIEW - 1) * VIEW + VIEW // 2  # the middle of the lowest row


def _spec(task: str, view: ArraySpec, max_steps: int, variant_of: str = '') -> TaskSpec:
  observation = {'image': view, 'mission': ArraySpec('text')}
  action = ArraySpec('discrete', (), 7)
  return TaskSpec(f'{DOMAIN}/{task}', DOMAIN, observation, action, max_steps, 'success', variant_of)


SPECS: Mapping[str, TaskSpec] = {
    **{level: _spec(level, PICTURE, steps) for level, steps in LEVELS.items()},
    **{level + SYMBOLIC: _spec(level + SYMBOLIC, SYMBOLS, steps, f'{DOMAIN}/{level}')
       for level, steps in LEVELS.items()},
}


class BabyAIEnvironment(SimulatedEnvironment):
  """A BabyAI level.

  Attributes:
    simulator: the minigrid environment, which the bot reads.
  """

  demonstration_seconds = 20  # the slowest take about two

  def __init__(self, spec: TaskSpec):
    super().__init__(spec)
    import_simulator('minigrid')  # registers the levels
    gymnasium = import_simulator('gymnasium')
    level = spec.task.removesuffix(SYMBOLIC)
    self.simulator = gymnasium.make(f'BabyAI-{level}', render_mode='rgb_array').unwrapped
    self.simulator.fixed_max_steps = True
    self.simulator.max_steps = spec.max_steps
    self._symbolic = spec.observation['image'].kind == 'discrete'

  def _reset(self, seed: int) -> Observation:
    with contextlib.redirect_stdout(io.StringIO()):  # level generation prints every layout it rejects
      observation, _ = self.simulator.reset(seed=seed)
    return self._observation(observation)

  def _step(self, action: np.ndarray) -> Transition:
    observation, reward, terminated, _, _ = self.simulator.step(int(action))
    return Transition(self._observation(observation), float(reward), bool(terminated), bool(reward > 0))

  def _observation(self, observation) -> Observation:
    view = observation['image'].astype(np.int32) if self._symbolic else _picture(observation['image'])
    return {'image': view, 'mission': observation['mission']}

  def render(self) -> np.ndarray | None:
    return self.simulator.render()

  def close(self) -> None:
    self.simulator.close()


def _picture(symbols: np.ndarray) -> np.ndarray:
  """The view [column, row, 3] in minigrid's own tiles: what its `get_frame` draws, at a tenth of the time."""
  codes = symbols.swapaxes(0, 1).reshape(-1, 3).tolist()
  tiles = [_tile(*code, agent=place == AGENT_TILE) for place, code in enumerate(codes)]
  rows = np.reshape(tiles, (VIEW, VIEW, TILE_PIXELS, TILE_PIXELS, 3)).swapaxes(1, 2)
  return rows.reshape(PICTURE.shape)


@functools.cache
def _tile(object_type: int, colour: int, state: int, agent: bool) -> np.ndarray:
  item = import_simulator('minigrid.core.world_object').WorldObj.decode(object_type, colour, state)
  draw = import_simulator('minigrid.core.grid').Grid.render_tile
  facing_up = 3
  tile = draw(item, facing_up if agent else None, highlight=object_type != 0, tile_size=TILE_PIXELS)
  return tile.astype(np.uint8)


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
