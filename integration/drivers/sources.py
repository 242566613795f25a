"""Where the suites come from: each driver's sources at its released version, unpacked into `$SLUICE_DRIVERS_DIR/source`.

Packages of the registries are taken where they carry their tests; two projects ship none, and theirs are taken from their
repositories. What cannot be had raises `Unavailable`, and its suite counts as failed. A folder that somebody laid there with a
file `READY` in it is used as it is.
"""

import glob
import os
import shutil
import subprocess
import sys

HOME = os.environ.get("SLUICE_DRIVERS_DIR", "")
DEBIAN = "http://deb.debian.org/debian"


class Unavailable(Exception):
    """A driver's sources cannot be had, or it cannot be built."""


def run(command, folder=None, env=None, limit_s=1800):
    """Runs a command to its end; its output is told only when it fails."""
    try:
        done = subprocess.run(command, cwd=folder, env=os.environ | (env or {}), capture_output=True, text=True, timeout=limit_s, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{' '.join(command)}: {error}") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise Unavailable(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")
    return done.stdout


def fetched(name, get):
    """The folder `source/NAME`, filled by `get(folder)` when it is not there yet."""
    folder = os.path.join(HOME, "source", name)
    if not os.path.exists(os.path.join(folder, "READY")):
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        get(folder)
        with open(os.path.join(folder, "READY"), "w", encoding="utf-8"):
            pass
    return folder


def pypi(name, version, is_installed=True):
    """A source package of PyPI; the driver itself is installed in the same version, unless it is run from its folder."""

    def get(folder):
        download = os.path.join(HOME, "download", name)
        os.makedirs(download, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "-q"]
        run([*pip, "download", "--no-deps", "--no-binary", ":all:", "--dest", download, f"{name}=={version}"])
        archive = max(glob.glob(os.path.join(download, "*.tar.gz")), key=os.path.getmtime)
        run(["tar", "-xzf", archive, "--strip-components=1", "-C", folder])
        if is_installed:
            run([*pip, "install", f"{name}=={version}"])

    return fetched(f"{name}-{version}", get)


def crate(name, version):
    """A package of crates.io, fetched by cargo and copied out of its cache."""

    def get(folder):
        seed = os.path.join(HOME, "download", f"crate-{name}")
        os.makedirs(os.path.join(seed, "src"), exist_ok=True)
        with open(os.path.join(seed, "Cargo.toml"), "w", encoding="utf-8") as text:
            text.write(f'[package]\nname = "seed"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n[dependencies]\n{name} = {{ version = "={version}", default-features = false }}\n')
        with open(os.path.join(seed, "src/lib.rs"), "w", encoding="utf-8"):
            pass
        run(["cargo", "vendor", "--quiet", "--versioned-dirs", "vendor"], seed)
        shutil.copytree(os.path.join(seed, "vendor", f"{name}-{version}"), folder, dirs_exist_ok=True)
        manifest = os.path.join(folder, "Cargo.toml")
        with open(manifest, encoding="utf-8") as text:
            is_alone = "[workspace" not in text.read()
        if is_alone:  # else cargo takes it for a stray member of Sluice's own workspace, in whose folder it lies
            with open(manifest, "a", encoding="utf-8") as text:
                text.write("\n[workspace]\n")

    return fetched(f"{name}-{version}", get)


def debian(name, version, suite, members=()):
    """The upstream archive of a Debian source package; `members`: only these paths."""

    def get(folder):
        apt = os.path.join(HOME, "apt", suite)
        os.makedirs(os.path.join(apt, "lists/partial"), exist_ok=True)
        with open(os.path.join(apt, "sources.list"), "w", encoding="utf-8") as text:
            text.write(f"deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {DEBIAN} {suite} main\n")
        options = ["-o", f"Dir::Etc::sourcelist={apt}/sources.list", "-o", "Dir::Etc::sourceparts=-", "-o", f"Dir::State::lists={apt}/lists"]
        download = os.path.join(HOME, "download", name)
        os.makedirs(download, exist_ok=True)
        run(["apt-get", *options, "-qq", "update"])
        run(["apt-get", *options, "-qq", "source", "--download-only", f"{name}={version}"], download)
        archive = glob.glob(os.path.join(download, f"{name}_*.orig.tar.?z"))
        if not archive:
            raise Unavailable(f"no upstream archive of {name} {version}")
        run(["tar", "-xf", archive[0], "--strip-components=1", "-C", folder, *members])

    return fetched(f"{name}-{version}", get)


def repository(name, address, tag):
    """A tag of a public repository."""

    def get(folder):
        shutil.rmtree(folder)
        run(["git", "clone", "--quiet", "--depth", "1", "--branch", tag, address, folder])

    return fetched(f"{name}-{tag}", get)
