"""Start-up of a run of many processes: which cluster this is, who is there, and JAX's distributed runtime."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import glob
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import traceback
from typing import Any

from data_pipelines.errors import InputError
from gato_jax.config import changed_keys
from gato_jax.group import Group, LostProcess, Preempted
from gato_jax.roll_call import call_the_roll

EXPLICIT = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
_PORT = 8476  # of the coordinator, where the cluster does not say one


@dataclasses.dataclass(frozen=True)
class Cluster:
  """Where this process stands.

  Attributes:
    kind: `single`, `explicit`, `gke_tpu`, `cloud_tpu`, `kubernetes`, `open_mpi` or `slurm`.
    index: of this process.
    count: of all processes.
    coordinator: `host:port` of process 0.
    local_devices: the GPUs of the host that are this process's; None for all it can see.
  """

  kind: str
  index: int = 0
  count: int = 1
  coordinator: str = ''
  local_devices: tuple[int, ...] | None = None


def start(config: Any, workdir: str, environment: Mapping[str, str] = os.environ) -> Group:
  """Joins the run's processes; call it before anything that uses a device. Alone, it does nothing.

  Says which cluster it found, which process this is, and how many devices there are.

  Raises:
    InputError: half-set environments, absent processes, other configs, versions or clocks; on all processes the same.
  """
  cluster = detect(environment)
  faults = config.faults
  facts = {
      'config': config.to_dict(), 'workdir': workdir, 'digest': digest(config.to_dict()),
      'versions': {name: importlib.metadata.version(name) for name in ('gato_jax', 'jax', 'orbax-checkpoint')}}
  group = call_the_roll(cluster.coordinator, cluster.index, cluster.count, facts, compare, faults.start_timeout)
  import jax  # only now: a run that cannot start should say so at once

  from gato_jax.allocator import keep_freed_memory

  keep_freed_memory()
  if cluster.count > 1:
    jax.distributed.initialize(
        cluster.coordinator, cluster.count, cluster.index, local_device_ids=cluster.local_devices,
        cluster_detection_method='deactivate', initialization_timeout=int(faults.start_timeout),
        heartbeat_timeout_seconds=int(faults.heartbeat_timeout))
  print(f'{cluster.kind}: process {cluster.index} of {cluster.count} on {platform.node()}, '
        f'{jax.local_device_count()} of {jax.device_count()} devices ({jax.devices()[0].device_kind})', flush=True)
  return group


@contextlib.contextmanager
def together(config: Any, workdir: str) -> Iterator[Group]:
  """The processes of the run, from `start` to the end of the block; an error of one is an error of all.

  Of several processes, one that fails ends here: leaving the interpreter would wait for processes that may be gone.

  Raises:
    InputError: see `start`.
  """
  group = start(config, workdir)
  try:
    yield group
  except Preempted:
    group.close()
    raise
  except BaseException as error:
    if group.count == 1:
      raise
    group.fail(error)
    if not isinstance(error, InputError | LostProcess):
      traceback.print_exception(error)
    group.linger()
    os._exit(group.status)
  group.close()


def compare(facts: list[dict[str, Any]]) -> str:
  """What process 0 has to say against the others' facts, empty if nothing."""
  for index, other in enumerate(facts):
    for name in ('versions', 'workdir'):
      if other[name] != facts[0][name]:
        return f'process {index} has another {name} than process 0: {other[name]}, not {facts[0][name]}'
    if other['digest'] != facts[0]['digest']:
      changes = changed_keys(facts[0]['config'], other['config'])
      return (f'process {index} has another config than process 0 ({other["digest"]}, not {facts[0]["digest"]}): '
              + '; '.join(changes))
  return ''


def digest(config: Mapping[str, Any]) -> str:
  """A short name of a config."""
  return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:12]


def detect(environment: Mapping[str, str]) -> Cluster:
  """What the environment says; raises InputError where it says only half of it."""
  for find in (_explicit, _gke_tpu, _cloud_tpu, _kubernetes, _open_mpi, _slurm):
    cluster = find(environment)
    if cluster is not None:
      if not 0 <= cluster.index < cluster.count:
        raise InputError(f'{cluster.kind}: this is process {cluster.index}, but there are {cluster.count}')
      return cluster
  return Cluster('single')


def _explicit(environment: Mapping[str, str]) -> Cluster | None:
  """All three of JAX's variables; the address alone only replaces a cluster's own."""
  if not any(name in environment for name in EXPLICIT[1:]):
    return None
  _require(environment, EXPLICIT, 'explicit start-up')
  address, count, index = (environment[name] for name in EXPLICIT)
  return Cluster('explicit', _number(EXPLICIT[2], index), _number(EXPLICIT[1], count), address)


def _gke_tpu(environment: Mapping[str, str]) -> Cluster | None:
  """TPU pods on Kubernetes: the TPU webhook sets these, JobSet and Megascale those of several slices."""
  if 'TPU_WORKER_HOSTNAMES' not in environment and 'TPU_WORKER_ID' not in environment:
    return None
  _require(environment, ('TPU_WORKER_HOSTNAMES', 'TPU_WORKER_ID'), 'a TPU slice on Kubernetes')
  hosts = environment['TPU_WORKER_HOSTNAMES'].split(',')
  slices, place, coordinator = 1, 0, hosts[0]
  megascale = ('MEGASCALE_NUM_SLICES', 'MEGASCALE_SLICE_ID', 'MEGASCALE_COORDINATOR_ADDRESS')
  if any(name in environment for name in megascale):
    _require(environment, megascale, 'several TPU slices')
    slices, place = (_number(name, environment[name]) for name in megascale[:2])
    coordinator = environment[megascale[2]].split(':')[0]
  index = place * len(hosts) + _number('TPU_WORKER_ID', environment['TPU_WORKER_ID'])
  return Cluster('gke_tpu', index, slices * len(hosts), _address(environment, coordinator))


