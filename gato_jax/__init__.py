"""A generalist agent in JAX. `load` is what evaluators need; everything else has a module of its own."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from gato_jax.agent import Agent


def load(path: str, step: int | None = None) -> 'Agent':
  """The agent of an exported folder or a training workdir, see `gato_jax.agent.load`."""
  # Not at the top: `gato-jax --help` and the data pipeline need no JAX.
  from gato_jax import agent

  return agent.load(path, step)
