"""How much memory a process had at most."""

import resource


def peak_megabytes() -> float:
  """Of this process. Linux tells it in /proc; what getrusage tells there may be the parent's."""
  try:
    with open('/proc/self/status') as file:
      return next(int(line.split()[1]) for line in file if line.startswith('VmHWM')) / 1024
  except OSError:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
