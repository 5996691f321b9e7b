"""Evaluation as training goes on: a process of its own evaluates the checkpoint that was just saved, training waits."""

from collections.abc import Callable, Iterator
import contextlib
import logging
import multiprocessing
import signal
import sys

import jax
import ml_collections

from data_pipelines.errors import InputError
from gato_jax.evaluation import tasks
from gato_jax.evaluation.evaluate import evaluate
from gato_jax.evaluation.jobs import begin_worker
from gato_jax.evaluation.rollouts import check_seed
from gato_jax.training.loop import Evaluation

LOGGER = logging.getLogger(__name__)


def scheduled(config: ml_collections.ConfigDict, workdir: str) -> Evaluation | None:
  """What training does every `evaluation.every` steps; None where it is 0.

  The evaluation has a process of its own, on the CPU's cores, so that whatever happens in a simulator does not happen
  to the training: an evaluation that fails is said, and training goes on.

  Raises:
    InputError: what an evaluation would find wrong with the config.
  """
  if not config.evaluation.every:
    return None
  if not config.evaluation.workers:
    raise InputError('evaluation.every needs evaluation.workers, processes on the CPU: the accelerator is training. To '
                     'play on an accelerator, run `gato-jax evaluate --follow` on another machine')
  check_seed(config.evaluation.seed)
  tasks.references(tasks.task_specs(tasks.playable(config)))

  def run(step: int, parameters) -> None:
    del parameters  # it reads the checkpoint
    if jax.process_index() == 0:
      _run(config, workdir, step)

  return Evaluation(config.evaluation.every, run, saved=True)


def _run(config: ml_collections.ConfigDict, workdir: str, step: int) -> None:
  process = multiprocessing.get_context('spawn').Process(target=_evaluate, args=(config, workdir, step))
  process.start()
  with _on_sigterm(process.terminate):
    process.join()
  if process.exitcode:
    LOGGER.warning('the evaluation of step %d ended with exit status %d; training goes on. `gato-jax evaluate '
                   '--step=%d` does what it has not done', step, process.exitcode, step)


def _evaluate(config: ml_collections.ConfigDict, workdir: str, step: int) -> None:
  begin_worker()
  try:
    evaluate(config, workdir, step, brief=True)
  except InputError as error:
    print(f'gato-jax: error: {error}', file=sys.stderr, flush=True)
    sys.exit(1)


@contextlib.contextmanager
def _on_sigterm(act: Callable[[], None]) -> Iterator[None]:
  """Acts at once on the signal that training notes and heeds at its next step: the machine is wanted back."""
  before = signal.getsignal(signal.SIGTERM)
  if not callable(before):  # of several processes, JAX's runtime has it
    yield
    return

  def handle(number, frame):
    before(number, frame)
    act()

  signal.signal(signal.SIGTERM, handle)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
