"""Small datasets in memory, and a tokenizer, for the tests of tokens, packing and loading."""

from collections.abc import Sequence
import dataclasses
import functools
import pydoc_data.topics
from types import SimpleNamespace
from typing import Any

import numpy as np

from data_pipelines.datasets.episodes import (
    WHOLE,
    CaptionedImage,
    ControlEpisode,
    Episode,
    ImageQuestion,
    TextDocument,
)
from data_pipelines.environments.specs import ArraySpec, TaskSpec
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.tokenization.text import TextTokenizer, train_text_tokenizer
from data_pipelines.tokenization.vocabulary import Vocabulary

DOCUMENTS = sorted(pydoc_data.topics.topics.values())[:30]
MISSIONS = ('go to the red ball', 'pick up a key', 'open the door')


@dataclasses.dataclass
class MemorySource:
  """An EpisodeSource that is a list."""

  name: str
  kind: str
  episodes: Sequence[Episode]
  task: TaskSpec | None = None
  directory: str = ''
  reads: int = 0
  part_timesteps: int = WHOLE

  @property
  def noisy(self) -> np.ndarray:
    """Every third episode."""
    return np.arange(len(self.episodes)) % 3 == 1

  def __len__(self) -> int:
    return len(self.episodes)

  def __getitem__(self, index: int) -> Episode:
    self.reads += 1
    return self.episodes[index]

  def part(self, index: int, number: int) -> Episode:
    episode = self[index]
    if self.part_timesteps == WHOLE:
      return episode
    part = slice(number * self.part_timesteps, (number + 1) * self.part_timesteps)
    return dataclasses.replace(
        episode, observation={key: values[part] for key, values in episode.observation.items()},
        action=episode.action[part], expert_action=episode.expert_action[part], reward=episode.reward[part])


def control_task(name: str, action: ArraySpec, **observation: ArraySpec) -> TaskSpec:
  return TaskSpec(name, name.partition('/')[0], observation, action, max_steps=1000)


def random_episode(task: TaskSpec, length: int, rng: np.random.Generator) -> ControlEpisode:
  def values(spec: ArraySpec) -> Any:
    match spec.kind:
      case 'continuous':
        return rng.uniform(-1, 1, (length, *spec.shape)).astype(np.float32)
      case 'discrete':
        return rng.integers(spec.num_values, size=(length, *spec.shape), dtype=np.int32)
      case 'image':
        return rng.integers(256, size=(length, *spec.shape), dtype=np.uint8)
    return [MISSIONS[i] for i in rng.integers(len(MISSIONS), size=length)]

  return ControlEpisode({key: values(spec) for key, spec in task.observation.items()}, values(task.action),
                        values(task.action), np.ones(length, np.float32), float(length), True)


def control_source(task: TaskSpec, episodes: int, longest: int, seed: int = 0) -> MemorySource:
  rng = np.random.default_rng(seed)
  return MemorySource(task.name, 'control', [random_episode(task, int(rng.integers(longest // 2, longest + 1)), rng)
                                             for _ in range(episodes)], task)


CARTPOLE = control_task('dm_control/cartpole', ArraySpec('continuous', (1,)), position=ArraySpec('continuous', (3,)),
                        velocity=ArraySpec('continuous', (2,)))
REACH = control_task('metaworld/reach', ArraySpec('continuous', (4,)), state=ArraySpec('continuous', (39,)))
PUSH = dataclasses.replace(REACH, name='metaworld/push')
GO_TO = control_task('babyai/go-to', ArraySpec('discrete', (), 7), image=ArraySpec('image', (56, 56, 3)),
                     direction=ArraySpec('discrete', (), 4), mission=ArraySpec('text'))


def picture(rng: np.random.Generator, side: int) -> np.ndarray:
  return rng.integers(256, size=(side, side, 3), dtype=np.uint8)


def mixed_sources(text: bool = True) -> list[MemorySource]:
  """Every kind of dataset; text last."""
  rng = np.random.default_rng(7)
  questions = [ImageQuestion(picture(rng, 64), 'what colour is the shape?', word) for word in ('red', 'blue') * 20]
  captions = [CaptionedImage(picture(rng, 16), f'a handwritten {digit}') for digit in range(10)]
  sources = [control_source(CARTPOLE, 20, 200), control_source(REACH, 20, 60, 1), control_source(PUSH, 20, 60, 2),
             control_source(GO_TO, 20, 30, 3), MemorySource('easy_vqa', 'vqa', questions),
             MemorySource('digits', 'caption', captions)]
  return sources + [MemorySource('python_docs', 'text', [TextDocument(text) for text in DOCUMENTS])] * text


def data_config(**changes: Any) -> SimpleNamespace:
  """A config's `data` section for `mixed_sources`."""
  def entry(weight, window_timesteps=0, hide_actions=0.0):
    return SimpleNamespace(weight=weight, task_weights=(), window_timesteps=window_timesteps, hide_actions=hide_actions,
                           min_return_share=0.0)

  mixture = {'dm_control': entry(0.2), 'metaworld': entry(0.3, 1, 0.5), 'babyai': entry(0.2, 3),
             'easy_vqa': entry(0.1), 'digits': entry(0.05), 'python_docs': entry(0.15)}
  prompt = SimpleNamespace(share=0.25, from_end=0.5, max_share_of_row=0.5)
  config = SimpleNamespace(mixture=mixture, sequence_length=256, patches_per_row=96, block_rows=16, cache_megabytes=64,
                           read_threads=2, read_processes=0, prompt=prompt)
  return SimpleNamespace(**{**vars(config), **changes})


@functools.cache
def text_tokenizer() -> TextTokenizer:
  questions = ['Q: what colour is the shape? A: red blue a handwritten 0123456789'] * 10
  return train_text_tokenizer([*DOCUMENTS, *MISSIONS * 10, *questions], 1024)


@functools.cache
def tokenizer() -> SequenceTokenizer:
  return SequenceTokenizer(Vocabulary(1024), text_tokenizer())
