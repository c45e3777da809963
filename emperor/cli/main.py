"""The command tree, and what its exit codes mean.

| code | means |
| --- | --- |
| 0 | done; for `start` and `run`: stopped as asked, by TERM, INT or `emperor stop`, also by a second one |
| 1 | it failed, and the last line on standard error says why; for `check`: a file is wrong |
| 2 | the command line is wrong |
| 3 | there is no emperor to ask |
"""

from __future__ import annotations

import click

from emperor import __version__
from emperor.cli.check import check
from emperor.cli.client import reopen_logs, status, stop
from emperor.cli.events import events
from emperor.cli.keys import keys
from emperor.cli.options import options
from emperor.cli.reload import pause, promote, reload, resume, rollback
from emperor.cli.run import run
from emperor.cli.start import start
from emperor.cli.trace import trace
from emperor.cli.upgrade import upgrade


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong command line, 3 no emperor is running.",
)
@click.version_option(__version__, message="emperor-vassals %(version)s")
def main() -> None:
    """Serve every app dropped into a directory.

    \b
    Examples:
      emperor start /etc/vassals                serve it, in the foreground
      emperor run shop:app --reload             serve one app, without a file
      emperor check /etc/vassals                say what is wrong with its files
      emperor options processes                 what an option is, uWSGI's included
      emperor status                            what every app is doing
      emperor trace blog                        where its workers are, and what they run
      emperor events -f                         what happens, why, and by whose hand
      emperor reload blog                       start blog anew, without losing a request
      emperor rollback blog                     go back to the reading before
      emperor promote blog                      give all requests to a generation on trial
      emperor pause blog                        answer 503 for it, until resume
      emperor keys show                         which hosts may work for which apps
      emperor upgrade                           become the version that is installed now
      emperor stop                              finish what has begun, and end
    """


@main.command()
def version() -> None:
    """Print the version.

    \b
    Example:
      emperor version
    """
    click.echo(f"emperor-vassals {__version__}")


for verb in (
    start,
    run,
    status,
    events,
    trace,
    keys,
    reload,
    rollback,
    promote,
    pause,
    resume,
    reopen_logs,
    upgrade,
    stop,
    check,
    options,
):
    main.add_command(verb)
