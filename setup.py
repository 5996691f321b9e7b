"""gato_jax: an open Gato in JAX and Flax."""

import pathlib

import setuptools

CORE = [
    'absl-py>=2.1',
    'array_record>=0.8.1',
    'etils>=1.9',
    'flatbuffers>=24.3',  # jax.export's files
    'flax>=0.12',
    'fsspec>=2024.2',
    'grain>=0.2.13',  # grain.experimental.ElasticIterator
    'imageio>=2.34',
    'importlib_resources>=6.0',  # tensorflow-datasets uses it without declaring it
    'jax>=0.10',
    'matplotlib>=3.8',
    'ml-collections>=1.0',
    'ml_dtypes>=0.4',
    'numpy>=2.0',
    'optax>=0.2.5',
    'orbax-checkpoint>=0.12',  # the v1 API
    'pillow>=10.0',
    'psutil>=5.9',
    'pyyaml>=6.0',
    'rich>=13.0',
    'safetensors>=0.5',
    'scipy>=1.15',  # bootstrap(rng=...)
    'sentencepiece>=0.2.0',
    'tensorboardX>=2.6.2',
    'tensorflow-datasets>=4.9.8',  # with ArrayRecord it needs no TensorFlow
]

EXTRAS = {
    # The quickstart's simulators, experts and picture datasets.
    'envs': [
        'dm_control==1.0.28',  # the last release on mujoco 3.3; later ones pull mujoco 4
        'easy-vqa>=1.0',
        'gymnasium[box2d,classic-control]>=1.2',
        'metaworld==3.1.1',  # needs exactly mujoco 3.3.0, without pinning it in a way that pip keeps
        'minigrid>=3.0',
        'mujoco==3.3.0',
        'packaging>=23.0',  # metaworld imports it without declaring it
        'scikit-learn>=1.4',
    ],
    # The other simulators.
    'suites': [
        'ale-py>=0.11',  # Atari, ROMs included
        'cmaes>=0.11',  # only to search for gaits again
        'gymnasium-robotics>=1.4.2',
    ],
    # Other people's file formats.
    'formats': [
        'av>=14.0',
        'h5py>=3.10',
        'minari>=0.5.3',
        'pyarrow>=15.0',  # Parquet
    ],
    # To build datasets of TFDS's catalogue, and to convert the rarer of its file formats.
    'tf': [
        'apache-beam>=2.60',  # the command line of tensorflow-datasets imports it, whatever it does
        'tensorflow>=2.16',
    ],
    # Building datasets on Apache Beam. It may want an older protobuf: an environment of its own is best.
    'beam': ['apache-beam>=2.60'],
    'torch': ['torch>=2.5'],  # what `gato-jax benchmark train_step` compares with
    'cuda': ['jax[cuda12]>=0.10'],
    'tpu': ['jax[tpu]>=0.10'],
    # To serve a model, and for its clients.
    'serve': ['websockets>=14.0'],
    # Addresses such as gs:// and s3:// as checkpoint_dir.
    'cloud': ['gcsfs>=2024.6', 's3fs>=2024.6'],
    'dev': [
        'flask-cors>=4.0',  # moto's server wants both
        'flask>=3.0',
        'gcp-storage-emulator>=2024.8',  # checkpoints in a bucket, without one
        'gcsfs>=2024.6',
        'hypothesis>=6.100',
        'kubeflow-trainer-api>=2.0',
        'moto[s3]>=5.0',
        'mypy>=1.15',
        'packaging>=23.0',  # the licences of what is installed
        'pytest>=8.0',
        'pytest-xdist>=3.7',
        'ruff>=0.6',
        's3fs>=2024.6',
        'selenium>=4.20',  # the tests of pages, in the machine's own Chromium
        'websockets>=14.0',
    ],
    'docs': [
        'mkdocs-material>=9.6',
        'mkdocstrings[python]>=0.27',
        'packaging>=23.0',  # the licences of what is installed
    ],
}

setuptools.setup(
    name='gato_jax',
    version='0.1.0',
    description='Train a generalist agent: Gato, in the open, in JAX and Flax.',
    long_description=pathlib.Path(__file__).with_name('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=setuptools.find_packages(include=['gato_jax*', 'data_pipelines*', 'experiments*']),
    package_data={
        'data_pipelines.environments': ['gaits/*.json', 'scores/*.json'],
        'experiments.examples': ['scores/*.json'],
        'gato_jax.evaluation': ['published_results.json'],
        'gato_jax.pages': ['*.css', '*.js'],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={'console_scripts': ['gato-jax = gato_jax.cli:main']},
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
