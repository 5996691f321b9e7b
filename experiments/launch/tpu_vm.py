"""TPU VMs: a queued resource, and a service on every host that starts the run again when it fails."""

import shlex

from experiments.launch import tpu
from experiments.launch.job import GRACE, Job
from gato_jax.group import FAILED


def commands(job: Job, project: str, zone: str, package: str, spot: bool = False) -> list[str]:
  """The commands, in order: ask for the slices, see whether they are there, install, start, look, end.

  Args:
    job: its workdir is on a disk that all hosts share; its checkpoint_dir may be a bucket.
    project: of Google Cloud.
    zone: such as us-west4-a.
    package: what pip installs: gato_jax, or a path or an address of it.
    spot: cheaper slices that may be taken away.
  """
  target = job.target()
  where = [f'--project={project}', f'--zone={zone}']
  nodes = ([f'--node-id={job.name}'] if target.slices == 1 else
           [f'--node-count={target.slices}', f'--node-prefix={job.name}'])
  create = ['gcloud', 'compute', 'tpus', 'queued-resources', 'create', job.name, *nodes, *where,
            f'--accelerator-type={tpu.accelerator_type(target)}', f'--runtime-version={tpu.names(target).runtime}']
  requirement = f'gato_jax[tpu] @ {package}' if '://' in package else f'{package}[tpu]'
  names = [job.name] if target.slices == 1 else [f'{job.name}-{index}' for index in range(target.slices)]

  def on_all_hosts(command: str) -> list[str]:
    return [shlex.join(['gcloud', 'compute', 'tpus', 'tpu-vm', 'ssh', name, *where, '--worker=all',
                        f'--command={command}']) for name in names]

  return [
      shlex.join(create + (['--spot'] if spot else [])),
      shlex.join(['gcloud', 'compute', 'tpus', 'queued-resources', 'describe', job.name, *where,
                  '--format=value(state.state)']),
      *on_all_hosts(f'pip install --quiet {shlex.quote(requirement)}'),
      *on_all_hosts(service(job)),
      *on_all_hosts(f'journalctl --unit={job.name} --lines=50'),
      shlex.join(['gcloud', 'compute', 'tpus', 'queued-resources', 'delete', job.name, *where, '--force']),
  ]


def service(job: Job) -> str:
  """A transient systemd service: restarts by exit status, SIGTERM and time to save at the end."""
  properties = {
      'Restart': 'on-failure', 'RestartSec': '10', 'RestartPreventExitStatus': str(FAILED),
      'StartLimitBurst': str(job.max_restarts + 1), 'StartLimitIntervalSec': 'infinity', 'TimeoutStopSec': str(GRACE),
      'KillMode': 'mixed', 'StandardOutput': f'append:{job.logs}/%H.log', 'StandardError': f'append:{job.logs}/%H.log'}
  run = ['systemd-run', f'--unit={job.name}', *(f'--property={name}={value}' for name, value in properties.items()),
         *(f'--setenv={name}={value}' for name, value in job.environment.items())]
  return f'mkdir -p {shlex.quote(job.logs)} && sudo {shlex.join(run)} "$(which gato-jax)" {shlex.join(job.command[1:])}'
