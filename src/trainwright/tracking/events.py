"""TensorBoard's event files: written and read back with its own messages, without TensorFlow and without torch."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HEADER_BYTES, FOOTER_BYTES = 12, 4  # length and its checksum before, checksum after: tensorboard's RecordWriter
FILE_VERSION = "brain.Event:2"
METRICS = ("val/score", "val/loss", "train/score", "train/loss", "gap")  # what the hparams page shows beside the recipe


def first_event(time: float) -> bytes:
    """What every event file begins with."""
    return _record(_event_type()(wall_time=time, file_version=FILE_VERSION))


def scalar_event(tag: str, step: int, time: float, value: float) -> bytes:
    """One number. Not a number stays one."""
    summary = _summary_type()
    return _summary_record(step, time, [summary.Value(tag=tag, simple_value=value)])


def image_event(tag: str, step: int, time: float, png: bytes) -> bytes:
    """A PNG as it is. Raises ValueError where the bytes are no PNG."""
    summary = _summary_type()
    if png[:8] != b"\x89PNG\r\n\x1a\n" or len(png) < 26:
        raise ValueError("not a PNG image")
    width, height = struct.unpack(">II", png[16:24])  # IHDR: PNG specification §11.2.1
    channels = {0: 1, 4: 2, 6: 4}.get(png[25], 3)
    image = summary.Image(width=width, height=height, colorspace=channels, encoded_image_string=png)
    return _summary_record(step, time, [summary.Value(tag=tag, image=image)])


def text_event(tag: str, step: int, time: float, text: str) -> bytes:
    """A text in Markdown, as torch.utils.tensorboard writes it."""
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData

    summary = _summary_type()
    tensor = TensorProto(
        dtype="DT_STRING",
        string_val=[text.encode()],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
    )
    metadata = _metadata("text", TextPluginData(version=0))
    return _summary_record(step, time, [summary.Value(tag=tag, metadata=metadata, tensor=tensor)])


def parameters_event(parameters: Mapping[str, Any], time: float) -> bytes:
    """The recipe for the hparams page: which parameters and metrics there are, and this run's values. None is left out."""
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    start = plugin_data_pb2.SessionStartInfo(start_time_secs=time)
    infos = []
    for name, value in parameters.items():
        if value is not None:
            kind, type_name, plain = _hparam(value)
            setattr(start.hparams[name], kind, plain)
            infos.append(api_pb2.HParamInfo(name=name, type=api_pb2.DataType.Value(type_name)))
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in METRICS]
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)
    summary = _summary_type()
    values = [
        summary.Value(tag=tag, metadata=_metadata(metadata.PLUGIN_NAME, content))
        for tag, content in (
            (metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=experiment)),
            (metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=start)),
        )
    ]
    return _summary_record(0, time, values)


def read_events(path: Path) -> tuple[list[tuple[str, int]], bool]:
    """(tag, step) of every value in an event file, and whether the file is whole rather than torn or damaged."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    found: list[tuple[str, int]] = []
    data, at, event = path.read_bytes(), 0, _event_type()
    while at < len(data):
        length = struct.unpack_from("<Q", data, at)[0] if at + HEADER_BYTES <= len(data) else len(data)
        end = at + HEADER_BYTES + length
        if end + FOOTER_BYTES > len(data):
            return found, False
        try:
            message = event.FromString(data[at + HEADER_BYTES : end])
        except DecodeError:
            return found, False
        found += [(value.tag, message.step) for value in message.summary.value]
        at = end + FOOTER_BYTES
    return found, bool(data)


def _hparam(value: Any) -> tuple[str, str, Any]:
    if isinstance(value, bool):
        return "bool_value", "DATA_TYPE_BOOL", value
    if isinstance(value, int | float):
        return "number_value", "DATA_TYPE_FLOAT64", float(value)
    return "string_value", "DATA_TYPE_STRING", str(value)


def _metadata(plugin: str, content: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import SummaryMetadata

    data = SummaryMetadata.PluginData(plugin_name=plugin, content=content.SerializeToString())
    return SummaryMetadata(plugin_data=data)


def _summary_record(step: int, time: float, values: list[Any]) -> bytes:
    return _record(_event_type()(wall_time=time, step=step, summary=_summary_type()(value=values)))


def _record(event: Any) -> bytes:
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    RecordWriter(buffer).write(event.SerializeToString())
    return buffer.getvalue()


def _event_type() -> Any:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event


def _summary_type() -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary
