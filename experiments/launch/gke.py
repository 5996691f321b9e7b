"""Kubernetes: a JobSet, and the xpk command that makes one of its own."""

import math
import shlex
from typing import Any

import yaml

from experiments.launch import tpu
from experiments.launch.job import GRACE, Job, gpus_per_host
from gato_jax.distributed import EXPLICIT
from gato_jax.group import FAILED, LOST
from gato_jax.planning.target import Target
from gato_jax.training.watchdog import STUCK

_PORT = 8476
_WORKERS = 'workers'
_RESTARTED = (1, LOST, STUCK, 134, 137, 139, 143)  # the last four: ended by a signal
_GPU_LABELS = {'h200': 'nvidia-h200-141gb', 'h100': 'nvidia-h100-80gb', 'a100': 'nvidia-a100-80gb', 'l4': 'nvidia-l4'}


def manifest(job: Job, image: str, claim: str) -> dict[str, Any]:
  """The JobSet.

  A slice is a Job, a host a pod. A pod that fails ends its Job, and the JobSet starts all of them again, unless the
  exit status says that this is no use.

  Args:
    job: its workdir lies below /runs.
    image: container image with gato_jax in it.
    claim: PersistentVolumeClaim that is mounted at /runs; many pods write to it.

  Raises:
    InputError: a topology that is not a whole slice or whole hosts.
  """
  target = job.target()
  pods = tpu.hosts(target) if target.is_tpu else max(target.shape[0] // gpus_per_host(target), 1)
  replicas = target.slices
  if not target.is_tpu:  # one Job of all hosts: they differ by their completion index alone
    pods, replicas = pods * target.slices, 1
  return {
      'apiVersion': 'jobset.x-k8s.io/v1alpha2',
      'kind': 'JobSet',
      'metadata': {
          'name': job.name,
          'annotations': {'alpha.jobset.sigs.k8s.io/exclusive-topology': 'cloud.google.com/gke-nodepool'}},
      'spec': {
          'failurePolicy': {
              'maxRestarts': job.max_restarts,
              'rules': [{'name': 'badinput', 'action': 'FailJobSet', 'onJobFailureReasons': ['PodFailurePolicy']}]},
          'replicatedJobs': [{'name': _WORKERS, 'replicas': replicas, 'template': {
              'spec': _job_spec(job, target, pods, image, claim)}}],
      },
  }


def text(job: Job, image: str, claim: str) -> str:
  """The manifest as a YAML document, for `kubectl apply -f`."""
  return yaml.safe_dump(manifest(job, image, claim), sort_keys=False, explicit_start=True)


def xpk_command(job: Job, image: str, cluster: str) -> str:
  """xpk makes such a JobSet from this; what is mounted at /runs is the cluster's, by `xpk storage`.

  Raises:
    InputError: for GPUs.
  """
  target = job.target()
  environment = [f'--env={name}={value}' for name, value in job.environment.items()]
  return shlex.join([
      'xpk', 'workload', 'create', f'--workload={job.name}', f'--cluster={cluster}',
      f'--tpu-type={tpu.accelerator_type(target)}', f'--num-slices={target.slices}', f'--docker-image={image}',
      f'--max-restarts={job.max_restarts}', f'--restart-on-exit-codes={",".join(map(str, _RESTARTED))}',
      f'--termination-grace-period-seconds={GRACE}', *environment,
      f'--command={_shell(job)}'])


def _job_spec(job: Job, target: Target, pods: int, image: str, claim: str) -> dict[str, Any]:
  bad_input = {'action': 'FailJob', 'onExitCodes': {'containerName': 'train', 'operator': 'In', 'values': [FAILED]}}
  return {
      'parallelism': pods, 'completions': pods, 'completionMode': 'Indexed', 'backoffLimit': 0,
      'podFailurePolicy': {'rules': [bad_input]},
      'template': {'spec': {
          'restartPolicy': 'Never',
          'terminationGracePeriodSeconds': GRACE,
          **_placement(target),
          'containers': [_container(job, target, pods, image)],
          'volumes': [{'name': 'runs', 'persistentVolumeClaim': {'claimName': claim}},
                      {'name': 'shared', 'emptyDir': {'medium': 'Memory'}}],
      }},
  }


def _placement(target: Target) -> dict[str, Any]:
  if not target.is_tpu:
    return {'nodeSelector': {'cloud.google.com/gke-accelerator': _GPU_LABELS[target.chip.name]}}
  return {'nodeSelector': {
      'cloud.google.com/gke-tpu-accelerator': tpu.names(target).gke,
      'cloud.google.com/gke-tpu-topology': tpu.topology(target)}}


def _container(job: Job, target: Target, pods: int, image: str) -> dict[str, Any]:
  if target.is_tpu:
    resources = {'google.com/tpu': min(math.prod(target.shape), tpu.CHIPS_PER_HOST)}
  else:
    resources = {'nvidia.com/gpu': gpus_per_host(target)}
  environment = [{'name': name, 'value': value} for name, value in job.environment.items()]
  return {
      'name': 'train', 'image': image, 'command': ['bash', '-c', _shell(job)],
      'env': environment + ([] if target.is_tpu else _explicit(job, pods)),
      'resources': {'limits': resources},
      # A pod has 64 MB of shared memory, too little for data.read_processes.
      'volumeMounts': [{'name': 'runs', 'mountPath': '/runs'}, {'name': 'shared', 'mountPath': '/dev/shm'}],
  }


def _explicit(job: Job, pods: int) -> list[dict[str, Any]]:
  """Where process 0 is, how many there are, which one this is; on TPUs, Google's webhook says so."""
  index = {'fieldRef': {'fieldPath': "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
  return [
      {'name': EXPLICIT[0], 'value': f'{job.name}-{_WORKERS}-0-0.{job.name}:{_PORT}'},
      {'name': EXPLICIT[1], 'value': str(pods)},
      {'name': EXPLICIT[2], 'valueFrom': index}]


def _shell(job: Job) -> str:
  """`exec`, so that it is the run that hears SIGTERM; its output stays where `kubectl logs` looks, and in a file."""
  log = shlex.quote(job.logs) + '/$HOSTNAME.log'
  return f'mkdir -p {shlex.quote(job.logs)} && exec {job.command_line} > >(tee -a {log}) 2>&1'
