"""Which cluster an environment describes, and what is said of half of one."""

import glob

import pytest

from data_pipelines.errors import InputError
from gato_jax.distributed import Cluster, detect, first_node

EXPLICIT = {'JAX_COORDINATOR_ADDRESS': 'a:1', 'JAX_NUM_PROCESSES': '4', 'JAX_PROCESS_ID': '3'}
SLURM = {
    'SLURM_JOB_ID': '5001', 'SLURM_STEP_ID': '0', 'SLURM_STEP_NODELIST': 'gpu[007-010,12],login1', 'SLURM_NTASKS': '8',
    'SLURM_PROCID': '5', 'SLURM_LOCALID': '1', 'SLURM_STEP_TASKS_PER_NODE': '4(x2)'}
MPI = {
    'OMPI_COMM_WORLD_SIZE': '4', 'OMPI_COMM_WORLD_RANK': '2', 'OMPI_COMM_WORLD_LOCAL_RANK': '0',
    'OMPI_COMM_WORLD_LOCAL_SIZE': '2', 'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911'}
TPU = {'TPU_WORKER_HOSTNAMES': 'w-0,w-1,w-2,w-3', 'TPU_WORKER_ID': '2'}
SLICES = {'MEGASCALE_NUM_SLICES': '2', 'MEGASCALE_SLICE_ID': '1', 'MEGASCALE_COORDINATOR_ADDRESS': 'job-0-0:8080'}


def without(environment, *names):
  return {name: value for name, value in environment.items() if name not in names}


@pytest.mark.parametrize(('environment', 'cluster'), [
    ({}, Cluster('single')),
    ({'KUBERNETES_SERVICE_HOST': '10.0.0.1'}, Cluster('single')),
    ({'SLURM_JOB_ID': '1'}, Cluster('single')),  # a notebook or a shell in a job
    ({'SLURM_JOB_ID': '1', 'SLURM_NTASKS': '1', 'SLURM_PROCID': '0'}, Cluster('single')),
    (EXPLICIT, Cluster('explicit', 3, 4, 'a:1')),
    ({**EXPLICIT, **SLURM}, Cluster('explicit', 3, 4, 'a:1')),
    (SLURM, Cluster('slurm', 5, 8, f'gpu007:{61440 + 905}')),
    ({**SLURM, 'JAX_COORDINATOR_ADDRESS': 'b:9'}, Cluster('slurm', 5, 8, 'b:9')),
    ({**SLURM, 'SLURM_NTASKS': '1', 'SLURM_PROCID': '0'}, Cluster('slurm')),
    ({**SLURM, **MPI}, Cluster('open_mpi', 2, 4, '10.96.0.1:8476')),
    (TPU, Cluster('gke_tpu', 2, 4, 'w-0:8476')),
    ({**TPU, **SLICES}, Cluster('gke_tpu', 6, 8, 'job-0-0:8476')),
    ({'TPU_WORKER_HOSTNAMES': 'w-0', 'TPU_WORKER_ID': '0'}, Cluster('gke_tpu', 0, 1, 'w-0:8476')),
])
def test_detection(environment, cluster):
  assert detect(environment) == cluster


@pytest.mark.parametrize(('environment', 'words'), [
    (without(EXPLICIT, 'JAX_COORDINATOR_ADDRESS'), ('JAX_NUM_PROCESSES, JAX_PROCESS_ID set, but not JAX_COORD',)),
    (without(EXPLICIT, 'JAX_PROCESS_ID'), ('but not JAX_PROCESS_ID',)),
    ({**EXPLICIT, 'JAX_PROCESS_ID': '4'}, ('this is process 4, but there are 4',)),
    ({**EXPLICIT, 'JAX_NUM_PROCESSES': 'four'}, ("JAX_NUM_PROCESSES='four'",)),
    (without(SLURM, 'SLURM_LOCALID', 'SLURM_PROCID'), ('SLURM', 'but not SLURM_PROCID, SLURM_LOCALID')),
    ({'SLURM_JOB_ID': '1', 'SLURM_NTASKS': '4'}, ('4 tasks', 'srun')),
    (without(MPI, 'OMPI_COMM_WORLD_SIZE'), ('but not OMPI_COMM_WORLD_SIZE',)),
    (without(MPI, 'OMPI_MCA_orte_hnp_uri'), ('JAX_COORDINATOR_ADDRESS=HOST:PORT',)),
    (without(TPU, 'TPU_WORKER_ID'), ('but not TPU_WORKER_ID',)),
    ({**TPU, **without(SLICES, 'MEGASCALE_SLICE_ID')}, ('slices', 'but not MEGASCALE_SLICE_ID')),
    ({'KUBERNETES_SERVICE_HOST': 'x', 'JOB_COMPLETION_INDEX': '1'}, ('indexed Kubernetes Job', 'JAX_PROCESS_ID')),
])
def test_half_of_an_environment_is_an_error(environment, words):
  with pytest.raises(InputError) as caught:
    detect(environment)
  assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(('visible', 'tasks', 'local', 'devices'), [
    ('0,1,2,3,4,5,6,7', '1(x4)', '0', None),  # one process a node takes all
    ('0,1,2,3,4,5,6,7', '4', '1', (2, 3)),
    ('0,1,2,3', '4(x2)', '3', (3,)),
    ('0', '4(x2)', '3', None),  # srun --gpus-per-task has bound them already
    ('', '4(x2)', '3', None),
])
def test_gpus_are_shared_out_among_the_processes_of_a_node(visible, tasks, local, devices):
  environment = {**SLURM, 'CUDA_VISIBLE_DEVICES': visible, 'SLURM_STEP_TASKS_PER_NODE': tasks, 'SLURM_LOCALID': local}
  assert detect(environment).local_devices == devices


def test_gpus_that_nobody_has_named_are_counted(monkeypatch):
  monkeypatch.setattr(glob, 'glob', lambda pattern: [pattern.replace('[0-9]*', str(index)) for index in range(4)])
  assert detect({**MPI, 'OMPI_COMM_WORLD_LOCAL_RANK': '1'}).local_devices == (2, 3)
  assert detect({**MPI, 'CUDA_VISIBLE_DEVICES': ''}).local_devices is None


def test_gpus_that_cannot_be_shared_out():
  with pytest.raises(InputError, match='3 GPUs cannot be divided among 2 processes'):
    detect({**SLURM, 'CUDA_VISIBLE_DEVICES': '0,1,2', 'SLURM_STEP_TASKS_PER_NODE': '2(x4)'})


@pytest.mark.parametrize(('nodes', 'first'), [
    ('node001', 'node001'), ('node001,host2', 'node001'), ('node[001-0015],host2', 'node001'),
    ('node[001,007-015],host2', 'node001'), ('n[3]', 'n3')])
def test_first_node(nodes, first):
  assert first_node(nodes) == first
