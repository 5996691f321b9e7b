"""`gato-jax <command>`: thin wrappers round the functions that do the work."""

import argparse
from collections.abc import Callable, Sequence
import importlib
import os
import sys
import time
from typing import Any

import ml_collections

from data_pipelines.errors import InputError
from gato_jax.config_file import load_config
from gato_jax.group import FAILED, LOST, Preempted

QUICKSTART = 'experiments/configs/quickstart.py'


def argument(*flags: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
  """Gives a command an argument of its own, as argparse's `add_argument`; the function takes it by its name."""

  def declare(command: Callable[..., Any]) -> Callable[..., Any]:
    command.arguments = [(flags, settings), *getattr(command, 'arguments', [])]
    return command

  return declare


@argument('--workers', type=int, default=0, help='processes to build with; data.workers by default')
@argument('--beam_runner', default='', metavar='NAME', help='build on Apache Beam, by this runner, e.g. DirectRunner')
@argument('--beam_options', default='', metavar='OPTIONS', help="the runner's own, e.g. '--project=x --region=y'")
def prepare(config: ml_collections.ConfigDict, workdir: str, workers: int = 0, beam_runner: str = '',
            beam_options: str = '') -> None:
  """Builds the datasets and the text tokenizer of the config's mixture under config.data.dir; skips what is there."""
  del workdir
  from data_pipelines.datasets.prepare import prepare as build

  build(config.data, workers=workers or config.data.workers, beam_runner=beam_runner, beam_options=beam_options)


@argument('--dry_run', action='store_true', help='only say what is there, what is missing, and how large the model is')
def train(config: ml_collections.ConfigDict, workdir: str, dry_run: bool = False) -> int:
  """Trains into the workdir; goes on where it stopped if the workdir holds a checkpoint."""
  if dry_run:
    from gato_jax.dry_run import dry_run as check

    return check(config)
  from gato_jax.distributed import together

  with together(config, workdir) as group:
    from gato_jax.evaluation.schedule import scheduled
    from gato_jax.training.loop import train as run

    run(config, workdir, group, scheduled(config, workdir))
  return 0


@argument('name', nargs='?', default='', metavar='NAME', help='a dataset or task: its spec and a picture of episodes')
@argument('--tasks', action='store_true', help="a row a control task (of NAME), with random and expert score")
@argument('--batch', action='store_true', help="draw one packed batch of the config's mixture")
@argument('--picture', default='', metavar='FILE', help='where the picture goes; by default WORKDIR/datasets/NAME.png')
def datasets(config: ml_collections.ConfigDict, workdir: str, name: str = '', tasks: bool = False, batch: bool = False,
             picture: str = '') -> None:
  """Lists the datasets there are and what of them is built under config.data.dir, or shows one of them."""
  from data_pipelines.datasets import listing
  from data_pipelines.environments import registry

  registry.register(config.data.environments)
  picture = picture or os.path.join(workdir, 'datasets', f'{(name or "batch").replace("/", "_")}.png')
  if batch:
    from data_pipelines.batch_picture import draw_mixture

    draw_mixture(config.data, config.seed, config.training.batch_size, picture)
    print(f'a packed batch: {picture}')
  elif tasks:
    print(listing.aligned(listing.tasks_table(config.data.dir, name)))
  elif name:
    from data_pipelines.datasets.contact_sheet import draw_contact_sheet

    print('\n'.join(listing.description(name, config.data.dir)))
    if drawn := draw_contact_sheet(name, config.data.dir, picture):
      print(f'{drawn} episodes: {picture}')
  else:
    print(listing.aligned(listing.datasets_table(config.data.dir)))
    print(listing.totals())


@argument('name', metavar='NAME', help='a file of experiments/benchmarks, e.g. loader')
def benchmark(config: ml_collections.ConfigDict, workdir: str, name: str) -> None:
  """Runs a benchmark of experiments/benchmarks on the config and prints one JSON line."""
  del workdir
  try:
    # By its name, as configs are found by their path: nothing here imports experiments.
    run = importlib.import_module(f'experiments.benchmarks.{name}').main
  except (ModuleNotFoundError, AttributeError) as error:
    raise InputError(f'no benchmark {name!r} ({error}); experiments/benchmarks has them') from error
  run(config)


@argument('--step', type=int, default=None, help="of the workdir's checkpoint; by default the newest")
@argument('--follow', action='store_true', help='evaluates each new checkpoint, until training is through')
@argument('--again', action='store_true', help='plays what an earlier evaluation of the same checkpoint has played')
def evaluate(config: ml_collections.ConfigDict, workdir: str, step: int | None = None, follow: bool = False,
             again: bool = False) -> None:
  """Plays the tasks and asks the questions with the workdir's newest weights; writes report.json, plots, videos."""
  if follow:
    if step is not None or again:
      raise InputError('--follow goes with neither --step nor --again: it evaluates each checkpoint once')
    from gato_jax.evaluation.follow import follow as run_on

    run_on(config, workdir)
    return
  from gato_jax.evaluation.evaluate import evaluate as run

  run(config, workdir, step, again=again)


@argument('--from', dest='sources', action='append', default=[], metavar='NAME[=WORKDIR] or NAME@ENTRY=WORKDIR',
          help='a line of the plot: start from the weights of this run; without WORKDIR from random ones; with @ENTRY '
          'only the tasks of this entry of the mixture, give the line once for each entry; repeatable')
def finetune(config: ml_collections.ConfigDict, workdir: str, sources: Sequence[str]) -> None:
  """Fine-tunes on 1, 3, 5, ... episodes of the config's tasks, from several weights; plots score against episodes."""
  from gato_jax.finetuning.study import finetune as run

  run(config, workdir, sources)


@argument('--run', dest='runs', action='append', default=[], metavar='NAME=WORKDIR', help='a line; repeatable')
def scaling(config: ml_collections.ConfigDict, workdir: str, runs: Sequence[str]) -> None:
  """Plots score and loss against tokens of runs of several sizes, which read the same rows."""
  del config
  from gato_jax.evaluation.scaling import scaling as run

  run(workdir, runs)


@argument('--out', required=True, metavar='DIR', help='the folder to make')
@argument('--step', type=int, default=None, help="of the workdir's checkpoint; by default the newest")
@argument('--dtype', default='float32', help='of the weights: float32 or bfloat16 (default: %(default)s)')
@argument('--prompts', type=int, default=10, help='demonstrations kept a task, to start with (default: %(default)s)')
@argument('--data_dir', default='', metavar='DIR', help='where their datasets are; by default where training did')
@argument('--shard_megabytes', type=int, default=1024, help='size of a file of weights (default: %(default)s)')
@argument('--no_programs', action='store_true', help='leave out the StableHLO programs, which run without flax')
def export(config: ml_collections.ConfigDict, workdir: str, no_programs: bool, **settings: Any) -> None:
  """Writes the workdir's weights as safetensors, with all that acting needs and a model card, for others to use."""
  del config
  from gato_jax.export.export import export as run

  run(workdir, programs=not no_programs, **settings)


@argument('folder', metavar='DIR', help='an exported folder, or the workdir of a training run')
@argument('text', nargs='?', default='', metavar='TEXT', help='to go on with; with --image, a question about it')
@argument('--image', default='', metavar='FILE', help='a picture to caption, or to answer TEXT about')
@argument('--side', type=int, default=0, help='pixels a side that it is fitted to; by default what a row has room for')
@argument('--max_tokens', type=int, default=32, help='to write at most (default: %(default)s)')
@argument('--temperature', type=float, default=0.0, help='0 is greedy (default: %(default)s)')
@argument('--top_k', type=int, default=0, help='only the k likeliest tokens; 0: all')
@argument('--top_p', type=float, default=1.0, help='only the likeliest of this probability (default: %(default)s)')
@argument('--seed', type=int, default=0)
def generate(config: ml_collections.ConfigDict, workdir: str, folder: str, text: str, image: str, side: int, seed: int,
             **sampling: Any) -> None:
  """Goes on with a text, captions a picture, or answers a question about it."""
  del config, workdir
  from gato_jax.acting.chat import run

  run(folder, text, image, side, seed, sampling)


@argument('folder', metavar='DIR', help='an exported folder, or the workdir of a training run')
@argument('--host', default='127.0.0.1', help='address to listen on; beyond this machine GATO_JAX_TOKEN must be set')
@argument('--port', type=int, default=8765, help='0: any that is free (default: %(default)s)')
@argument('--sessions', type=int, default=64, help='at once (default: %(default)s)')
@argument('--batch', type=int, default=8, help='sessions answered together; 1 for one robot (default: %(default)s)')
@argument('--rate', type=float, default=200.0, help='messages a second of a session (default: %(default)s)')
@argument('--message_bytes', type=int, default=2**22, help='of one message at most (default: %(default)s)')
def serve(config: ml_collections.ConfigDict, workdir: str, folder: str, host: str, port: int, **limits: Any) -> None:
  """Serves a model to robots over WebSockets; gato_jax/serving/client.py is the client."""
  del config, workdir
  import gato_jax
  from gato_jax.allocator import keep_freed_memory
  from gato_jax.serving.server import Limits, run

  keep_freed_memory()
  run(gato_jax.load(folder), host, port, Limits(**limits), os.environ.get('GATO_JAX_TOKEN', ''))


def quickstart(config: ml_collections.ConfigDict, workdir: str) -> None:
  """prepare, train and evaluate in one go: a small generalist agent in about a quarter of an hour on two cores."""
  start = time.monotonic()
  for stage in (prepare, train, evaluate):
    began = time.monotonic()
    print(f'== {stage.__name__}', flush=True)
    stage(config, workdir)
    print(f'== {stage.__name__} took {time.monotonic() - began:.0f} s', flush=True)
  print(f'quickstart took {(time.monotonic() - start) / 60:.1f} minutes')


@argument('--devices', type=int, default=0, help='lay the state out on so many devices; 0: those that are here')
@argument('--slices', type=int, default=1, help='that the devices are in')
def inspect(config: ml_collections.ConfigDict, workdir: str, devices: int = 0, slices: int = 1) -> None:
  """Prints the resolved config and, of every array of the state, its shape, its layout and its bytes on a device."""
  del workdir
  from gato_jax.inspection import inspect as describe

  print(describe(config, devices, slices))


@argument('--topology', required=True, metavar='CHIP:SHAPE', help='such as v5e:16x16, v5p:4x4x4, h100:64')
@argument('--slices', type=int, default=1, help='of that shape')
@argument('--targets', type=float, default=0.25, help='share of the positions with a target (default: %(default)s)')
@argument('--search', action='store_true', help='try meshes, remat policies and batch sizes, best first')
@argument('--compiled', type=int, default=4, help='candidates of a search to compile (default: %(default)s)')
def plan(config: ml_collections.ConfigDict, workdir: str, topology: str, slices: int = 1, targets: float = 0.25,
         search: bool = False, compiled: int = 4) -> None:
  """Compiles the train step for a pod that is not here: does it fit, how fast could it be, what does a run cost."""
  del workdir
  from gato_jax.planning.command import run

  run(config, topology, slices, targets, search, compiled)


@argument('--out', default='', metavar='FILE', help='the page; by default WORKDIR/illustrate.html')
@argument('--rows', type=int, default=8, help='packed rows to show (default: %(default)s)')
def illustrate(config: ml_collections.ConfigDict, workdir: str, out: str = '', rows: int = 8) -> None:
  """Explains the tokens of the config's mixture in a page, with a model's predictions if the workdir has one."""
  from gato_jax.pages.illustrate import illustrate as draw

  print(f'the page: {draw(config, workdir, out, rows)}')


def goodput(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Prints where the time of the workdir's run went, and plots it to WORKDIR/goodput.png."""
  del config
  from gato_jax.training.goodput import report

  print(report(workdir))


@argument('--out', default='', metavar='FILE', help='where the page goes; by default WORKDIR/evaluation/report.html')
def report(config: ml_collections.ConfigDict, workdir: str, out: str = '') -> None:
  """Writes one page of what an evaluated run can do: scores, videos, answers, attention, learning curves, data."""
  from gato_jax.pages.report import write_report_page

  path = write_report_page(config, workdir, out)
  print(f'{path}: {path.stat().st_size:,} bytes')


COMMANDS: dict[str, Callable[..., int | None]] = {
    function.__name__: function
    for function in (
        prepare, train, evaluate, finetune, scaling, report, generate, export, serve, quickstart, datasets, benchmark,
        inspect, plan, goodput, illustrate)
}


def parser() -> argparse.ArgumentParser:
  """One sub-command a function of COMMANDS; each takes --config, --config.a.b=value, --workdir, and its own."""
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
    for flags, settings in getattr(function, 'arguments', ()):
      command.add_argument(*flags, **settings)
  return result


def main(argv: Sequence[str] | None = None) -> None:
  """Runs one command. Bad input is printed without a stack trace and ends with exit status 2, a preemption with 75."""
  arguments, rest = parser().parse_known_args(argv)
  unknown = [argument for argument in rest if not argument.startswith('--config.') or '=' not in argument]
  if unknown:
    parser().error(f'unknown argument {unknown[0]!r}; config keys are set with --config.a.b=value')
  own = vars(arguments)
  command, config, workdir = (own.pop(name) for name in ('command', 'config', 'workdir'))
  try:
    status = COMMANDS[command](load_config(config, rest), workdir, **own)
  except InputError as error:
    print(f'gato-jax: error: {error}', file=sys.stderr)
    status = FAILED
  except Preempted as stop:
    print(f'gato-jax: {stop}', file=sys.stderr)
    status = LOST
  if status:
    sys.exit(status)


if __name__ == '__main__':
  main()
