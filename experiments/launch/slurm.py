"""A batch file for SLURM: one process a node, all its GPUs."""

import shlex

from experiments.launch.job import GRACE, Job, gpus_per_host
from gato_jax.group import FAILED


def batch_file(job: Job, hours: float = 24.0, partition: str = '') -> str:
  """The text for `sbatch`.

  SLURM sends SIGTERM before the time limit and at a preemption; the run saves, and the job goes back into the queue.
  The processes write to the workdir's logs, what the script itself has to say stays where SLURM puts it: a job whose
  output is to go into a folder that is not there yet would not start.

  Raises:
    InputError: a topology that is not GPUs in full nodes.
  """
  target = job.target()
  gpus = gpus_per_host(target)
  nodes = max(target.shape[0] // gpus, 1) * target.slices
  options = {
      'job-name': job.name, 'nodes': nodes, 'ntasks-per-node': 1, 'gpus-per-node': gpus, 'exclusive': None,
      'time': _clock(hours), 'signal': f'TERM@{GRACE}', 'requeue': None, 'open-mode': 'append'}
  if partition:
    options['partition'] = partition
  head = [f'#SBATCH --{name}' + ('' if value is None else f'={value}') for name, value in options.items()]
  exports = [f'export {name}={shlex.quote(value)}' for name, value in job.environment.items()]
  return '\n'.join([
      '#!/bin/bash',
      *head,
      *exports,
      f'mkdir -p {shlex.quote(job.logs)}',
      f'srun --output={shlex.quote(job.logs)}/%j.%t.log --open-mode=append {job.command_line}',
      'status=$?',
      f'if [ $status -ne 0 ] && [ $status -ne {FAILED} ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {job.max_restarts} ]; '
      'then',
      '  scontrol requeue "$SLURM_JOB_ID"',
      'fi',
      'exit $status',
      ''])


def _clock(hours: float) -> str:
  """`days-hours:minutes:seconds`."""
  minutes = round(hours * 60)
  return f'{minutes // 1440}-{minutes // 60 % 24:02}:{minutes % 60:02}:00'
