"""Where the configs of the package are: inside an installed wheel, or in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CONFIG_ROOTS = (_PACKAGE / "configs", _PACKAGE.parents[1] / "configs")


def config_path(name: str) -> str:
    """Return the absolute path of a config of ebm3d, for ``mmengine.Config.fromfile``.

    Args:
        name: relative to the config folder, such as ``"ebm_second_kitti.py"``.

    Raises:
        FileNotFoundError: if there is no such config; the message lists those there are.
    """
    root = next((root for root in _CONFIG_ROOTS if root.is_dir()), None)
    if root is not None and (root / name).is_file():
        return str(root / name)
    files = root.rglob("*.py") if root else ()
    known = sorted(str(p.relative_to(root)) for p in files if root and "_base_" not in p.parts)
    raise FileNotFoundError(
        f"config_path: expected the name of a shipped config, but got {name!r}; "
        f"choose one of: {', '.join(known) or 'none, reinstall ebm3d'}"
    )
