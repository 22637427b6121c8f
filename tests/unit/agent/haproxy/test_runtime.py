"""HAProxy's admin socket, against answers that HAProxy 2.6.12 gave; the lab asks HAProxy itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from slipway.agent.haproxy.config import ServerState
from slipway.agent.haproxy.runtime import AdminSocket, LiveServer
from slipway.errors import ResourceError

STATES = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since srv_port
3 engine 1 a 127.0.0.1 2 0 90 100 0 18091
3 engine 2 b 127.0.0.1 2 4 10 100 0 18092
4 held 1 wait 127.0.0.1 0 5 1 1 0 1
4 held 2 a 127.0.0.1 0 8 100 100 0 18091
"""
STAT = """# pxname,svname,qcur,qmax,scur,smax
engine,a,0,0,3,4
engine,b,0,0,0,0
held,wait,0,0,,0
held,a,0,0,1,1
"""
INFO = "Name: HAProxy\nPid: 17649\ndescription: slipway-0123456789abcdef\n"
Ask = Callable[..., AdminSocket]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Ask]:
    """An admin socket that answers by a table; commands it got are in `asked`."""
    servers: list[socket.socket] = []

    def serve(answers: dict[str, str], asked: list[str] | None = None) -> AdminSocket:
        server = socket.socket(socket.AF_UNIX)
        servers.append(server)
        server.bind(str(tmp_path / "admin.sock"))
        server.listen()

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with closing(connection):
                    command = connection.recv(4096).decode().strip()
                    if asked is not None:
                        asked.append(command)
                    connection.sendall(f"{answers.get(command, '')}\n".encode())

        threading.Thread(target=answer, daemon=True).start()
        return AdminSocket(tmp_path)

    yield serve
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def test_servers_are_read_with_address_weight_readiness_and_sessions(answering: Ask) -> None:
    """0x04 stays set on a server that was `disabled` in the file and made ready since."""
    admin = answering({"show servers state": STATES, "show stat -1 4 -1": STAT})
    assert admin.servers() == {
        "engine/a": LiveServer(ServerState("127.0.0.1", 18091, 90, True), 3),
        "engine/b": LiveServer(ServerState("127.0.0.1", 18092, 10, True), 0),
        "held/wait": LiveServer(ServerState("127.0.0.1", 1, 1, False), 0, up=False),
        "held/a": LiveServer(ServerState("127.0.0.1", 18091, 100, False), 1, up=False),
    }


def test_who_waits_is_in_the_backend_and_in_no_server(answering: Ask) -> None:
    stat = "# pxname,svname,scur\nheld,wait,1\nheld,a,2\nheld,b,0\nheld,BACKEND,8\n"
    assert answering({"show stat held 6 -1": stat}).waiting() == 6


def test_info_is_read_by_name(answering: Ask) -> None:
    admin = answering({"show info": INFO})
    assert admin.info() == {"Name": "HAProxy", "Pid": "17649", "description": "slipway-0123456789abcdef"}
    assert admin.answers()


def test_changes_are_the_commands_of_the_manual(answering: Ask) -> None:
    asked: list[str] = []
    moved = "set server engine/b addr 127.0.0.1 port 18092"
    admin = answering({moved: "no need to change the addr, port changed from '1' to '18092'"}, asked)
    admin.move("engine/b", "127.0.0.1", 18092)
    admin.weigh("engine/b", 10)
    admin.ready("engine/b")
    admin.drain("engine/a")
    admin.cut("engine/a")
    assert asked == [
        moved,
        "set server engine/b weight 10",
        "set server engine/b state ready",
        "set server engine/a state drain",
        "shutdown sessions server engine/a",
    ]


KEY = "ab" * 32
KEYED = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since srv_port
3 engine 1 a - 2 0 100 100 0 0
6 slot_a 1 engine 10.0.0.1 2 0 100 100 0 20001
7 slot_b 1 engine 127.0.0.1 0 5 100 100 0 1
"""


def test_the_engines_of_keyed_slots_are_read_with_their_keys(answering: Ask) -> None:
    stat = "# pxname,svname,scur\nengine,a,1\nslot_a,engine,1\nslot_b,engine,0\n"
    shown = f"0x55d0 a {KEY}\n0x55d1 b none"
    admin = answering({"show servers state": KEYED, "show stat -1 4 -1": stat, "show map engine.keys": shown})
    states = {name: server.state for name, server in admin.servers().items()}
    assert states["slot_a/engine"] == ServerState("10.0.0.1", 20001, 100, True, key=KEY)
    assert (states["slot_b/engine"].key, states["engine/a"].key) == ("", "")
    assert (states["engine/a"].host, states["engine/a"].port) == ("-", 0)


def test_a_key_is_given_and_shown_in_no_refusal(answering: Ask) -> None:
    asked: list[str] = []
    refused = {f"set map engine.keys b {KEY}": f"'{KEY}' is no value"}
    admin = answering(refused, asked)
    admin.give_key("a", KEY)
    admin.give_key("a", "")
    admin.speak_tls("slot_a/engine", tls=True)
    assert asked == [f"set map engine.keys a {KEY}", "set map engine.keys a none", "set server slot_a/engine ssl on"]
    with pytest.raises(ResourceError, match=r"set map engine\.keys b.*'KEY' is no value") as caught:
        admin.give_key("b", KEY)
    assert KEY not in str(caught.value)


def test_a_refusal_is_an_error_with_its_words(answering: Ask) -> None:
    admin = answering(
        {"set server engine/a state ready": "No such server.", "set server engine/a addr x port 1": "Bad."}
    )
    with pytest.raises(ResourceError, match=r"set server engine/a state ready.*No such server\."):
        admin.ready("engine/a")
    with pytest.raises(ResourceError, match=r"Bad\."):
        admin.move("engine/a", "x", 1)


@pytest.mark.parametrize("name", ["engine/c", "engine/a;shutdown", "engine/a\nshow info", ""])
def test_a_name_that_is_no_server_is_no_command(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no server of the file"):
        AdminSocket(tmp_path).drain(name)


def test_nobody_there_is_named(tmp_path: Path) -> None:
    admin = AdminSocket(tmp_path / "absent")
    assert not admin.answers()
    with pytest.raises(ResourceError, match=r"admin socket .*absent/admin\.sock") as caught:
        admin.servers()
    assert caught.value.exit_code == 4
