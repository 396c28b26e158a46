"""The kernel's own socket: it says what the widget's messages would say, and nothing is lost or left."""

import asyncio
import gc
import json
import weakref

import ipywidgets
import numpy as np
import pytest
import torch
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from dsla import PointGrid
from dsla.assigners import DSLA
from dsla.widgets import AssignmentExplorer, surface, wire

SIZE = (256, 384)
GREY = np.full((*SIZE, 3), 0.5, dtype=np.float32)
BOXES = [[40.0, 32.0, 200.0, 180.0], [210.0, 90.0, 330.0, 250.0]]
MOVED = [[60.0, 42.0, 220.0, 190.0, 0], [210.0, 90.0, 330.0, 250.0, 0]]


SOCKETS = []  # that the running test has opened


def run(test):
    """Runs a coroutine function that is given an explorer; it and all sockets are closed in any case."""

    async def inside():
        explorer = AssignmentExplorer(GREY, BOXES, assigners="dsla")
        try:
            await asyncio.wait_for(test(explorer), 20)
        finally:
            explorer.close()
            while SOCKETS:
                SOCKETS.pop().close()
            await asyncio.sleep(0.01)

    asyncio.run(inside())


async def connect(address):
    SOCKETS.append(await websocket_connect(address))
    return SOCKETS[-1]


async def connected(explorer):
    socket = await connect(explorer.surface.address)
    while not explorer.surface.wire.sockets:
        await asyncio.sleep(0.001)
    return socket


async def answer(socket):
    """(what the JSON says, its label maps) of the next message, taken apart as the browser does."""
    message = await socket.read_message()
    end = 4 + int.from_bytes(message[:4], "little")
    content, body, maps = json.loads(message[4:end]), message[end:], []
    for row in content["frame"]["rows"]:
        assert "maps" not in row
        for h, w in row["shapes"]:
            maps.append(body[: h * w])
            body = body[h * w :]
    assert body == b""
    return content, maps


def edit(seq, objects=MOVED, **values):
    return json.dumps({"type": "edit", "seq": seq, "objects": objects, "values": values})


@pytest.fixture
def sent(monkeypatch):
    """Names of the traits of a surface that went as the widget's state, one set a message."""
    found = []
    plain = ipywidgets.Widget.send_state

    def noted(self, key=None):
        if isinstance(self, surface.BoxSurface):
            found.append({key} if isinstance(key, str) else key and set(key))
        plain(self, key)

    monkeypatch.setattr(ipywidgets.Widget, "send_state", noted)
    return found


def test_an_edit_comes_back_with_the_labels_of_the_assigner_and_the_state_follows_at_rest(sent, monkeypatch):
    monkeypatch.setattr(surface, "REST", 0.05)

    async def test(explorer):
        socket = await connected(explorer)
        point = int((explorer.assignments["dsla"].gt_index[0] == 0).nonzero()[0])
        explorer.surface.hover = [0, point, 0]
        await asyncio.sleep(0.1)
        sent.clear()
        for seq, objects in enumerate((MOVED[:1], MOVED[1:], MOVED), 1):
            await socket.write_message(edit(seq, objects))
            content, maps = await answer(socket)
            assert (content["seq"], content["frame"]["seq"], content["objects"]) == (seq, seq, objects)
        assert sent == []
        grid = PointGrid(SIZE, (8, 16, 32, 64, 128), 0.0)
        boxes = torch.tensor(MOVED)[:, :4]
        found = DSLA()(grid, [boxes], [torch.zeros(2, dtype=torch.int64)], image_sizes=[SIZE])
        label = torch.from_numpy(np.frombuffer(b"".join(maps), dtype=np.uint8).copy()).float()
        assert torch.equal(label > 0, found.gt_index[0] >= 0)
        positive = label > 0
        assert torch.allclose((label[positive] - 1) / 254, found.label[0][positive], atol=0.5 / 254 + 1e-6)
        assert explorer.surface.objects == MOVED
        assert [bytes(m) for m in explorer.surface.frame["rows"][0]["maps"]] == maps
        assert "box (40, 32, 200, 180)" in explorer.surface.why  # as hovered; too dear for each step of the mouse
        await asyncio.sleep(0.2)
        assert sent == [{"seq", "objects", "frame"}, {"why"}]  # once
        assert "box (60, 42, 220, 190)" in explorer.surface.why
        assert explorer.surface._owed == set()

    run(test)


