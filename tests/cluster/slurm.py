"""A real Slurm of one node on loopback, for the duration of a test: no systemd, cgroups or accounting."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
SERVERS = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))  # not on every user's path

CONFIGURATION = """
ClusterName=onlybn
SlurmctldHost={node}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,sched_min_interval=0,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
MinJobAge=86400
KillWait=15
ReturnToService=0
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={node} NodeAddr=127.0.0.1 CPUs={cpus} CoresPerSocket={cpus} RealMemory={memory} Gres=gpu:{cpus}
PartitionName=main Nodes={node} Default=YES MaxTime=60 DefaultTime=60 State=UP
"""


def install() -> None:
    """Install Slurm and munge if they are missing; exit with a sentence if that fails."""
    if os.geteuid() != 0:
        sys.exit("error: this starts Slurm's daemons, which only root may; try it in a container")
    missing = [name for name in PROGRAMS if not shutil.which(name, path=SERVERS)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        sys.exit(
            f"error: {', '.join(missing)} missing: install Slurm and munge (Debian: slurm-wlm and munge)"
        )
    quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run(["apt-get", "update", "-q"], check=False, **quiet)
    command = ["apt-get", "install", "-qy", "--no-install-recommends", "slurm-wlm", "munge"]
    if subprocess.run(command, check=False, **quiet).returncode:
        sys.exit(f"error: {', '.join(missing)} missing, and apt-get did not install slurm-wlm and munge")


class Slurm:
    """The cluster, as a context: its files and logs are in `folder`, its clients' environment is `env`."""

    def __init__(self, folder: Path, cpus: int):
        self.folder, self.cpus = folder, cpus
        self.node = socket.gethostname().partition(".")[0]
        clients = folder / "bin"
        self.env = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{clients}{os.pathsep}{os.environ['PATH']}",
        }
        self.daemons: list[subprocess.Popen] = []

    def __enter__(self) -> "Slurm":
        self.folder.chmod(0o755)  # munge's socket must be reached by all
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.touch(mode=0o400)
        key.write_bytes(secrets.token_bytes(128))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        text = CONFIGURATION.format(
            node=self.node,
            folder=self.folder,
            cpus=self.cpus,
            memory=9 * memory // 10,
            **dict(zip(("controller", "daemon"), _free_ports(2), strict=True)),
        )
        (self.folder / "slurm.conf").write_text(text)
        for number in range(self.cpus):
            (self.folder / f"gpu{number}").touch()
        pretended = f"NodeName={self.node} Name=gpu File={self.folder}/gpu[0-{self.cpus - 1}]\n"
        (self.folder / "gres.conf").write_text(pretended)
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        # The plugin's job step drops SLURM_CONF before its inner srun; a real cluster's is in /etc/slurm.
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        try:
            socket_ = f"--socket={self.folder}/munge.socket"
            files = [f"--{kind}-file={self.folder}/munge.{kind}" for kind in ("key", "pid", "log", "seed")]
            self._start("munged", "--foreground", "--force", socket_, *files)
            self._start("slurmctld", "-D", "-i")
            self._start("slurmd", "-D", "-N", self.node)
            self._wait_until_idle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.command("scancel", "--user=root", "--signal=KILL", "--full", check=False)
        self.command("scancel", "--user=root", check=False)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.command("squeue", "--noheader", check=False):
            time.sleep(0.5)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._kill(lambda process: True)  # what else has this cluster's environment

    def lose_the_node(self) -> None:
        """Kill everything on the node at once, as a power loss does, and tell Slurm."""
        self.daemons.pop().kill()
        self._kill(lambda process: process.name() == "slurmstepd")  # first, lest they tell of the others' end
        self._kill(lambda process: "SLURM_JOB_ID" in process.environ())
        self.command("scontrol", "update", f"nodename={self.node}", "state=down", "reason=lost")

    def find_the_node(self) -> None:
        """Start the node again."""
        self._start("slurmd", "-D", "-N", self.node)
        self.command("scontrol", "update", f"nodename={self.node}", "state=resume")

    def _kill(self, which: Callable[[psutil.Process], bool]) -> None:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("SLURM_CONF") == self.env["SLURM_CONF"] and which(process):
                    process.kill()

    def command(self, *words: str, check: bool = True) -> str:
        """Run one of Slurm's clients; return what it prints."""
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, check=False)
        if check and done.returncode:
            sys.exit(f"error: {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Return every job so far, as `scontrol show job` reports it."""
        lines = self.command("scontrol", "--oneliner", "show", "job").splitlines()
        return [
            dict(part.partition("=")[::2] for part in line.split() if "=" in part)
            for line in lines
            if line.startswith("JobId=")
        ]

    def _start(self, name: str, *options: str) -> None:
        with (self.folder / f"{name}.log").open("w") as log:
            self.daemons.append(
                subprocess.Popen(
                    [shutil.which(name, path=SERVERS), *options],
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # a terminal's Ctrl-C is for the test, which then stops this
                )
            )

    def _wait_until_idle(self) -> None:
        deadline = time.monotonic() + 30
        while self.command("sinfo", "--noheader", "--format=%T", check=False).strip() != "idle":
            if time.monotonic() > deadline:
                logs = [path.read_text()[-2_000:] for path in self.folder.glob("*.log")]
                sys.exit("\n".join([*logs, "error: Slurm did not start"]))
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports
