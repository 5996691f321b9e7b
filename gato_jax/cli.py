"""`gato-jax <command>`: thin wrappers round the functions that do the work."""

import argparse
from collections.abc import Callable, Sequence
import sys
import time

import ml_collections

from data_pipelines.errors import InputError
from gato_jax.config_file import load_config

QUICKSTART = 'experiments/configs/quickstart.py'


def prepare(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Builds the datasets and the text tokenizer of the config's mixture under config.data.dir; skips what is there."""
  del workdir
  from data_pipelines.datasets.prepare import prepare as build

  build(config.data, workers=config.data.workers)


def train(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Trains into the workdir; goes on where it stopped if the workdir holds a checkpoint."""
  from gato_jax.training.loop import train as run

  run(config, workdir)


def evaluate(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Plays the tasks and asks the questions with the workdir's newest weights; writes report.json, plots, videos."""
  from gato_jax.evaluation.evaluate import evaluate as run

  run(config, workdir)


def quickstart(config: ml_collections.ConfigDict, workdir: str) -> None:
  """prepare, train and evaluate in one go: a small generalist agent in about a quarter of an hour on two cores."""
  start = time.monotonic()
  for stage in (prepare, train, evaluate):
    began = time.monotonic()
    print(f'== {stage.__name__}', flush=True)
    stage(config, workdir)
    print(f'== {stage.__name__} took {time.monotonic() - began:.0f} s', flush=True)
  print(f'quickstart took {(time.monotonic() - start) / 60:.1f} minutes')


COMMANDS: dict[str, Callable[[ml_collections.ConfigDict, str], None]] = {
    function.__name__: function for function in (prepare, train, evaluate, quickstart)
}


def parser() -> argparse.ArgumentParser:
  """One sub-command a function of COMMANDS; each takes --config, --config.a.b=value and --workdir."""
  result = argparse.ArgumentParser('gato-jax', description='Train and run a generalist agent.')
  commands = result.add_subparsers(dest='command', required=True, metavar='command')
  for name, function in COMMANDS.items():
    command = commands.add_parser(
        name,
        help=function.__doc__,
        description=function.__doc__,
        epilog='Any key of the config can be set with --config.a.b=value; gato_jax/config.py lists them all.',
        allow_abbrev=False,
    )
    command.add_argument('--config', default=QUICKSTART, metavar='FILE[:arg]', help='experiment (default: %(default)s)')
    command.add_argument('--workdir', default='runs/quickstart', metavar='DIR', help='default: %(default)s')
  return result


def main(argv: Sequence[str] | None = None) -> None:
  """Runs one command. Bad input is printed without a stack trace and ends with exit status 2."""
  arguments, rest = parser().parse_known_args(argv)
  unknown = [argument for argument in rest if not argument.startswith('--config.') or '=' not in argument]
  if unknown:
    parser().error(f'unknown argument {unknown[0]!r}; config keys are set with --config.a.b=value')
  try:
    COMMANDS[arguments.command](load_config(arguments.config, rest), arguments.workdir)
  except InputError as error:
    sys.exit(_fail(error))


def _fail(error: InputError) -> int:
  print(f'gato-jax: error: {error}', file=sys.stderr)
  return 2


if __name__ == '__main__':
  main()
