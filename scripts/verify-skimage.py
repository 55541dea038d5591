"""Face verification by scikit-image and NumPy, and what a server says to the same images.

    verify-skimage.py images DIR WxH                   makes images to enrol
    verify-skimage.py compare DIR STORE ADDR THRESHOLD reads the store, asks the server, compares

Store and protocol are read here as gpu-kernels/src/verify/{store,wire}.rs describe them.
"""

import os
import socket
import struct
import sys
import warnings

import numpy as np
from skimage.feature import local_binary_pattern

METHODS = [("default", 256), ("uniform", 10), ("nri_uniform", 59)]


def faces(width, height, random):
    """Something with smooth shades, edges and grain."""
    y, x = np.mgrid[0:height, 0:width] / [[[height]], [[width]]]
    shade = 90 + 80 * x + 40 * np.sin(7 * y + random.uniform(0, 6))
    for _ in range(6):
        cx, cy, r = random.uniform(0, 1, 3) * [1, 1, 0.3] + [0, 0, 0.05]
        shade = np.where((x - cx) ** 2 + (y - cy) ** 2 < r * r, random.uniform(10, 240), shade)
    return shade + random.integers(0, 4, (height, width))


def images(width, height):
    random = np.random.default_rng(7)
    y, x = np.mgrid[0:height, 0:width]
    made = {
        "noise": random.integers(0, 256, (height, width)),
        # Ties, and nearly ties: even areas, few values, slopes, edges.
        "black": 0 * x,
        "white": 0 * x + 255,
        "even": 0 * x + 77,
        "two": random.integers(0, 2, (height, width)) * 255,
        "near": 128 + random.integers(0, 2, (height, width)),
        "three": random.integers(0, 3, (height, width)) * 50,
        "board": (x // 3 + y // 3) % 2 * 200 + 20,
        "slope": (x + y) % 256,
        "steps": (x // 5 * 11 + y // 4 * 7) % 256,
    }
    for value in (1, 3, 29, 101, 201, 254):
        made[f"even-{value}"] = 0 * x + value
    for number in range(8):
        made[f"face-{number}"] = faces(width, height, random)
    return {name: np.clip(image, 0, 255).astype(np.uint8) for name, image in made.items()}


def save(directory, width, height):
    os.makedirs(directory)
    for name, image in images(width, height).items():
        with open(f"{directory}/{name}.pgm", "wb") as file:
            file.write(b"P5 %d %d 255\n" % (width, height) + image.tobytes())


def histograms(image, method, bins, columns, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels = local_binary_pattern(image, P=8, R=1, method=method).astype(np.int64)
    height, width = image.shape
    cells = labels.reshape(rows, height // rows, columns, width // columns).swapaxes(1, 2)
    cells = cells.reshape(rows * columns, -1)
    return np.stack([np.bincount(cell, minlength=bins) for cell in cells])


def distances(a, b):
    """The chi-square distance: in 1/65536, each summand rounded down, and as it is."""
    squares, sums = (a - b) ** 2, a + b
    some = sums > 0
    return int((squares[some] * 65536 // sums[some]).sum()), float((squares[some] / sums[some]).sum())


class Client:
    def __init__(self, addr):
        host, port = addr.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.tag = 0

    def ask(self, name, image, threshold):
        self.tag += 1
        height, width = image.shape
        head = struct.pack("<4sHHHHIQQ", b"VRFY", 1, len(name), width, height, self.tag, threshold, 0)
        self.socket.sendall(head + name + image.tobytes())
        reply = b""
        while len(reply) < 32:
            more = self.socket.recv(32 - len(reply))
            assert more, "the server has closed the connection"
            reply += more
        magic, status, accepted, tag, zero, distance, used = struct.unpack("<4sHHIIQQ", reply)
        assert (magic, tag, zero) == (b"VRFY", self.tag, 0), reply
        return status, accepted, distance, used


def load(path):
    with open(path, "rb") as file:
        data = file.read()
    magic, version, method, width, height, columns, rows, count, slots, probes, stride, seed, zero = (
        struct.unpack_from("<8s10IQQ", data)
    )
    assert (magic, version, seed, zero) == (b"LBPREFS\n", 1, 0, 0)
    first = 4096 + slots * 64
    assert len(data) == first + count * stride
    method, bins = METHODS[method]
    names = {}
    for at in range(4096, first, 64):
        size, record = struct.unpack_from("<II", data, at + 56)
        if size:
            names[data[at : at + size]] = record
    references = {}
    for name, record in names.items():
        counts = np.frombuffer(data, "<u2", rows * columns * bins, first + record * stride)
        references[name] = counts.reshape(rows * columns, bins).astype(np.int64)
    return (width, height, columns, rows, method, bins), references


def compare(directory, store, addr, threshold):
    (width, height, columns, rows, method, bins), references = load(store)
    shown = images(width, height)
    assert sorted(references) == sorted(name.encode() for name in shown), "others are enrolled"
    expected = {
        name.encode(): histograms(image, method, bins, columns, rows) for name, image in shown.items()
    }
    for name, counts in references.items():
        assert (counts == expected[name]).all(), f"{method}: other patterns in {name.decode()}"
    client = Client(addr)
    pixels = width * height
    usual = round(float(threshold) * pixels * 65536)
    asked = 0
    for name, image in shown.items():
        for other, reference in references.items():
            exact, real = distances(expected[name.encode()], reference)
            wanted = (0, int(exact <= usual), exact, usual)
            found = client.ask(other, image, 2**64 - 1)
            assert found == wanted, f"{name} as {other.decode()}: {found}, not {wanted}"
            # Rounding down takes less than 1/65536 from each summand.
            assert 0 <= real - exact / 65536 <= columns * rows * bins / 65536 + 1e-6, (exact, real)
            asked += 1
        assert client.ask(b"nobody", image, 0) == (1, 0, 0, 0)
    print(
        f"{method}, {width}x{height} in {columns}x{rows} cells: patterns of {len(shown)} images and "
        f"{asked} distances are scikit-image's"
    )


if __name__ == "__main__":
    if sys.argv[1] == "images":
        save(sys.argv[2], *map(int, sys.argv[3].split("x")))
    else:
        compare(*sys.argv[2:])
