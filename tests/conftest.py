"""Settings of the whole suite."""

import os
import pathlib
import tempfile

# One compilation of a program serves every process of the suite; it must be set before jax is imported.
_CACHE = pathlib.Path(tempfile.gettempdir()) / 'gato_jax_test_compilations'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
