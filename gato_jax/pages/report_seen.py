"""The report's rollouts beside the expert's, and its answers beside the pictures."""

from collections.abc import Sequence
import io
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from data_pipelines.datasets.catalogue import requests
from data_pipelines.environments.collection import ExpertFailure
from data_pipelines.environments.registry import has_expert
from data_pipelines.errors import InputError
from gato_jax.evaluation.language import Example, answer, caption, draw
from gato_jax.evaluation.scores import domains
from gato_jax.evaluation.videos import FRAME_MILLISECONDS, expert_frames, reduced
from gato_jax.pages.page import Markup, element, paragraph, picture
from gato_jax.pages.report_run import Run
from gato_jax.pages.report_scores import nothing_played

_EXAMPLES = 12  # of each kind
_SMALLEST = 128  # screen pixels a side of a picture that is asked about
_QUALITY = 60


def rollouts(run: Run) -> Sequence[Any]:
  """Of each domain's first task the agent's first episode, and the expert in the same one."""
  if not run.tasks:
    return [nothing_played()]
  task_of = {request.name: request.task_name for request in requests(run.config.data)}
  first = {domain: next(name for name, task in run.tasks.items() if task.domain == domain)
           for domain in domains(run.tasks)}
  pairs = []
  for domain, name in first.items():
    agent, expert = _agent(run, domain), _expert(task_of.get(name, ''), run.config.evaluation.seed)
    pairs.append(element('div', element('h3', name), element(
        'div', _video(agent, f'The agent plays {name}', 'agent'), _video(expert, f'The expert plays {name}', 'expert'),
        class_='pair'), class_='rollout'))
  button = element('button', 'Play the videos', id='play', type='button', aria_pressed='false', hidden=True)
  return [paragraph('The first evaluation episode of each domain’s first task, and its expert in the same episode, '
                    'where its simulator can be drawn.'), button, element('div', *pairs, class_='many')]


def _agent(run: Run, domain: str) -> Sequence[np.ndarray] | str:
  """Frames, or why there are none."""
  path = run.folder / f'{domain}.gif'
  if not path.exists():
    return f'no video: the evaluation left no {path.name}; a suite may need OpenGL (EGL or OSMesa) to draw'
  try:
    with Image.open(path) as opened:
      return [np.asarray(frame.convert('RGB')) for frame in ImageSequence.Iterator(opened)]
  except OSError as error:
    return f'no video: {path.name} cannot be read ({error})'


def _expert(task: str, seed: int) -> Sequence[np.ndarray] | str:
  if not task or not has_expert(task):
    return 'no video: there is no expert for this task'
  try:
    return expert_frames(task, seed) or 'no video: this simulator needs OpenGL (EGL or OSMesa) to draw'
  except (InputError, ExpertFailure) as error:
    return f'no video: {error}'


def _video(frames: Sequence[np.ndarray] | str, what: str, who: str) -> Markup:
  if isinstance(frames, str):
    return element('figure', paragraph(frames, class_='quiet'), element('figcaption', who))
  small = [Image.fromarray(frame) for frame in reduced(frames)]
  moving = element('template', picture(_webp(small), what))
  return element('figure', picture(_webp(small[:1]), f'{what}; {len(frames)} pictures'), moving,
                 element('figcaption', who), class_='video')


def _webp(frames: Sequence[Image.Image]) -> bytes:
  """Animated if there are several; a fraction of a GIF's bytes."""
  file = io.BytesIO()
  frames[0].save(file, 'WEBP', save_all=True, append_images=frames[1:], duration=FRAME_MILLISECONDS, loop=0,
                 quality=_QUALITY)
  return file.getvalue()


def examples(run: Run) -> Sequence[Any]:
  """Held-out pictures with what was asked, what the model says now, and what would be right."""
  subject = run.subject()
  rng = np.random.default_rng(run.config.evaluation.seed)
  parts: list[Any] = []
  if questions := draw(subject.heldout, 'vqa', _EXAMPLES, rng):
    parts += _cards('Questions', answer(subject.trained, questions))
  if pictures := draw(subject.heldout, 'caption', _EXAMPLES, rng):
    parts += _cards('Captions', caption(subject.trained, pictures))
  if not parts:
    raise InputError('the mixture has no captions and no questions about pictures')
  return [paragraph(f'Drawn from held-out pictures, not chosen, and answered by step {subject.trained.step}.'), *parts]


def _cards(title: str, asked: Sequence[Example]) -> Sequence[Markup]:
  right = sum(example.right for example in asked)
  return [element('h3', f'{title}: {right} of these {len(asked)} right'),
          element('ul', *map(_card, asked), class_='cards')]


def _card(example: Example) -> Markup:
  scale = max(1, _SMALLEST // max(example.image.shape[:2]))
  alternative = f'Picture, asked: {example.question}' if example.question else 'Picture to be captioned'
  verdict = element('p', '\N{CHECK MARK} right' if example.right else '\N{MULTIPLICATION SIGN} wrong',
                    class_='good' if example.right else 'bad')
  wanted = '' if example.right else element('p', element('span', 'would be right: ', class_='quiet'), example.wanted)
  return element(
      'li', picture(example.image, alternative, scale),
      element('div', paragraph(example.question) if example.question else '',
              element('p', element('span', 'says: ', class_='quiet'), element('strong', example.given.strip() or '–')),
              verdict, wanted))
