"""Labs: real engines and clusters, each brought up once a session by its own module."""

from tests.lab.engine_lab import engine_images  # noqa: F401
from tests.lab.haproxy_lab import haproxy  # noqa: F401
from tests.lab.nemo_lab import nemo_lab  # noqa: F401
from tests.lab.podman_lab import podman_lab  # noqa: F401
from tests.lab.slurm_lab import slurm_lab  # noqa: F401
from tests.lab.ssh_lab import ssh_lab, ssh_machines  # noqa: F401
