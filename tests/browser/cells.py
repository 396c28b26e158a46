"""The cells of the notebook that is driven: one widget each, of pictures and boxes whose labels are known."""

SIZE = (400, 640)
BOXES = [[80.0, 60.0, 200.0, 180.0], [300.0, 90.0, 540.0, 330.0], [20.0, 330.0, 26.0, 336.0]]
EXPLORER = f"""
import numpy as np, dsla
rng = np.random.default_rng(0)
image = (rng.random(({SIZE[0]} // 8, {SIZE[1]} // 8, 3)).repeat(8, 0).repeat(8, 1) * 0.3 + 0.3).astype('float32')
explorer = dsla.widgets.AssignmentExplorer(image, {BOXES}, [0, 1, 2], class_names=['cup', 'dog', 'fly'])
explorer
"""
BROWSER = """
import torch, dsla
class One(dsla.Scenes):
    def __getitem__(self, i):
        image, target = super().__getitem__(i)
        return image, {**target, 'boxes': torch.tensor([[10., 10., 50., 50.]]), 'labels': torch.tensor([0])}
    def ground_truth(self):
        data, box = super().ground_truth(), {'category_id': 1, 'bbox': [10, 10, 40, 40], 'area': 1600, 'iscrowd': 0}
        rows = [{'id': image['id'], 'image_id': image['id'], **box} for image in data['images']]
        return {**data, 'annotations': rows}
found = [{'boxes': torch.tensor([[10., 10., 50., 46.], [10., 10., 66., 50.]]), 'scores': torch.tensor([.6, .9]),
          'labels': torch.tensor([0, 0]), 'image_id': 1}]
browser = dsla.widgets.DetectionBrowser(One('test', size=4), {'listed': found, 'FCOS': dsla.load('scenes-fcos')})
browser
"""
RANKING = """
ranking = dsla.widgets.RankingExplorer(One('test', size=4), {'listed': found})
ranking
"""
REPLAY = """
import ipywidgets
replay = dsla.widgets.TrainingReplay()
film, wrong = replay.surface.film, ipywidgets.Button(description='break it')
broken = {**film, 'shapes': None}
wrong.on_click(lambda _: setattr(replay.surface, 'film', broken if replay.surface.film['shapes'] else film))
ipywidgets.VBox([replay, wrong])
"""
OWN = """
import os
own = dsla.widgets.AssignmentExplorer(os.environ['DSLA_OWN'], assigners='dsla')
own
"""
