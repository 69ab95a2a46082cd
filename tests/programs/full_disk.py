"""A script on a disk that takes no file above 200 kB: the weights do not fit, the history does.

python full_disk.py SCRIPT ARGUMENTS...
"""

import resource
import runpy
import signal
import sys

resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