def _cloud_tpu(environment: Mapping[str, str]) -> Cluster | None:
  """TPU VMs, which ask Google's metadata server; JAX knows how, and has no public name for it."""
  if not os.path.exists('/dev/accel0') and not os.path.exists('/dev/vfio/0') or environment.get('TPU_SKIP_MDS_QUERY'):
    return None
  from jax._src.clusters import cloud_tpu_cluster

  tpu = cloud_tpu_cluster.GceTpuCluster
  if not tpu.is_env_present():
    return None
  return Cluster('cloud_tpu', tpu.get_process_id(), tpu.get_process_count(), tpu.get_coordinator_address(300, None))


def _kubernetes(environment: Mapping[str, str]) -> Cluster | None:
  """An indexed Job; a pod of its own is a single process."""
  if 'KUBERNETES_SERVICE_HOST' not in environment or 'JOB_COMPLETION_INDEX' not in environment:
    return None
  raise InputError(
      'this is a pod of an indexed Kubernetes Job, but JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID '
      'are not set; start it with `python -m experiments.launch gke`, or set them in the manifest')


def _open_mpi(environment: Mapping[str, str]) -> Cluster | None:
  names = ('OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_LOCAL_SIZE')
  if not any(name in environment for name in names[:2]):
    return None
  _require(environment, names, 'Open MPI')
  count, index, local, tasks = (_number(name, environment[name]) for name in names)
  if count == 1:
    return Cluster('open_mpi')
  launcher = re.search(r'tcp://([^:,;]+)', environment.get('OMPI_MCA_orte_hnp_uri', ''))
  if not launcher and EXPLICIT[0] not in environment:
    raise InputError(
        f'Open MPI does not say where process 0 is; add -x {EXPLICIT[0]}=HOST:PORT to mpirun, with the host of rank 0')
  address = _address(environment, launcher.group(1) if launcher else '')
  return Cluster('open_mpi', index, count, address, _share(environment, local, tasks))


def _slurm(environment: Mapping[str, str]) -> Cluster | None:
  if 'SLURM_JOB_ID' not in environment:
    return None
  if 'SLURM_STEP_NODELIST' not in environment and 'SLURM_STEP_ID' not in environment:  # a batch script or a shell
    if int(environment.get('SLURM_NTASKS', '1')) > 1:
      raise InputError(
          f'this SLURM job has {environment["SLURM_NTASKS"]} tasks, but this process is not one of them; start it '
          'with srun')
    return None
  names = ('SLURM_STEP_NODELIST', 'SLURM_NTASKS', 'SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_STEP_TASKS_PER_NODE')
  _require(environment, names, 'a SLURM step')
  nodes, count, index, local = environment[names[0]], *(_number(name, environment[name]) for name in names[1:4])
  if count == 1:
    return Cluster('slurm')
  port = 65535 - 4095 + int(environment['SLURM_JOB_ID']) % 4096  # jobs that share a node get another each
  tasks = int(re.match(r'\d+', environment[names[4]]).group())
  return Cluster('slurm', index, count, _address(environment, first_node(nodes), port),
                 _share(environment, local, tasks))


def first_node(nodes: str) -> str:
  """`gpu[007-010,12],login1` -> `gpu007`."""
  name, bracket, ranges = re.match(r'([^,\[]+)(\[?)([^\]]*)', nodes).groups()
  return name + re.match(r'\d+', ranges).group() if bracket else name


def _share(environment: Mapping[str, str], local: int, tasks: int) -> tuple[int, ...] | None:
  """The GPUs of a process among `tasks` on its host; None where it may take all it can see.

  JAX's own detection takes one GPU a process whatever the job asked for. Where the cluster has given every process
  GPUs of its own already, it sees those alone, fewer than there are processes, or one. Open MPI names none.
  """
  named = environment.get('CUDA_VISIBLE_DEVICES')
  visible = glob.glob('/dev/nvidia[0-9]*') if named is None else [device for device in named.split(',') if device]
  if tasks == 1 or len(visible) < tasks:
    return None
  if len(visible) % tasks:
    raise InputError(f'{len(visible)} GPUs cannot be divided among {tasks} processes on this host')
  each = len(visible) // tasks
  return tuple(range(local * each, (local + 1) * each))


def _address(environment: Mapping[str, str], host: str, port: int = _PORT) -> str:
  return environment.get(EXPLICIT[0]) or f'{host}:{port}'


def _require(environment: Mapping[str, str], names: tuple[str, ...], what: str) -> None:
  missing = [name for name in names if not environment.get(name)]
  if missing:
    there = ', '.join(name for name in names if name not in missing)
    raise InputError(f'{what}: {there} set, but not {", ".join(missing)}; set all of them, or none')


def _number(name: str, text: str) -> int:
  if not text.isdigit():
    raise InputError(f'{name}={text!r} is not a whole number')
  return int(text)
