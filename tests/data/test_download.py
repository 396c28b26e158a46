"""Downloads from a server on loopback: ranges, cut connections, wrong content, unpacking."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from dsla.cli.main import main
from dsla.data import download
from dsla.data.download import Archive, download_coco, fetch
from dsla.data.sources import open_dataset
from dsla.errors import DataError
from dsla.files import locked

DATA = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()


class Server:
    """Files at an address; `cut` bytes of an answer are sent before the connection closes, if it is set."""

    def __init__(self):
        self.files, self.cut, self.ranges, self.asked = {}, None, True, []
        self.headers = {}  # sent instead of, or beside, the right ones
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body, status = outer.files.get(self.path), 200
                wanted = self.headers.get("Range")
                outer.asked.append((self.path, wanted))
                if body is None or body == 503:
                    return self.send_error(body or 404)
                if wanted and outer.ranges:
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                    if start >= len(body):
                        return self.send_error(416)
                    body, status = body[start:], 206
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **outer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[: outer.cut])
                self.close_connection = True

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def md5(data):
    return hashlib.md5(data).hexdigest()


@pytest.mark.robustness("strangers: a transfer that is cut goes on where it stopped")
def test_a_transfer_that_is_cut_goes_on_where_it_stopped(server, tmp_path):
    server.files["/a"], server.cut = DATA, 100_000
    progress = []
    path = fetch(f"{server.url}/a", tmp_path / "a", md5(DATA), lambda *row: progress.append(row), wait=0)
    assert path.read_bytes() == DATA
    assert [r for _, r in server.asked] == [None, "bytes=100000-", "bytes=200000-"]
    assert progress[-1] == ("a", 300_000, 300_000)
    assert not (tmp_path / "a.part").exists()


def test_a_later_command_goes_on_and_a_server_without_ranges_starts_again(server, tmp_path):
    server.files["/a"] = DATA
    for ranges in (True, False):
        (tmp_path / "a").unlink(missing_ok=True)
        (tmp_path / "a.part").write_bytes(DATA[:1234])
        server.ranges = ranges
        assert fetch(f"{server.url}/a", tmp_path / "a", md5(DATA)).read_bytes() == DATA
        assert server.asked[-1] == ("/a", "bytes=1234-")
    (tmp_path / "a").rename(tmp_path / "a.part")  # complete, but not yet checked
    server.ranges = True
    assert fetch(f"{server.url}/a", tmp_path / "a", md5(DATA)).read_bytes() == DATA
    assert server.asked[-1] == ("/a", "bytes=300000-")


@pytest.mark.robustness("strangers: downloads of another content are removed")
def test_wrong_content_is_removed(server, tmp_path):
    server.files["/a"] = DATA
    (tmp_path / "a.part").write_bytes(b"another file")
    with pytest.raises(DataError, match=rf"300000 bytes with MD5 .* instead of {md5(DATA)}"):
        fetch(f"{server.url}/a", tmp_path / "a", md5(DATA))
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_serve(server, tmp_path):
    with pytest.raises(DataError, match=r"/a: the server says 404"):
        fetch(f"{server.url}/a", tmp_path / "a", md5(DATA))
    assert len(server.asked) == 1
    server.files["/a"] = 503
    with pytest.raises(DataError, match=r"after 5 tries .*503.*a\.part"):
        fetch(f"{server.url}/a", tmp_path / "a", md5(DATA), wait=0)
    server.files["/a"], server.cut = DATA, 0
    (tmp_path / "a.part").write_bytes(DATA[:10])
    with pytest.raises(DataError, match="closed early"):
        fetch(f"{server.url}/a", tmp_path / "a", md5(DATA), wait=0)
    assert (tmp_path / "a.part").read_bytes() == DATA[:10]


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def coco(server):
    """One image and the annotations of both splits, as on COCO's server."""
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(picture, "jpeg")
    truth = {
        "images": [{"id": 7, "file_name": "000000000007.jpg", "width": 40, "height": 30}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 30, 20], "area": 600, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "car"}],
    }
    text = json.dumps(truth)
    names = {f"annotations/instances_{s}2017.json": text for s in ("train", "val")}
    labels, images = zipped(**names), zipped(**{"val2017/000000000007.jpg": picture.getvalue()})
    server.files = {"/annotations/all.zip": labels, "/zips/val2017.zip": images}
    return {
        "val2017": (
            Archive("annotations/all.zip", md5(labels), "annotations/instances_val2017.json"),
            Archive("zips/val2017.zip", md5(images), "val2017"),
        ),
        "train2017": (
            Archive("annotations/all.zip", md5(labels), "annotations/instances_train2017.json"),
            Archive("zips/train2017.zip", md5(images), "train2017"),
        ),
    }


def test_a_split_opens_as_a_data_set_and_is_not_fetched_twice(server, coco, tmp_path):
    assert download_coco("val2017", tmp_path, server=server.url, splits=coco) == tmp_path
    data = open_dataset(tmp_path, "val")
    image, target = data[0]
    assert image.shape == (3, 30, 40)
    assert (target["boxes"].tolist(), data.class_names) == ([[1, 2, 31, 22]], ("car",))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["annotations", "val2017"]
    requests = len(server.asked)
    download_coco("val2017", tmp_path, server=server.url, splits=coco)
    assert len(server.asked) == requests == 2
    with pytest.raises(DataError, match="404"):
        download_coco("train2017", tmp_path, server=server.url, splits=coco)
    assert len(server.asked) == requests + 1  # the annotations of both came with the first
    with pytest.raises(DataError, match="val2017, train2017"):
        download_coco("test", tmp_path, server=server.url, splits=coco)


