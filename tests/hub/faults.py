"""How a request goes wrong: what the server does instead of answering, or instead of answering well.

`reset-before`   the connection is reset before the body is read; nothing is done
`reset-during`   it is reset when half of the body is read, or, without a body, half of the answer is sent
`reset-after`    the request is done, and the connection reset in the middle of the answer
`lost`           the request is done, and the connection closed without an answer
`hang`           nothing is done, and no answer comes, until the client goes away
`kill-before`    nothing is done, and the process that client.pid names is killed
`kill-after`     the request is done, and then that process is killed

And two for tests that do something in between: the server makes a file `waiting`, and goes on when it is gone.

`wait`           it goes on to do the request
`lost-wait`      the request is done before, and then as `lost`
"""

import os
import signal
import socket
import struct
import time
from pathlib import Path

HANG_SECONDS = 30.0
KINDS = ("reset-before", "reset-during", "reset-after", "lost", "hang", "kill-before", "kill-after")


def reset(connection: socket.socket) -> None:
    """Close a connection so that its other end gets a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def hang(connection: socket.socket) -> None:
    """Wait until the client closes the connection, or for HANG_SECONDS."""
    connection.settimeout(HANG_SECONDS)
    try:
        while connection.recv(1 << 16):
            pass
    except OSError:
        pass


def kill_client(folder: Path) -> None:
    """Kill the process whose id stands in client.pid, at once."""
    os.kill(int((folder / "client.pid").read_text()), signal.SIGKILL)
    # its sockets are closed when it is gone; nothing that it might still send may be served before that
    time.sleep(0.05)


def wait_for_test(folder: Path) -> None:
    """Make the file `waiting`, and wait until a test removes it."""
    waiting, end = folder / "waiting", time.monotonic() + HANG_SECONDS
    waiting.touch()
    while waiting.exists() and time.monotonic() < end:
        time.sleep(0.01)
