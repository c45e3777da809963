"""Our own workers on another host: a second emperor, whose workers serve the first one's router over tcp with CURVE. Both are
on this machine, so the way is short; what is compared is what the way costs in processor time and in requests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from stacks import APP_DIR, BIN, Stack, free_port


class EmperorAfar(Stack):
    name = "emperor, workers on another host"
    settings = (
        "two emperors, `--backplane tcp://ADDR` and `remote = true` in front, `--router tcp://ADDR` and the app behind; all "
        "else default"
    )

    def launch(self) -> None:
        door = f"tcp://127.0.0.1:{free_port()}"
        front, behind = self.directory / "front", self.directory / "behind"
        for each in (front, behind):
            (each / "vassals").mkdir(parents=True)
        public = {each: key_of(each / "keys") for each in (front, behind)}
        keys(front / "keys", "allow", public[behind], self.site.app)
        keys(behind / "keys", "allow", public[front], door)
        (front / "vassals" / f"{self.site.app}.ini").write_text("[uwsgi]\nremote = true\n")
        lines = ["[uwsgi]", f"module = {self.site.app}", f"pythonpath = {APP_DIR}"]
        lines.append(f"processes = {self.site.workers}")
        (behind / "vassals" / f"{self.site.app}.ini").write_text("\n".join(lines) + "\n")
        said = ((front, self.address, "--backplane"), (behind, f"127.0.0.1:{free_port()}", "--router"))
        for where, http, option in said:
            own = ("--run-dir", where / "run", "--keys-dir", where / "keys", option, door)
            self.spawn(BIN / "emperor", "start", where / "vassals", "--http", http, *own)


def key_of(directory: Path) -> str:
    """A new one, kept there."""
    return keys(directory, "new").strip()


def keys(directory: Path, *arguments: str) -> str:
    """What `emperor keys` says."""
    command = [str(BIN / "emperor"), "keys", *arguments, "--keys-dir", str(directory)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
