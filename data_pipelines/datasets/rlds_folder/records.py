"""The records of one file, in the two formats that TFDS mostly writes."""

from collections.abc import Callable, Iterator, Mapping
import os
import struct

from array_record.python.array_record_module import ArrayRecordReader
import tensorflow_datasets as tfds

from data_pipelines.datasets.imports.items import Damage

_TFRECORD_HEADER = struct.Struct('<QI')  # the record's length, and a checksum of it
_TFRECORD_FOOTER = 4  # bytes: a checksum of the record

Records = Iterator[bytes | Damage]


def array_records(file: str, start: int, stop: int) -> Records:
  """Records [start, stop) of an ArrayRecord file."""
  name = os.path.basename(file)
  try:
    reader = ArrayRecordReader(file)
    if not reader.ok():
      reader.close()  # which says what is wrong
  except Exception as error:  # the library has no class of its own for it
    yield Damage(name, f'cannot be read ({error})', stop - start)
    return
  for record in range(start, stop):
    yield _one(reader, record, name)
  reader.close()


def _one(reader: ArrayRecordReader, record: int, name: str) -> bytes | Damage:
  try:
    return reader.read([record])[0]
  except Exception as error:  # likewise
    return Damage(f'{name}, record {record}', f'cannot be read ({error})')


def tf_records(file: str, start: int, stop: int) -> Records:
  """Records [start, stop) of a TFRecord file, without TensorFlow: it is read from its start, checksums are not."""
  name = os.path.basename(file)
  try:
    with open(file, 'rb') as stream:
      for record in range(stop):
        header = stream.read(_TFRECORD_HEADER.size)
        length = _TFRECORD_HEADER.unpack(header)[0] if len(header) == _TFRECORD_HEADER.size else 0
        # A length that is damaged may be larger than any file.
        content = stream.read(length) if length <= os.path.getsize(file) else b''
        if not header or len(content) != length or len(stream.read(_TFRECORD_FOOTER)) != _TFRECORD_FOOTER:
          yield Damage(name, f'cannot be read on: it ends in record {record}', stop - max(record, start))
          return
        if record >= start:
          yield content
  except OSError as error:
    yield Damage(name, f'cannot be read ({error})', stop - start)


READERS: Mapping[tfds.core.FileFormat, Callable[[str, int, int], Records]] = {
    tfds.core.FileFormat.ARRAY_RECORD: array_records,
    tfds.core.FileFormat.TFRECORD: tf_records,
}
