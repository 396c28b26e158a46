"""COCO files: reading, checks, matching, evaluation."""
