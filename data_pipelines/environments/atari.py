"""The 57 Atari 2600 games of the Arcade Learning Environment, some of them with a scripted expert.

What an agent meets, after Machado et al. 2018 ("Revisiting the Arcade Learning Environment"):
  Action: all 18 positions of joystick and button in every game, so that an action's token means the same everywhere.
    It holds for 4 frames (15 decisions a second), in each of which the console repeats the last frame's action with
    probability 0.25.
  Observation: the last two of those frames averaged, as sprites flicker, and shrunk to 80 x 64: the 20 patches of the
    paper's figure 17.
  Episode: a whole game, not a life, that starts with up to 28 frames of doing nothing and is cut off after 5 minutes,
    4,500 decisions. Scores are returns in points.
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from data_pipelines.environments.atari_experts import EXPERTS, RamExpert
from data_pipelines.environments.simulation import SimulatedEnvironment, Transition, import_simulator
from data_pipelines.environments.specs import ArraySpec, Observation, TaskSpec
from data_pipelines.errors import InputError

DOMAIN = 'atari'
GAMES = (  # of Bellemare et al. 2013 and Wang et al. 2016, by the names of their ROMs
    'alien', 'amidar', 'assault', 'asterix', 'asteroids', 'atlantis', 'bank_heist', 'battle_zone', 'beam_rider',
    'berzerk', 'bowling', 'boxing', 'breakout', 'centipede', 'chopper_command', 'crazy_climber', 'defender',
    'demon_attack', 'double_dunk', 'enduro', 'fishing_derby', 'freeway', 'frostbite', 'gopher', 'gravitar', 'hero',
    'ice_hockey', 'jamesbond', 'kangaroo', 'krull', 'kung_fu_master', 'montezuma_revenge', 'ms_pacman',
    'name_this_game', 'phoenix', 'pitfall', 'pong', 'private_eye', 'qbert', 'riverraid', 'road_runner', 'robotank',
    'seaquest', 'skiing', 'solaris', 'space_invaders', 'star_gunner', 'surround', 'tennis', 'time_pilot', 'tutankham',
    'up_n_down', 'venture', 'video_pinball', 'wizard_of_wor', 'yars_revenge', 'zaxxon')
HEIGHT, WIDTH = 80, 64
FRAMES = 4  # to an action
STICKINESS = 0.25
MAX_STEPS = 4500
MAX_IDLE_STEPS = 7  # at the start


def game_spec(domain: str, task: str) -> TaskSpec:
  observation = {'image': ArraySpec('image', (HEIGHT, WIDTH, 3))}
  return TaskSpec(f'{domain}/{task}', domain, observation, ArraySpec('discrete', (), 18), MAX_STEPS)


SPECS: Mapping[str, TaskSpec] = {game: game_spec(DOMAIN, game) for game in GAMES}
EVALUATION_ONLY = tuple(game for game in GAMES if game not in EXPERTS)
HELD_OUT = ('boxing',)  # by the paper, in every form
TRAINED = tuple(game for game in EXPERTS if game not in HELD_OUT)


class AtariEnvironment(SimulatedEnvironment):
  """A game in one of its modes and difficulties; None: those that its cartridge starts with.

  Attributes:
    game: the name of its ROM.
  """

  def __init__(self, spec: TaskSpec, game: str, mode: int | None = None, difficulty: int | None = None):
    super().__init__(spec)
    self.game = game
    self._mode, self._difficulty = mode, difficulty
    ale_py = import_simulator('ale_py', 'suites')
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    self._simulator = ale_py.ALEInterface()
    self._simulator.setInt('frame_skip', FRAMES)
    self._simulator.setFloat('repeat_action_probability', STICKINESS)
    self._simulator.setBool('color_averaging', True)
    self._actions = tuple(ale_py.Action(action) for action in range(spec.action.num_values))
    self._rom = import_simulator('ale_py.roms', 'suites').get_rom_path(game)

  @property
  def ram(self) -> list[int]:
    """The console's memory, 128 bytes."""
    return self._simulator.getRAM().tolist()

  def _reset(self, seed: int) -> Observation:
    self._simulator.setInt('random_seed', seed)
    self._simulator.loadROM(self._rom)  # which alone seeds the console
    if self._mode is not None:
      self._simulator.setMode(self._mode)
    if self._difficulty is not None:
      self._simulator.setDifficulty(self._difficulty)
    self._simulator.reset_game()
    for _ in range(np.random.default_rng(seed).integers(MAX_IDLE_STEPS + 1)):
      self._simulator.act(self._actions[0])
    return self._observation()

  def _step(self, action: np.ndarray) -> Transition:
    reward = self._simulator.act(self._actions[int(action)])
    return Transition(self._observation(), float(reward), self._simulator.game_over())

  def _observation(self) -> Observation:
    picture = Image.fromarray(self._simulator.getScreenRGB())
    return {'image': np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.BOX))}

  def render(self) -> np.ndarray | None:
    return self._simulator.getScreenRGB()

  def close(self) -> None:
    """The console is freed with this object."""


def make(spec: TaskSpec) -> AtariEnvironment:
  return AtariEnvironment(spec, spec.task)


def make_expert(environment: AtariEnvironment) -> RamExpert:
  """The game's script; raises InputError where it has none, as it can only be played."""
  if environment.game not in EXPERTS:
    raise InputError(f'{environment.spec.name} has no expert: it can be evaluated, but no demonstrations made of it; '
                     f'there are scripts for {", ".join(EXPERTS)}')
  return EXPERTS[environment.game](environment)
