"""A map of episodes by what the model makes of them (paper figure 13)."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from data_pipelines.datasets.sources import RecordSource
from data_pipelines.errors import InputError
from data_pipelines.packages import import_package
from data_pipelines.sequences.tokenized_episode import TokenizedEpisode
from data_pipelines.sequences.tokens import Tokens
from gato_jax.evaluation import probing

CHUNK = 128  # tokens of an episode
COMPONENTS = 50  # of PCA, before t-SNE
PERPLEXITY = 30.0
EPISODES = 40  # of a dataset or task
POINTS = 1500  # at most; fewer episodes a task where there are many tasks


@dataclasses.dataclass(frozen=True)
class EpisodeMap:
  """Points that lie close together where the model sees likeness; directions and distances mean nothing else.

  Attributes:
    names: the source of each of the n points.
    episodes: its number in that source.
    points: float64 [n, 2], each axis in [0, 1].
    layer: after how many blocks the activations were taken.
    left_out: sources that are not on the map, and why.
  """

  names: list[str]
  episodes: list[int]
  points: np.ndarray
  layer: int
  left_out: dict[str, str]


def episode_map(subject: probing.Subject, seed: int = 0) -> EpisodeMap:
  """The mean activation over a chunk of each episode after half of the blocks, by PCA and t-SNE in two dimensions.

  Raises:
    InputError: scikit-learn is missing, or there are too few episodes to make a map of.
  """
  import_package('sklearn', 'envs', 'scikit-learn')
  windows: list[Tokens] = []
  names, episodes, left_out = [], [], {}
  each = max(1, min(EPISODES, POINTS // len(subject.sources)))
  for number, source in enumerate(subject.sources):
    drawn = _windows(subject, source, each, np.random.default_rng([seed, number]))
    if drawn:
      windows += drawn.values()
      names += [source.name] * len(drawn)
      episodes += drawn
    else:
      left_out[source.name] = 'it is made of pages' if source.kind == 'pages' else 'no timestep of it fits into a chunk'
  if len(windows) < 10:
    raise InputError(f'{len(windows)} episodes are too few for a map; it takes 10')
  layer = max(1, subject.trained.model.layers // 2)
  return EpisodeMap(names, episodes, project(mean_activations(subject.probe, windows, layer), seed), layer, left_out)


def _windows(
    subject: probing.Subject, source: RecordSource, count: int, rng: np.random.Generator) -> dict[int, Tokens]:
  """Episode -> a part of it from a timestep drawn at random."""
  config, tokenizer = subject.trained.config, subject.trained.tokenizer
  limit, hide = probing.room(config, source, CHUNK), probing.hides_actions(config, source)
  windows = {}
  for index in rng.permutation(len(source))[:count].tolist():
    episode = tokenizer.tokenize(source, index)
    if not isinstance(episode, TokenizedEpisode):
      break
    start = int(rng.integers(episode.length))
    stop = limit.stop(episode, start)
    if stop > start:
      windows[index] = episode.window(start, stop, hide)
  return windows


def mean_activations(probe: probing.Probe, windows: Sequence[Tokens], layer: int) -> np.ndarray:
  """The mean of the residual stream over each window's tokens after `layer` blocks; float32 [windows, D]."""
  means = []
  for inputs in probing.batches(windows):
    hidden_BxSxD = np.asarray(probe.hidden(inputs, layer), np.float32)
    valid_BxSx1 = inputs.valid[..., None]
    means.append((hidden_BxSxD * valid_BxSx1).sum(axis=1) / valid_BxSx1.sum(axis=1))
  return np.concatenate(means)[:len(windows)]


def project(activations_NxD: np.ndarray, seed: int = 0) -> np.ndarray:
  """PCA to at most 50 dimensions, t-SNE to two, each axis scaled to [0, 1]; float64 [n, 2]."""
  from sklearn.decomposition import PCA
  from sklearn.manifold import TSNE
  from threadpoolctl import threadpool_limits  # scikit-learn's own

  count, width = activations_NxD.shape
  with threadpool_limits(1):  # a few hundred points: threads would wait for each other for longer than they work
    reduced = PCA(min(COMPONENTS, count, width), random_state=seed).fit_transform(activations_NxD)
    points = TSNE(perplexity=min(PERPLEXITY, (count - 1) / 3), init='pca', random_state=seed).fit_transform(reduced)
  low, high = points.min(axis=0), points.max(axis=0)
  return (points - low) / np.maximum(high - low, 1e-9)
