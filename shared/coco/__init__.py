"""COCO-format annotations: reading, class noise on them, its manifest, reports."""
