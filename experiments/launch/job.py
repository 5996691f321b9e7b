"""What is to be run, whatever starts it."""

from collections.abc import Sequence
import dataclasses
import itertools
import pathlib
import re
import shlex

from data_pipelines.errors import InputError
from gato_jax.planning.target import Target, parse_target

GRACE = 120  # seconds that a machine that is wanted back leaves a run to save


@dataclasses.dataclass(frozen=True)
class Job:
  """A training run.

  Attributes:
    name: lower-case letters, digits and dashes.
    config: FILE[:arg] of the experiment.
    workdir: a directory that all hosts share.
    overrides: `--config.a.b=value`.
    processes: one a host.
    devices: simulated CPU devices a process, or GPUs a host; 0: what is there.
    topology: of TPU slices or GPUs, as `gato-jax plan` takes it; empty for processes on this machine.
    slices: of that topology.
    max_restarts: how often a run that fails is started again, unless its exit status says that this is no use.
  """

  name: str
  config: str
  workdir: str
  overrides: tuple[str, ...] = ()
  processes: int = 1
  devices: int = 0
  topology: str = ''
  slices: int = 1
  max_restarts: int = 10

  def __post_init__(self):
    if not re.fullmatch(r'[a-z]([a-z0-9-]{0,38}[a-z0-9])?', self.name):
      raise InputError(f'--name={self.name}: must be lower-case letters, digits and dashes, at most 40')
    if self.processes < 1 or self.devices < 0 or self.max_restarts < 0:
      raise InputError('--processes must be at least 1, --devices and --max_restarts at least 0')
    bad = [text for text in self.overrides if not text.startswith('--config.') or '=' not in text]
    if bad:
      raise InputError(f'{bad[0]!r} is not --config.a.b=value')

  @property
  def command(self) -> list[str]:
    return ['gato-jax', 'train', f'--config={self.config}', f'--workdir={self.workdir}', *self.overrides]

  @property
  def command_line(self) -> str:
    return shlex.join(self.command)

  @property
  def logs(self) -> str:
    return f'{self.workdir}/logs'

  @property
  def environment(self) -> dict[str, str]:
    """Programs compiled once are there after a restart."""
    return {'JAX_COMPILATION_CACHE_DIR': f'{self.workdir}/compilations', 'PYTHONUNBUFFERED': '1'}

  def target(self) -> Target:
    """Raises InputError without a topology, or with one that there is not."""
    if not self.topology:
      raise InputError('this launcher needs --topology=CHIP:SHAPE, such as v5e:16x16 or h100:64')
    return parse_target(self.topology, self.slices)


def gpus_per_host(target: Target) -> int:
  """Eight, or all of a smaller machine. Raises InputError for TPUs and for hosts that are not full."""
  count = target.shape[0]
  if target.is_tpu:
    raise InputError(f'{target.name}: this launcher is for GPUs')
  if count > 8 and count % 8:
    raise InputError(f'{target.name}: {count} GPUs are not full hosts of 8')
  return min(count, 8)


def sweep(job: Job, grid: Sequence[str], lines: Sequence[str] = ()) -> list[Job]:
  """One job a point of a grid, or a line of a list.

  Args:
    job: what all of them have.
    grid: `config.a.b=1,2,3`, each; the jobs are all combinations.
    lines: `config.a.b=1 config.c=2`, each a job.

  Returns:
    Jobs with a name and a workdir of their own; the job itself if there is nothing to sweep.
  """
  if not grid and not lines:
    return [job]
  axes = []
  for text in grid:
    key, _, values = text.partition('=')
    if not values:
      raise InputError(f'--grid={text}: must be config.key=value,value')
    axes.append([f'{key}={value}' for value in values.split(',')])
  points = [*(itertools.product(*axes) if axes else ()), *(tuple(shlex.split(line)) for line in lines if line.strip())]
  return [dataclasses.replace(
      job, name=f'{job.name}-{number}', workdir=str(pathlib.PurePath(job.workdir) / _folder(point)),
      overrides=(*job.overrides, *(f'--{setting}' for setting in point))) for number, point in enumerate(points)]


def _folder(point: Sequence[str]) -> str:
  """`peak=0.001,seed=3`."""
  short = (setting.removeprefix('config.').split('.')[-1] for setting in point)
  return re.sub(r'[^\w=,.+-]', '_', ','.join(short))
