"""Everything that touches MMDetection3D: the classes its registries know, and its repairs."""
