"""`gato-jax generate`: text, captions and answers on the command line."""

from collections.abc import Mapping
import pathlib
import sys
from typing import Any

from data_pipelines.datasets.pictures import decode_png, fit_picture
from data_pipelines.errors import InputError
from gato_jax.acting.generation import Sampling
from gato_jax.agent import Agent, load


def run(folder: str, text: str, image: str, side: int, seed: int, sampling: Mapping[str, Any]) -> None:
  """Prints what the model of a folder says, a text as it is written.

  Raises:
    InputError: there is nothing to say something about, no such picture, or a setting that makes no sense.
  """
  if not text and not image:
    raise InputError('give a TEXT to go on with, or --image=FILE')
  Sampling(**sampling)  # a mistake in it is said before the model is read
  agent = load(folder)
  if image:
    picture = read_picture(agent, image, side)
    print(agent.answer(picture, text, seed, **sampling) if text else agent.caption(picture, seed, **sampling))
    return
  sys.stdout.write(text)
  for piece in agent.stream(text, seed, **sampling):
    sys.stdout.write(piece)
    sys.stdout.flush()
  print()


def read_picture(agent: Agent, path: str, side: int) -> Any:
  """A file as uint8 [side, side, 3], scaled to fit, on white."""
  side = side or agent.picture_side
  if side < 16 or side % 16:
    raise InputError(f'--side is {side}: must be a multiple of 16, the pixels of a patch')
  try:
    return decode_png(fit_picture(pathlib.Path(path).read_bytes(), side))
  except (OSError, InputError) as error:
    raise InputError(f'{path}: {error}') from error
