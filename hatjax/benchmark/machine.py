"""What a benchmark ran on: device, driver, versions, date."""

import datetime
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

import jax

PACKAGES = ("hatjax", "jax", "jaxlib", "flax", "optax", "numpy", "torch", "triton")


def about() -> dict[str, str]:
    """The machine and the versions, as far as they can be found out; plain texts for JSON."""
    device = jax.devices()[0]
    found = {
        "date": datetime.date.today().isoformat(),
        "device": f"{jax.device_count()} x {device.device_kind}",
        "platform": " ".join(device.client.platform_version.split()),
        "driver": driver(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "float32 products": str(jax.config.values["jax_default_matmul_precision"] or "default"),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def driver() -> str:
    """The version of NVIDIA's driver; "unknown" where nvidia-smi does not tell it."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return "unknown"
    try:
        asked = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
        return said.stdout.splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"
