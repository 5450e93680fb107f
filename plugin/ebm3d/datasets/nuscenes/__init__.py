"""The nuScenes data set: tables, sweeps, splits, infos."""
