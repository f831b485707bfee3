"""Our Visdom server, which downloads nothing and needs a login to listen on other addresses.

python -m cyclegan.pages.visdom.server.process --port 8097 --env_path ./checkpoints/visdom
"""

import argparse
import logging
import os
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path

from cyclegan.config.errors import one_line_errors
from cyclegan.pages.visdom.server.login import LOCALHOST, check_host

GRACE_PERIOD = 0.2  # seconds that a server outlives its parent


def main() -> None:
    parser = argparse.ArgumentParser(description="Show saved Visdom environments.")
    parser.add_argument("--host", default=LOCALHOST, help="address to listen on")
    parser.add_argument("--port", type=int, default=8097)
    parser.add_argument("--env_path", type=Path, required=True)
    parser.add_argument("--follow_parent", action="store_true", help="end when stdin closes")
    options = parser.parse_args()
    with one_line_errors():
        check_host(options.host, option="--host")
    # The parent reads nothing after the port, and a full pipe would block the server.
    stdout, sys.stdout = sys.stdout, sys.stderr
    if options.follow_parent:
        threading.Thread(target=_exit_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    warnings.simplefilter("ignore")
    # Visdom imports these if it can, and a server never uses them: seconds and memory.
    sys.modules |= dict.fromkeys(("torch", "openTSNE"))  # type: ignore[arg-type]
    from tornado.httpserver import HTTPServer
    from tornado.ioloop import IOLoop
    from tornado.netutil import bind_sockets

    from cyclegan.pages.visdom.server.app import PageApplication

    try:
        sockets = bind_sockets(options.port, options.host)
    except OSError:
        sockets = bind_sockets(0, options.host)
    port = sockets[0].getsockname()[1]
    pages = PageApplication(host=options.host, port=port, env_dir=options.env_path)
    HTTPServer(pages).add_sockets(sockets)
    stdout.write(f"{port}\n")
    stdout.flush()
    with suppress(KeyboardInterrupt):
        IOLoop.current().start()


def _exit_with_parent() -> None:
    # The parent never writes: the stream ends when the parent closes it or is killed.
    sys.stdin.buffer.read()
    time.sleep(GRACE_PERIOD)
    os._exit(0)


if __name__ == "__main__":
    main()
