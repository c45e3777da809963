"""Hosts of a network of our own: network namespaces, each with one cable into a switch that is a namespace, too.

A namespace has no name: it is there as long as a process of ours that waits for the end of its input, and what runs in it. So
all of it goes when the tests go, however they do. Only who may make namespaces has a network (root, as a rule): others skip.
"""

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
SUBNET = "10.77.0"
NOWHERE = "02:00:00:00:77:ff"


class NoNetwork(Exception):
    """Namespaces cannot be made here; says why."""


class Host:
    """One namespace. `address` is its own in the network."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.address = f"{SUBNET}.{number}"
        try:
            self._holder = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise NoNetwork(f"unshare: {error.strerror}") from error
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline().decode(errors="replace").strip()
        if said != "up":
            self.close()
            raise NoNetwork(f"a network namespace cannot be made: {said or 'no word of why'}")

    @property
    def pid(self) -> int:
        return self._holder.pid

    @property
    def within(self) -> tuple[str, ...]:
        """What stands before a command that is to run there. It is exec'ed: pids stay."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net")

    def sh(self, command: str) -> None:
        """Raises NoNetwork with what it said."""
        done = subprocess.run(
            [*self.within, "sh", "-ec", command], capture_output=True, text=True, timeout=20, check=False
        )
        if done.returncode:
            raise NoNetwork(f"on {self.name}: {command}: {(done.stderr or done.stdout).strip()}")

    def do(self, act: Callable[[], T]) -> T:
        """`act`, by a thread that is on that host: its sockets are, too."""
        found: list[T] = []
        raised: list[BaseException] = []

        def run() -> None:
            try:
                self._enter()
                found.append(act())
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=run, name=self.name, daemon=True)
        thread.start()
        thread.join()
        if raised:
            raise raised[0]
        return found[0]

    def _enter(self) -> None:
        fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(fd)

    def close(self) -> None:
        """It goes once nothing runs in it."""
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait(10)
        self._holder.stdout.close()


class Network:
    """Hosts by name, each with a cable into the switch. Raises NoNetwork."""

    def __init__(self, names: Sequence[str]) -> None:
        self.hosts: dict[str, Host] = {}
        self._made: list[Host] = []
        if not Path("/proc/self/ns/net").exists():
            raise NoNetwork("this kernel has no network namespaces")
        try:
            self._switch = self._make("switch", 254)
            self._switch.sh("ip link add switch type bridge && ip link set switch up")
            for number, name in enumerate(names, 1):
                host = self.hosts[name] = self._make(name, number)
                self._switch.sh(
                    f"ip link add port{number} type veth peer name cable netns {host.pid}; "
                    f"ip link set port{number} master switch up"
                )
                host.sh(f"ip addr add {host.address}/24 dev cable; ip link set cable up")
        except BaseException:
            self.close()
            raise

    def _make(self, name: str, number: int) -> Host:
        host = Host(name, number)
        self._made.append(host)
        return host

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def cut(self, name: str) -> None:
        """Pull its cable out of the switch. Nobody is told: no connection ends by it."""
        self._port(name, "down")

    def heal(self, name: str) -> None:
        self._port(name, "up")

    def _port(self, name: str, state: str) -> None:
        number = list(self.hosts).index(name) + 1
        self._switch.sh(f"ip link set dev port{number} {state}")

    def mute(self, name: str, towards: str) -> None:
        """What it sends to that host is lost from now on; what comes from there arrives."""
        other = self.hosts[towards].address
        self.hosts[name].sh(f"ip neigh replace {other} lladdr {NOWHERE} dev cable nud permanent")

    def unmute(self, name: str, towards: str) -> None:
        self.hosts[name].sh(f"ip neigh del {self.hosts[towards].address} dev cable")

    def close(self) -> None:
        for host in self._made:
            host.close()