def test_a_zip_that_is_none_or_holds_something_else(server, coco, tmp_path):
    for body, says in ((b"<html>", "cannot be unpacked"), (zipped(**{"x.txt": "x"}), "no val2017 inside")):
        server.files["/zips/val2017.zip"] = body
        splits = {"val2017": (Archive("zips/val2017.zip", md5(body), "val2017"),)}
        with pytest.raises(DataError, match=says):
            download_coco("val2017", tmp_path / says, server=server.url, splits=splits)
        assert not (tmp_path / says / "val2017").exists()


def test_from_the_shell(server, coco, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download, "SERVER", server.url)
    monkeypatch.setattr(download, "SPLITS", coco)
    assert main(["data", "coco", "--split", "val2017", "--to", str(tmp_path)]) == 0
    assert f"dsla evaluate WEIGHTS --data {tmp_path} --split val2017" in capsys.readouterr().out
    assert main(["data", "coco", "--split", "train2017", "--to", str(tmp_path)]) == 2
    assert "404" in capsys.readouterr().err


@pytest.mark.robustness("strangers: odd lengths in a server's headers are not believed")
@pytest.mark.parametrize("length", ["abc", "-1", "", "1e5", "9" * 30, "²"])
def test_odd_lengths_are_not_believed(server, tmp_path, length):
    server.files["/a"], server.headers = DATA, {"Content-Length": length}
    assert fetch(f"{server.url}/a", tmp_path / "a", md5(DATA), wait=0).read_bytes() == DATA


def test_another_range_than_the_one_asked_for_is_not_appended(server, tmp_path):
    server.files["/a"], server.headers = DATA, {"Content-Range": "bytes 0-299999/300000"}
    (tmp_path / "a.part").write_bytes(DATA[:1234])
    assert fetch(f"{server.url}/a", tmp_path / "a", md5(DATA), wait=0).read_bytes() == DATA
    assert [r for _, r in server.asked] == ["bytes=1234-", None]


@pytest.mark.robustness("strangers: a body without end is cut at a limit")
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_without_end_is_cut_at_the_limit_and_removed(server, tmp_path, announced):
    server.files["/a"] = DATA
    server.headers = {} if announced else {"Content-Length": "x"}
    with pytest.raises(DataError, match="more than the 100,000 bytes"):
        fetch(f"{server.url}/a", tmp_path / "a", md5(DATA), wait=0, most=100_000)
    assert list(tmp_path.iterdir()) == []
    assert len(server.asked) == 1


def test_an_answer_that_is_no_http_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as door:

        def answer():
            for _ in range(5):
                with door.accept()[0] as line:
                    line.recv(1000)
                    line.sendall(b"SSH-2.0-x\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(DataError, match="no more data after 5 tries"):
            fetch(f"http://127.0.0.1:{door.getsockname()[1]}/a", tmp_path / "a", "0", wait=0)


@pytest.mark.robustness("lost: a download replaces no file of a person's")
def test_a_persons_zip_and_files_stay(server, coco, tmp_path):
    (tmp_path / "val2017").mkdir()  # empty: its images are still to be fetched
    (tmp_path / "val2017.zip").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"val2017\.zip: another file .* not replaced"):
        download_coco("val2017", tmp_path, server=server.url, splits=coco)
    assert (tmp_path / "val2017.zip").read_bytes() == b"mine"
    assert (tmp_path / "annotations" / "instances_train2017.json").exists()
    (tmp_path / "val2017.zip").write_bytes(server.files["/zips/val2017.zip"])
    (tmp_path / "annotations" / "instances_val2017.json").unlink()
    (tmp_path / "annotations" / "instances_train2017.json").write_text("changed")
    download_coco("val2017", tmp_path, server=server.url, splits=coco)
    assert (tmp_path / "annotations" / "instances_train2017.json").read_text() == "changed"
    assert (tmp_path / "val2017.zip").exists()
    assert (tmp_path / "val2017" / "000000000007.jpg").exists()


@pytest.mark.robustness("strangers: two downloads into one folder do not mix")
def test_two_at_once_in_a_folder(server, coco, tmp_path):
    with locked(tmp_path), pytest.raises(DataError, match=f"in use by process {os.getpid()}"):
        download_coco("val2017", tmp_path, server=server.url, splits=coco)
    download_coco("val2017", tmp_path, server=server.url, splits=coco)
    assert not any(p.name.startswith(".") for p in tmp_path.iterdir())


@pytest.mark.robustness("strangers: an encrypted archive is one message")
def test_an_encrypted_zip_is_one_message(server, tmp_path):
    body = bytearray(zipped(**{"val2017/a.jpg": b"secret"}))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(mark) + flags] |= 1
    server.files["/zips/val2017.zip"] = bytes(body)
    splits = {"val2017": (Archive("zips/val2017.zip", md5(bytes(body)), "val2017"),)}
    with pytest.raises(DataError, match=r"val2017\.zip: cannot be unpacked .*encrypted"):
        download_coco("val2017", tmp_path, server=server.url, splits=splits)


def test_a_server_that_trickles_gets_so_many_tries_and_what_came_stays(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TRIES_IN_ALL", 7)
    server.files["/a"], server.cut = DATA, 10
    with pytest.raises(DataError, match="after 7 tries"):
        fetch(f"{server.url}/a", tmp_path / "a", md5(DATA), wait=0)
    assert (tmp_path / "a.part").read_bytes() == DATA[:70]
