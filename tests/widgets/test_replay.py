"""`TrainingReplay` without a browser: what it sends to be drawn is what was recorded."""

import gc
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances

import dsla
from dsla.errors import DataError
from dsla.training.recorder import SHIPPED, Recorder, Recording
from dsla.widgets import TrainingReplay


@pytest.fixture(scope="module")
def recording():
    return Recording.load()


@pytest.fixture
def replay(recording):
    made = TrainingReplay(recording)
    yield made
    made.close()


def test_it_opens_at_once_on_the_last_frame_of_the_one_that_ships():
    replay = TrainingReplay()
    frames = len(replay.recording)
    assert replay.surface.film["steps"][0] == 1
    assert replay.surface.index == replay.controls["frame"].value == replay.controls["play"].value == frames - 1
    assert replay.controls["frame"].max == frames - 1
    replay.close()


def test_the_one_that_starts_cold_shows_the_label_grow():
    replay = TrainingReplay()
    warm, cold = (replay.recordings[name].own.astype(float) for name in ("starts warm", "starts cold"))
    assert list(replay.recordings) == list(replay.controls["recording"].options) == list(SHIPPED)
    replay.show(3, 1)
    replay.controls["recording"].value = "starts cold"  # as a person chooses it
    assert replay.recording is replay.recordings["starts cold"]
    assert (replay.surface.index, replay.surface.image) == (len(cold) - 1, 0)
    sent = np.frombuffer(replay.surface.film["own"], dtype=np.float32).reshape(cold.shape)
    assert np.array_equal(sent, cold.astype(np.float32), equal_nan=True)
    taught = replay.table().groupby("step")["taught"].mean()
    assert taught.iloc[0] < 0.01 < 0.6 < taught.iloc[-1]
    assert np.nanmean(warm[0, :, 2]) > 0.5
    with pytest.raises(DataError, match="there are starts warm, starts cold"):
        replay.choose("lukewarm")
    replay.close()


def test_the_film_is_the_recording(replay, recording):
    film = replay.surface.film
    frames, images, points = recording.taught.shape
    assert film["points"] == points == sum(h * w for h, w in film["shapes"])
    for name in ("taught", "score"):
        sent = np.frombuffer(film[name], dtype=np.uint8).reshape(frames, images, points)
        assert np.array_equal(sent, getattr(recording, name))
    per_object = np.frombuffer(film["own"], dtype=np.float32).reshape(frames, film["rows"], 4)
    assert np.array_equal(per_object, recording.own.astype(np.float32), equal_nan=True)
    boxes = np.frombuffer(film["boxes"], dtype=np.float32).reshape(frames, images, film["kept"], 4)
    assert np.array_equal(boxes, recording.boxes.astype(np.float32))
    losses = np.frombuffer(film["losses"], dtype=np.float32).reshape(len(film["loss_steps"]), -1)
    assert film["parts"] == ["cls", "box"]
    assert np.array_equal(losses[:, 0], recording.losses[:, recording.parts.index("loss_cls")])
    assert [len(i["objects"]) for i in film["images"]] == np.bincount(recording.image).tolist()
    first = film["images"][0]
    assert first["objects"][0]["box"] == recording.objects[0].tolist()
    assert first["objects"][0]["name"] in dsla.Scenes.class_names
    assert first["size"] == list(recording.images[0].shape[:2])
    assert first["scale"] == [1, 1]
    assert sum(len(v) for v in film.values() if isinstance(v, bytes)) < 1_000_000


def test_the_slider_is_linked_in_the_browser(replay):
    links = {(part.source[1], part.target[0], part.target[1]) for part in replay._parts if hasattr(part, "target")}
    controls = replay.controls
    assert links == {
        ("index", controls["play"], "value"),
        ("index", controls["frame"], "value"),
        ("image", controls["image"], "index"),
    }
    replay.show(3, -1)
    assert replay.surface.index == controls["frame"].value == 3
    assert replay.surface.image == controls["image"].index == len(replay.recording.images) - 1
    with pytest.raises(IndexError):
        replay.show(len(replay.recording))


def test_table_and_picture(replay, recording):
    table = replay.table()
    assert len(table) == len(recording) * len(recording.labels)
    first = table[table["step"] == 1]
    assert first["object"].tolist() == list(range(len(recording.labels)))
    assert np.allclose(table["taught"], table["label"] * table["iou"], atol=2e-3)  # the coupling
    picture = replay.static()
    titles = [ax.get_title(loc="left") for ax in picture.axes if ax.get_title(loc="left")]
    assert titles[0] == "step 1"
    assert titles[-1] == f"step {recording.steps[-1]}"
    assert len(replay._repr_mimebundle_()["image/png"]) < 300_000


@pytest.mark.slow
def test_other_recordings(recording, tmp_path):
    path = recording.save(tmp_path / "own.npz")
    for source in (path, str(path)):
        made = TrainingReplay(source)
        assert made.recording.steps.tolist() == recording.steps.tolist()
        made.close()
    lost = replace(recording, own=np.full_like(recording.own, np.nan), own_box=np.full_like(recording.own_box, np.nan))
    made = TrainingReplay(lost)  # objects without a point
    assert made.static().axes
    assert made.table()["label"].isna().all()
    made.close()
    with pytest.raises(DataError, match=r"none\.npz: no such file"):
        TrainingReplay(tmp_path / "none.npz")
    with pytest.raises(DataError, match="nothing recorded"):
        TrainingReplay(Recorder(dsla.Scenes("test", size=1), (0,)))


def test_nothing_piles_up_and_closing_frees(recording):
    gc.collect()
    before, figures = set(_instances), plt.get_fignums()
    replay = TrainingReplay(recording)
    there = len(_instances)
    for frame in range(len(recording)):
        replay.show(frame)
    assert len(_instances) == there
    assert plt.get_fignums() == figures
    replay.close()
    assert set(_instances) == before
    assert all(path.stat().st_size < 90_000 for path in SHIPPED.values())
