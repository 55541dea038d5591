#!/usr/bin/env python3
"""The matcher's search, by NumPy: prints what `matcher` prints in a pipe.

matcher-numpy.py [--first] [-n N] --threshold T --queries FILE --databases FILE...

Queries and databases are record files (`matcher --pack`; gpu-kernels/src/matcher/format.rs).
"""
import argparse
import math
import struct

import numpy

HEADER = struct.Struct("<8s6I3Q")


class Records:
    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            fields = HEADER.unpack(file.read(HEADER.size))
            magic, version, width, height, channels, stride, _, count, names_len, _ = fields
            if magic != b"IMGRECS\n" or version != 1:
                raise SystemExit(f"{path}: not a record file")
            lead = max(stride, 4096)
            file.seek(lead + count * stride)
            parts = file.read(names_len).split(b"\0")
        self.names = [part.decode("utf-8", "replace") for part in parts[1:-1]]
        shape = (count, stride)
        every = numpy.memmap(path, numpy.uint8, "r", lead, shape) if count else numpy.zeros(shape)
        self.pixels = every[:, : width * height * channels]


def squares(records, query):
    """The squared distance of every record, in integers of 64 bits; a thousand records at a time."""
    parts = [numpy.zeros(0, numpy.int64)]
    for start in range(0, len(records), 1000):
        difference = records[start : start + 1000].astype(numpy.int64) - query
        parts.append((difference * difference).sum(axis=1))
    return numpy.concatenate(parts)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--queries", required=True)
    parser.add_argument("--databases", nargs="+", required=True)
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--first", action="store_true")
    parser.add_argument("-n", type=int, default=1)
    args = parser.parse_args()
    limit = math.floor(args.threshold * args.threshold)
    queries = Records(args.queries)
    databases = [Records(path) for path in args.databases]
    for name, query in zip(queries.names, queries.pixels.astype(numpy.int64)):
        found = []
        for number, database in enumerate(databases):
            distances = squares(database.pixels, query)
            for record in numpy.flatnonzero(distances <= limit):
                found.append((int(distances[record]), number, int(record)))
        found.sort(key=(lambda m: m[1:]) if args.first else None)
        for squared, number, record in found[: args.n]:
            database = databases[number]
            distance = f"{math.sqrt(squared):.3f}"
            print(name, distance, database.path, database.names[record], sep="\t")


main()
