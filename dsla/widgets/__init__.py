"""Views to play with, in JupyterLab, Notebook 7 and Voilà: `AssignmentExplorer`, `DetectionBrowser`,
`RankingExplorer`, `TrainingReplay`.

They draw what the rest of the package computes, and nothing else. Where no widgets run, they are a picture.
"""

from .browser import DetectionBrowser
from .explorer import AssignmentExplorer
from .ranking import RankingExplorer
from .replay import TrainingReplay

__all__ = ["AssignmentExplorer", "DetectionBrowser", "RankingExplorer", "TrainingReplay"]