def test_a_slider_that_moves_is_ahead_of_its_own_message():
    async def test(explorer):
        socket, control = await connected(explorer), explorer.controls["relaxation"]
        assert explorer.surface.sliders["relaxation"] == control.model_id
        assert set(explorer.surface.sliders) == {"relaxation", "radius", "jitter"}
        for seq, value in enumerate((0.5, 0.0), 1):
            await socket.write_message(edit(seq, explorer.surface.objects, relaxation=value))
            content, _ = await answer(socket)
            assert content["seq"] == seq
            assert explorer.assignments["dsla"].assigner.relaxation == value
            assert "relaxation=" + str(value) in explorer.python()
        assert control.value == 0.2  # is the browser's to set, with the message that comes now
        turn = explorer.surface.frame["turn"]
        control.value = 0.0
        assert (explorer.surface.frame["turn"], explorer.surface.ahead) == (turn, {})
        control.value = 0.3  # by code
        assert explorer.surface.frame["turn"] == turn + 1
        assert explorer.assignments["dsla"].assigner.relaxation == 0.3
        await socket.write_message(edit(3, explorer.surface.objects, relaxation=0.6))
        for _ in range(2):
            content, _ = await answer(socket)
        control.value = 0.7  # its own message is later than all that the wire said
        assert explorer.assignments["dsla"].assigner.relaxation == 0.7
        assert explorer.surface.ahead == {}

    run(test)


def test_what_a_control_changes_is_pushed_to_every_view():
    async def test(explorer):
        views = [await connected(explorer), await connect(explorer.surface.address)]
        while len(explorer.surface.wire.sockets) < 2:
            await asyncio.sleep(0.001)
        turn = explorer.surface.frame["turn"]
        explorer.controls["relaxation"].value = 0.0
        for view in views:
            content, maps = await answer(view)
            assert content["frame"]["turn"] == turn + 1
            assert maps == [bytes(m) for m in explorer.surface.frame["rows"][0]["maps"]]

    run(test)


def test_other_shapes_travel_with_the_image_that_they_belong_to(sent):
    async def test(explorer):
        socket = await connected(explorer)
        sent.clear()
        explorer.controls["strides"].value = (8, 16, 32)
        assert {"frame"} in sent
        await socket.write_message(edit(1))
        content, maps = await answer(socket)
        assert content["seq"] == 1
        assert len(maps) == 3

    run(test)


def test_an_edit_that_cannot_be_shown_is_answered_too():
    async def test(explorer):
        socket = await connected(explorer)
        before = explorer.surface.frame
        await socket.write_message(edit(4, [[9, 9, 1, 1, 0]]))
        content, _ = await answer(socket)
        assert content["seq"] == 4  # so that the browser goes on
        assert content["frame"]["turn"] == before["turn"]  # and draws nothing anew
        assert "x2 ≤ x1" in explorer.error
        await socket.write_message(edit(5))
        content, _ = await answer(socket)
        assert content["frame"]["turn"] == before["turn"] + 1
        assert explorer.error == ""

    run(test)


def test_only_the_widgets_own_page_gets_in():
    async def test(explorer):
        address = explorer.surface.address
        with pytest.raises(HTTPClientError, match="404"):
            await connect(address[:-1] + ("a" if address[-1] != "a" else "b"))
        origins = {"http://127.0.0.1:8888": True, "https://localhost": True, "https://localhost.test": False}
        for origin, allowed in origins.items():
            request = HTTPRequest(address, headers={"Origin": origin})
            if allowed:
                await connect(request)
            else:
                with pytest.raises(HTTPClientError, match="403"):
                    await connect(request)
        assert address.startswith("ws://127.0.0.1:")
        assert len(address.rsplit("/", 1)[1]) >= 32

    run(test)


def test_closing_ends_the_sockets_the_server_and_what_they_hold():
    async def test(explorer):
        other = AssignmentExplorer(GREY, BOXES, assigners="fcos")
        socket, address = await connected(other), other.surface.address
        held = weakref.ref(other.surface)
        await socket.write_message(edit(1))
        await answer(socket)
        assert explorer.surface.address.rsplit("/", 1)[0] == address.rsplit("/", 1)[0]  # one server for all
        other.close()
        assert await socket.read_message() is None
        del other
        for _ in range(3):
            await asyncio.sleep(0.01)
            gc.collect()
        assert held() is None
        with pytest.raises(HTTPClientError, match="404"):
            await connect(address)
        explorer.close()
        with pytest.raises(OSError, match="refused"):
            await connect(address)
        assert wire._servers == {}

    run(test)


def test_a_view_that_went_away_stops_nobody():
    async def test(explorer):
        gone, stays = await connected(explorer), await connect(explorer.surface.address)
        gone.close()
        for seq in range(1, 4):
            await stays.write_message(edit(seq))
            content, _ = await answer(stays)
            assert content["seq"] == seq
        assert len(explorer.surface.wire.sockets) == 1

    run(test)


def test_where_nobody_may_listen_the_explorer_works_without(monkeypatch):
    def refused(*_):
        raise PermissionError("not here")

    monkeypatch.setattr(wire, "bind_sockets", refused)

    async def test(explorer):
        assert explorer.surface.address == ""
        explorer.surface._handle_custom_msg(json.loads(edit(1)), [])
        assert explorer.surface.frame["seq"] == 1

    run(test)


def test_without_an_event_loop_the_widgets_messages_do_it(sent):
    explorer = AssignmentExplorer(GREY, BOXES, assigners="dsla")
    assert explorer.surface.address == ""
    sent.clear()
    explorer.surface._handle_custom_msg(json.loads(edit(1)), [])
    assert sent == [{"seq", "objects", "frame"}]
    assert explorer.surface.frame["seq"] == 1
    explorer.close()
