"""The records that every client writes and every client must read, and the form in which a reader prints them."""

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PER_CODEC = 40
FIRST_TIMESTAMP_MS = 1_700_000_000_000


def records(codec):
    """(timestamp, key, value, headers) of each record that is written with one codec."""
    for index in range(PER_CODEC):
        yield (
            FIRST_TIMESTAMP_MS + index,
            None if index % 4 == 0 else f"{codec}-{index}".encode(),
            None if index % 10 == 9 else f"{codec}.{index}.".encode() * (index % 7),
            [("codec", codec.encode()), ("index", str(index).encode())] if index % 3 == 0 else [],
        )


def show(topic, offset, timestamp, key, value, headers):
    """One line for a record that was read."""

    def text(value):
        return "null" if value is None else value.decode()

    headers = ",".join(f"{name}:{text(content)}" for name, content in headers or [])
    print(topic, offset, timestamp, text(key), text(value), headers, sep="\t")
