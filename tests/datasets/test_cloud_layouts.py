"""Clouds of other layouts are read by name, and never taken for x, y, z, intensity."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from ebm3d.datasets import CloudLayout, DataError, column_names, prepare_kitti, read_cloud
from ebm3d.datasets.cloud_files import unpack_lzf
from tests.datasets.conftest import TRAIN, VAL, Tree

_SIZES = (4, 20, 400, 20_000)


def _scan(rng: np.random.Generator, num_points: int) -> np.ndarray:
    """Points on a ground plane and on walls, intensity, ring and time, ``(P, 7)``."""
    azimuth = np.sort(rng.uniform(-0.7, 0.7, num_points))
    ring = rng.integers(0, 64, num_points)
    elevation = np.deg2rad(2.0 - 0.42 * ring)
    distance = np.minimum(1.73 / np.maximum(-np.sin(elevation), 1e-3), rng.uniform(8, 60))
    x, y = distance * np.cos(azimuth), distance * np.sin(azimuth)
    z = distance * np.sin(elevation)
    intensity = rng.uniform(size=num_points).round(2)
    time = np.linspace(0, 0.1, num_points)
    return np.column_stack([x, y, z, intensity, ring, time, rng.integers(0, 3, num_points)])


def _change(scan: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    if kind == "intensity to 255":
        scan[:, 3] = (255 * scan[:, 3]).round()
    elif kind == "intensity 0":
        scan[:, 3] = 0
    elif kind == "one plane":
        scan[:, 1] = 0
    elif kind == "shuffled":
        scan = rng.permutation(scan)
    return scan


@pytest.mark.parametrize(
    "kind", ["plain", "intensity to 255", "intensity 0", "one plane", "shuffled"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", [3, 4, 5, 6, 7])
def test_a_cloud_of_another_layout_is_refused_naming_it_and_read_when_it_is_given(
    tmp_path: Path, rng: np.random.Generator, number: int, dtype: str, kind: str
) -> None:
    path = tmp_path / "1.bin"
    for num_points in _SIZES:
        scan = _change(_scan(rng, num_points), kind, rng)[:, :number].astype(dtype)
        scan.tofile(path)
        points = np.zeros((num_points, 4), dtype=np.float32)
        points[:, : min(number, 4)] = scan[:, :4]
        layout = CloudLayout(column_names(str(number)), dtype)
        np.testing.assert_array_equal(read_cloud(path, layout), points)
        if (number, dtype) == (4, "float32"):
            np.testing.assert_array_equal(read_cloud(path), points)
            continue
        with pytest.raises(DataError, match=f"{number} {dtype} columns") as caught:
            read_cloud(path)
        (problem,) = caught.value.problems
        assert f"columns={number}" in problem.remedy
        if num_points >= 400:
            assert problem.got == f"what looks like {layout.brief}"


def test_a_given_layout_that_the_values_contradict_is_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    _scan(rng, 420)[:, :4].astype(np.float32).tofile(tmp_path / "1.bin")
    for columns in ("5", "6", "3"):
        with pytest.raises(DataError, match="looks like 4 float32 columns"):
            read_cloud(tmp_path / "1.bin", CloudLayout(column_names(columns)))


@pytest.mark.parametrize(
    ("spoil", "got"),
    [
        (lambda p: (1000 * p).astype("<f4"), "coordinates up to"),
        (lambda p: (1000 * p).astype("<i4"), "another kind of number"),
        (lambda p: p.astype(">f4"), "another kind of number"),
        (lambda p: p.T.astype("<f4"), "all alike"),
        (lambda p: p[:, [3, 0, 1, 2]].astype("<f4"), "in the place of a coordinate"),
        (lambda p: np.hstack([p, 0 * p]).astype("<f4"), "8 float32 columns"),
    ],
)
def test_values_that_make_no_sense_are_refused(
    tmp_path: Path, rng: np.random.Generator, spoil: object, got: str
) -> None:
    (tmp_path / "1.bin").write_bytes(spoil(_scan(rng, 4000)[:, :4]).tobytes())  # type: ignore[operator]
    with pytest.raises(DataError, match=got):
        read_cloud(tmp_path / "1.bin")


def test_every_official_cloud_is_read(shared_data: Path) -> None:
    folders = (shared_data / "kitti_mini" / "training" / "velodyne_reduced",)
    files = [path for folder in folders for path in sorted(folder.glob("*.bin"))[::4]]
    files += (shared_data / "kitti_full_scans").glob("*.bin")
    assert files
    for path in files:
        expected = np.fromfile(path, np.float32).reshape(-1, 4)
        np.testing.assert_array_equal(read_cloud(path), expected)
    (sample,) = (shared_data / "nuscenes_sample").glob("*.pcd.bin")
    expected = np.fromfile(sample, np.float32).reshape(-1, 5)[:, :4]
    np.testing.assert_array_equal(read_cloud(sample), expected)


def _records(scan: np.ndarray, names: str, kinds: str) -> np.ndarray:
    kind_of = zip(names.split(), kinds.split(), strict=True)
    records = np.zeros(len(scan), dtype=list(kind_of))
    for column, name in enumerate(names.split()[:4]):
        records[name] = scan[:, column]
    return records


def _pack_lzf(content: bytes) -> bytes:
    """LZF: runs of one byte as copies, all else as literals."""
    packed, start = bytearray(), 0
    while start < len(content):
        run = 1
        while run < 100 and content[start : start + 1] == content[start + run : start + run + 1]:
            run += 1
        packed += bytes([0, content[start]])
        if run >= 10:  # the byte itself, then a copy of run - 1 bytes from one before
            packed += bytes([7 << 5, run - 1 - 9, 0])
            start += run
        else:
            start += 1
    return bytes(packed)


def _pcd(records: np.ndarray, storage: str) -> bytes:
    types = [records.dtype[name] for name in records.dtype.names or ()]
    counts = [int(np.prod(kind.shape)) for kind in types]
    kinds = [kind.base for kind in types]
    names = ("_" if name.startswith("pad") else name for name in records.dtype.names or ())
    header = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        "FIELDS " + " ".join(names),
        "SIZE " + " ".join(str(kind.itemsize) for kind in kinds),
        "TYPE " + " ".join({"f": "F", "u": "U", "i": "I"}[kind.kind] for kind in kinds),
        "COUNT " + " ".join(map(str, counts)),
        f"WIDTH {len(records)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(records)}",
        f"DATA {storage}\n",
    ]
    content = records.tobytes()
    if storage == "ascii":
        columns = [records[name].reshape(len(records), -1) for name in records.dtype.names or ()]
        rows = zip(*columns, strict=True)
        content = "\n".join(" ".join(str(v) for part in row for v in part) for row in rows).encode()
    elif storage == "binary_compressed":
        plain = b"".join(records[name].tobytes() for name in records.dtype.names or ())
        packed = _pack_lzf(plain)
        content = np.array([len(packed), len(plain)], dtype="<u4").tobytes() + packed
    return "\n".join(header).encode() + content


@pytest.mark.parametrize("storage", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        ("x y z intensity", "f4 f4 f4 f4"),
        ("x y z reflectance ring", "f8 f8 f8 f4 u2"),
        ("x y z intensity pad1 pad2", "f4 f4 f4 f4 4u1 12u1"),
    ],
)
def test_pcd_files_of_every_storage_are_read(
    tmp_path: Path, rng: np.random.Generator, storage: str, names: str, kinds: str
) -> None:
    scan = _scan(rng, 300).astype(np.float32)
    records = _records(scan, names, kinds)
    (tmp_path / "1.pcd").write_bytes(_pcd(records, storage))
    np.testing.assert_array_equal(read_cloud(tmp_path / "1.pcd"), scan[:, :4])
    (tmp_path / "1.pcd").write_bytes(_pcd(records, storage)[:-50])
    with pytest.raises(DataError, match=r"1\.pcd"):
        read_cloud(tmp_path / "1.pcd")


def test_points_without_a_return_are_left_out_of_pcd_files(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    scan = _scan(rng, 30).astype(np.float32)[:, :4]
    scan[::3] = np.nan
    records = _records(scan, "x y z intensity", "f4 f4 f4 f4")
    (tmp_path / "1.pcd").write_bytes(_pcd(records, "binary"))
    np.testing.assert_array_equal(read_cloud(tmp_path / "1.pcd"), scan[~np.isnan(scan[:, 0])])
    scan.tofile(tmp_path / "1.bin")
    with pytest.raises(DataError, match="10 of 30 points are not finite"):
        read_cloud(tmp_path / "1.bin")


def test_damaged_compression_is_refused_jitted_and_plain() -> None:
    plain = np.frombuffer(b"abcd" + b"e" * 60, np.uint8)
    packed = np.frombuffer(_pack_lzf(plain.tobytes()), np.uint8)
    for unpack in (unpack_lzf, unpack_lzf.py_func):
        np.testing.assert_array_equal(unpack(packed, 64), plain)
        for damaged, size in ((packed[:-1], 64), (packed[2:], 64), (packed, 63), (packed[10:], 59)):
            with pytest.raises(ValueError, match="damaged"):
                unpack(damaged, size)


@pytest.mark.parametrize("text", [True, False])
def test_ply_files_are_read(tmp_path: Path, rng: np.random.Generator, text: bool) -> None:
    scan = _scan(rng, 50).astype(np.float32)
    records = _records(scan, "x y z scalar_Intensity ring", "f8 f8 f8 f4 u2")
    vertices = PlyElement.describe(records, "vertex")
    PlyData([vertices], text=text, byte_order="=" if text else ">").write(tmp_path / "1.ply")
    np.testing.assert_array_equal(read_cloud(tmp_path / "1.ply"), scan[:, :4])


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_npy_files_know_shape_type_and_fields(tmp_path: Path, rng: np.random.Generator) -> None:
    path, scan = tmp_path / "1.npy", _scan(rng, 50)
    records = _records(scan, "x y z i t", "f4 f4 f4 f4 f8")
    for content in (_npy(scan), _npy(scan[:, :4].astype(np.float32)), _npy(records)):
        path.write_bytes(content)
        np.testing.assert_array_equal(read_cloud(path), scan[:, :4].astype(np.float32))
    bad = {
        "shape \\(4, 100\\)": _npy(_scan(rng, 100)[:, :4].T),
        "fields a, b": _npy(np.zeros(3, dtype=[("a", "f4"), ("b", "f4")])),
        "up to": _npy(1000 * scan),
        "npy": b"\x93NUMPY",
    }
    for got, content in bad.items():
        path.write_bytes(content)
        with pytest.raises(DataError, match=got):
            read_cloud(path)


def test_names_and_types_are_checked(tmp_path: Path) -> None:
    assert column_names("z, y,x,Reflectance") == ("z", "y", "x", "intensity")
    for columns in ("2", "x,y", "x,y,z,x", ""):
        with pytest.raises(ValueError, match="columns must be"):
            CloudLayout(column_names(columns))
    with pytest.raises(ValueError, match="dtype"):
        CloudLayout(dtype="float16")
    with pytest.raises(ValueError, match="max_intensity"):
        CloudLayout(max_intensity=0)
    (tmp_path / "1.las").write_bytes(b"LASF")
    with pytest.raises(DataError, match=r"a cloud: \.pcd\.bin, \.bin"):
        read_cloud(tmp_path / "1.las")


def _rewrite(tree: Tree, suffix: str, change: object) -> None:
    for frame_id in TRAIN + VAL:
        path = tree.cloud(frame_id)
        points = np.fromfile(path, np.float32).reshape(-1, 4)
        path.unlink()
        path.with_suffix(suffix).write_bytes(change(points))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("suffix", "change", "layout", "note"),
    [
        (
            ".bin",
            lambda p: np.insert(p, 4, 7, axis=1).tobytes(),
            CloudLayout(column_names("x,y,z,intensity,ring")),
            "ring left out",
        ),
        (".bin", lambda p: p.astype("<f8").tobytes(), CloudLayout(dtype="float64"), ""),
        (".pcd.bin", lambda p: np.insert(p, 4, 7, axis=1).tobytes(), None, "ring left out"),
        (".npy", _npy, None, ""),
        (
            ".bin",
            lambda p: (p * [1, 1, 1, 256]).astype("<f4").tobytes(),
            CloudLayout((), "float32", 256.0),
            "",
        ),
    ],
)
def test_prepared_clouds_are_those_of_the_standard_layout(
    kitti_tree: Tree, tmp_path: Path, suffix: str, change: object, layout: CloudLayout, note: str
) -> None:
    prepare_kitti(kitti_tree.root, out=tmp_path / "standard")
    _rewrite(kitti_tree, suffix, change)
    report = prepare_kitti(kitti_tree.root, out=tmp_path / "other", cloud_layout=layout)
    assert len(report.warnings) == bool(note)
    assert note in "".join(map(str, report.warnings))
    for folder in ("training/velodyne_reduced", "kitti_gt_database"):
        for path in (tmp_path / "standard" / folder).iterdir():
            assert path.read_bytes() == (tmp_path / "other" / folder / path.name).read_bytes()


def test_a_data_set_of_another_layout_is_one_defect(kitti_tree: Tree) -> None:
    _rewrite(kitti_tree, ".bin", lambda p: p[:, :3].tobytes())
    with pytest.raises(DataError, match="looks like 3 float32 columns") as caught:
        prepare_kitti(kitti_tree.root)
    assert len(caught.value.problems) == 1
    report = prepare_kitti(kitti_tree.root, cloud_layout=CloudLayout(column_names("3")))
    assert "intensity is 0 throughout" in str(report.warnings)


def test_one_frame_of_another_layout_is_a_defect(kitti_tree: Tree) -> None:
    points = np.fromfile(kitti_tree.cloud("000005"), np.float32).reshape(-1, 4)
    points[: len(points) // 2 * 2].astype(np.float64).tofile(kitti_tree.cloud("000005"))
    with pytest.raises(DataError, match=r"000005\.bin: .*looks like 4 float64 columns") as caught:
        prepare_kitti(kitti_tree.root)
    assert len(caught.value.problems) == 1


def test_intensities_beyond_one_are_said_and_reduced_clouds_never_replaced(
    kitti_tree: Tree,
) -> None:
    _rewrite(kitti_tree, ".bin", lambda p: (p * [1, 1, 1, 255]).astype("<f4").tobytes())
    report = prepare_kitti(kitti_tree.root)
    assert "in 6 of 6 clouds" in str(report.warnings)
    assert "--max-intensity 255" in str(report.warnings)
    with pytest.raises(DataError, match="intensities up to max_intensity = 2"):
        prepare_kitti(kitti_tree.root, cloud_layout=CloudLayout(max_intensity=2))
    kitti_tree.cloud("0").parent.rename(kitti_tree.root / "elsewhere")
    with pytest.raises(DataError, match="rename the folder to velodyne"):
        prepare_kitti(kitti_tree.root, cloud_layout=CloudLayout(max_intensity=255))
