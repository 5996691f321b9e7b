"""Atari games in other modes and difficulties than their cartridge starts with, which the same scripts master.

All else is as in `atari`.
"""

from collections.abc import Mapping
import re

from data_pipelines.environments import atari
from data_pipelines.environments.specs import TaskSpec

DOMAIN = 'atari_extended'
VARIANTS = (  # game, mode, difficulty
    ('breakout', 0, 1),
    ('breakout', 4, 0),
    ('breakout', 24, 0),
    ('breakout', 24, 1),
    ('boxing', 0, 2),
    ('fishing_derby', 0, 2),
    ('pong', 0, 1),
)
SPECS: Mapping[str, TaskSpec] = {
    task: atari.game_spec(DOMAIN, task)
    for task in (f'{game}-mode{mode}-difficulty{difficulty}' for game, mode, difficulty in VARIANTS)
}
TRAINED = tuple(task for task in SPECS if not task.startswith(atari.HELD_OUT))


def make(spec: TaskSpec) -> atari.AtariEnvironment:
  game, mode, difficulty = re.fullmatch(r'\w+/(\w+)-mode(\d+)-difficulty(\d+)', spec.name).groups()
  return atari.AtariEnvironment(spec, game, int(mode), int(difficulty))


make_expert = atari.make_expert
