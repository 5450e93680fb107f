"""Where the configs that come with the package lie."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CONFIG_ROOTS = (_PACKAGE / "configs", _PACKAGE.parents[1] / "configs")


def config_path(name: str) -> str:
    """Return the absolute path of a config shipped with ebm3d.

    An installed wheel carries the configs inside the package; an editable install uses the
    ``configs`` folder of the checkout.

    Args:
        name: path relative to the config folder, for example ``"ebm_second_kitti.py"``.

    Returns:
        Absolute path, usable by ``mmengine.Config.fromfile`` from any working directory.

    Raises:
        FileNotFoundError: if there is no such config; the message lists those there are.
    """
    root = next((root for root in _CONFIG_ROOTS if root.is_dir()), None)
    if root is not None and (root / name).is_file():
        return str(root / name)
    shipped = root.rglob("*.py") if root else ()
    known = sorted(str(p.relative_to(root)) for p in shipped if root and "_base_" not in p.parts)
    raise FileNotFoundError(
        f"config_path: expected the name of a shipped config, but got {name!r}; "
        f"choose one of: {', '.join(known) or 'none found, reinstall ebm3d'}"
    )


def config_name(path: str | Path) -> str:
    """Return what tells a config from all others, for the folder of its runs.

    Args:
        path: a config file.

    Returns:
        Of a shipped config the name :func:`config_path` takes, less ``.py``, such as
        ``"second_stage/gaussian_second_kitti"``; of another the name of the file.
    """
    file = Path(path).resolve()
    root = next((root for root in _CONFIG_ROOTS if file.is_relative_to(root)), file.parent)
    return file.relative_to(root).with_suffix("").as_posix()
