"""`python -m experiments.launch local|slurm|gke|tpu_vm --config=FILE --workdir=DIR ...`: one description, any machine.

`--dry_run` prints exactly what would run. `--grid=config.a.b=1,2` (repeated) or `--list=FILE` makes a run a point.
"""

import argparse
from collections.abc import Sequence
import os
import pathlib
import shlex
import subprocess
import sys

from data_pipelines.errors import InputError
from experiments.launch import gke, local, slurm, tpu_vm
from experiments.launch.job import Job, sweep
from gato_jax.group import FAILED


def parser() -> argparse.ArgumentParser:
  result = argparse.ArgumentParser('experiments.launch', description=__doc__, allow_abbrev=False)
  result.add_argument('launcher', choices=('local', 'slurm', 'gke', 'tpu_vm'))
  result.add_argument('--config', required=True, metavar='FILE[:arg]')
  result.add_argument('--workdir', required=True, metavar='DIR', help='a directory that all hosts share')
  result.add_argument('--name', default='gato')
  result.add_argument('--processes', type=int, default=1, help='local: how many')
  result.add_argument('--devices', type=int, default=0, help='local: simulated CPU devices a process')
  result.add_argument('--topology', default='', metavar='CHIP:SHAPE', help='others: such as v5e:16x16 or h100:64')
  result.add_argument('--slices', type=int, default=1)
  result.add_argument('--max_restarts', type=int, default=10)
  result.add_argument('--grid', action='append', default=[], metavar='config.a.b=1,2')
  result.add_argument('--list', default='', metavar='FILE', help='a run a line: config.a.b=1 config.c=2')
  result.add_argument('--dry_run', action='store_true', help='print what would run')
  result.add_argument('--hours', type=float, default=24.0, help='slurm: time limit')
  result.add_argument('--partition', default='', help='slurm')
  result.add_argument('--image', default='gato_jax:latest', help='gke: container image')
  result.add_argument('--claim', default='runs', help='gke: PersistentVolumeClaim, mounted at /runs')
  result.add_argument('--cluster', default='', help='gke: print the xpk command for this cluster instead')
  result.add_argument('--project', default='my-project', help='tpu_vm')
  result.add_argument('--zone', default='us-west4-a', help='tpu_vm')
  result.add_argument('--package', default='gato_jax', help='tpu_vm: what pip installs')
  result.add_argument('--spot', action='store_true', help='tpu_vm')
  return result


def jobs(arguments: argparse.Namespace, overrides: Sequence[str]) -> list[Job]:
  job = Job(
      name=arguments.name, config=arguments.config, workdir=arguments.workdir, overrides=tuple(overrides),
      processes=arguments.processes, devices=arguments.devices, topology=arguments.topology, slices=arguments.slices,
      max_restarts=arguments.max_restarts)
  try:
    lines = pathlib.Path(arguments.list).read_text(encoding='utf-8').splitlines() if arguments.list else []
  except OSError as error:
    raise InputError(f'--list={arguments.list} cannot be read: {error}') from error
  return sweep(job, arguments.grid, lines)


def describe(job: Job, arguments: argparse.Namespace) -> str:
  """Exactly what would run."""
  if arguments.launcher == 'local':
    return local.plan(job)
  if arguments.launcher == 'slurm':
    return slurm.batch_file(job, arguments.hours, arguments.partition)
  if arguments.launcher == 'gke':
    if arguments.cluster:
      return gke.xpk_command(job, arguments.image, arguments.cluster)
    return gke.text(job, arguments.image, arguments.claim)
  return '\n'.join(tpu_vm.commands(job, arguments.project, arguments.zone, arguments.package, arguments.spot))


def start(job: Job, arguments: argparse.Namespace) -> int:
  """Starts a job; of tpu_vm, asks for the slices."""
  if arguments.launcher == 'local':
    return local.Launcher(job).run()
  text = describe(job, arguments)
  if arguments.launcher == 'slurm':
    return subprocess.run(['sbatch'], input=text, text=True, check=False).returncode
  if arguments.launcher == 'gke' and not arguments.cluster:
    return subprocess.run(['kubectl', 'apply', '-f', '-'], input=text, text=True, check=False).returncode
  print(text)
  return subprocess.run(shlex.split(text.splitlines()[0]), check=False).returncode


def main(argv: Sequence[str] | None = None) -> int:
  arguments, overrides = parser().parse_known_args(argv)
  try:
    for job in jobs(arguments, overrides):
      if arguments.dry_run:
        print(describe(job, arguments))
        continue
      status = start(job, arguments)
      if status:
        return status
  except InputError as error:
    print(f'launch: error: {error}', file=sys.stderr)
    return FAILED
  except FileNotFoundError as error:
    print(f'launch: error: {os.path.basename(error.filename)} is not installed here; --dry_run prints what would run',
          file=sys.stderr)
    return FAILED
  return 0


if __name__ == '__main__':
  sys.exit(main())
