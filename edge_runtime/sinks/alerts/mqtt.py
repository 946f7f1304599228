"""Alarms and events over MQTT, for home automation, dashboards and fleets.

| topic under the base | what | QoS | retained |
|---|---|---|---|
| `availability` | `online`; `offline` at the end, and from the broker (last will) when the process or its network dies | 0, 1 | yes |
| `events` | JSON with a `type`: `new`, `update`, `end` of an alarm (named by `alarm`), `event` for everything else | 1 | no |
| `score` | JSON, the newest score, once a second; only while the broker is there | 0 | no |

paho-mqtt has the connection. Its queue of unsent messages is not used beyond one batch: it would send what is published
between CONNECT and CONNACK before everything older, refuse the newest message where it is full, and forget all with the
process. So messages wait in a spool of our own and go in batches, each after the one before is acknowledged. A batch that
a lost connection cut is sent again as a whole: QoS 1 means at least once.
"""

from __future__ import annotations

import logging
import random
import threading
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any

from edge_runtime.errors import BackendUnavailable, ConfigError
from edge_runtime.score import Event, EventKind, Score, Step
from edge_runtime.sinks.alerts.messages import OpenAlarm, event_message
from edge_runtime.sinks.alerts.mqtt_address import MqttAddress
from edge_runtime.sinks.alerts.spool import Spool
from edge_runtime.sinks.tables.rows import encode_row, score_row

__all__ = ["MqttSink"]

_BATCH = 100  # of which paho has 20 in flight
_KEEPALIVE_S = 30
_CONNECT_TIMEOUT_S = 3.0
_LONGEST_RECONNECT_S = 10.0  # doubled up to it, from about one
_SCORE_PAUSE_S = 1.0
_SCORE_FACTS = ("stream", "frame", "time_s", "wall_time_s", "score", "threshold", "is_anomalous")

log = logging.getLogger(__name__)


class MqttSink:
    """Publishes one stream. No call but `close` waits for the network; a broker that is not there is no error.

    Messages of `events` that cannot be sent wait, in order, and are sent before newer ones when the broker is back. Alarms
    that are open then are brought up to date by one `update`.

    Args:
        url: `mqtt://user:password@host:1883/base/topic`; `mqtts://` for TLS. Port 1883 or 8883, base
            `edge-runtime/<stream>` and no user where it does not say; a password that it lacks is taken from the
            environment, `EDGE_MQTT_PASSWORD`, where other users of the machine do not see it.
        stream: name of the stream.
        spool_dir: folder for what waits, so that it outlives this process; in memory where None.
        spool_limit: how many messages wait; beyond it the oldest are lost, and a warning says so.
        ca_file: certificates of the authorities to trust; those of the system where None.
        update_s: seconds of stream time between updates of an open alarm whose score rises no more.
        close_wait_s: seconds `close` waits for messages to be delivered; it may take five more to end the connection.

    Raises:
        BackendUnavailable: paho-mqtt is not installed.
        ConfigError: the URL or the certificates cannot be used.
        SinkError: the spool's file cannot be written.
    """

    def __init__(
        self,
        url: str,
        stream: str,
        *,
        spool_dir: Path | None = None,
        spool_limit: int = 10_000,
        ca_file: Path | None = None,
        update_s: float = 10.0,
        close_wait_s: float = 5.0,
    ) -> None:
        self._address = MqttAddress.from_url(url, stream)
        self._client = _client_for(self._address, ca_file)
        self._update_s = update_s
        self._close_wait_s = close_wait_s
        self._alarm: OpenAlarm | None = None
        self._score_told_s = -float("inf")
        self._spool = Spool(spool_limit, None if spool_dir is None else Path(spool_dir) / self._address.file_name)
        # `_changed` guards what follows and the spool; nobody calls paho while holding it, for paho calls us with locks of its own.
        self._changed = threading.Condition()
        self._is_connected = False
        self._is_closing = False  # what waits is still sent
        self._is_over = False  # nothing is sent any more
        self._acknowledged: set[int] | None = None  # of the batch under way
        self._lost_told = 0
        # Held while something is handed to paho, so that no part of it slips into another connection than is meant.
        self._handing = threading.Lock()
        self._trouble = ""  # what was logged last; once is enough
        self._sender = threading.Thread(target=self._send_batches, name=f"mqtt-{stream}", daemon=True)
        self._connect()

    @property
    def is_connected(self) -> bool:
        """The broker is there, as far as is known."""
        return self._is_connected

    def write_step(self, step: Step) -> None:
        """Publish the score, and news of an open alarm, each once a second at most."""
        score = step.score
        if score is None:
            return
        if self._alarm is not None:
            self._alarm.see(score)
        if not self._is_connected:
            return  # a score is stale by then, and an update stays due
        if self._alarm is not None and self._alarm.is_update_due(score):
            self._enqueue(self._alarm.update(score))
        if not 0 <= score.time_s - self._score_told_s < _SCORE_PAUSE_S:
            self._score_told_s = score.time_s
            self._client.publish(self._address.topic("score"), encode_row(_score_message(score)), qos=0)

    def write_event(self, event: Event) -> None:
        """Publish an event, now or as soon as the broker is back."""
        self._enqueue(event_message(event))
        if event.event is EventKind.ALARM_START:
            self._alarm = OpenAlarm(event, self._update_s)
        elif event.event is EventKind.ALARM_END:
            self._alarm = None

    def close(self) -> None:
        """Deliver what waits, as long as that takes no more than `close_wait_s`, and say goodbye."""
        deadline = monotonic() + self._close_wait_s
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._sender.join(self._close_wait_s)
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        self._sender.join()  # it waits for nothing else now
        self._say_offline(max(0.5, deadline - monotonic()))
        self._disconnect()
        self._spool.close()
        self._tell_lost_messages()
        if len(self._spool):
            where = "wait for the next start" if self._spool.is_durable else "are lost"
            log.warning("%s: messages that could not be delivered: %d; they %s.", self._address, len(self._spool), where)

    def _enqueue(self, message: dict[str, Any]) -> None:
        with self._changed:
            self._spool.append(encode_row(message))
            is_first_loss = self._spool.lost and not self._lost_told
            self._changed.notify_all()
        if is_first_loss:
            self._tell_lost_messages()

    # The sender's thread

    def _send_batches(self) -> None:
        while self._wait_for_work():
            mids = self._hand_over()
            if not self._wait_for_acknowledgement(mids):
                return

    def _wait_for_work(self) -> bool:
        """Wait until something can be sent; False where nothing has to be any more."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_over or (self._is_connected and len(self._spool)) or (self._is_closing and not len(self._spool))
            )
            return not self._is_over and len(self._spool) > 0

    def _hand_over(self) -> set[int]:
        """Give the next batch to paho, which sends it, again too if the connection is lost; the messages' identifiers."""
        with self._handing:
            with self._changed:
                batch = self._spool.take(_BATCH) if self._is_connected else []
                self._acknowledged = set()
            topic = self._address.topic("events")
            return {self._client.publish(topic, message, qos=1).mid for message in batch}

    def _wait_for_acknowledgement(self, mids: set[int]) -> bool:
        """Whether all arrived before the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or mids <= (self._acknowledged or set()))
            is_delivered = mids <= (self._acknowledged or set())
            self._acknowledged = None
            if is_delivered and mids:
                self._spool.done()
            return is_delivered

    # The connection; what starts with `_on_` is called on paho's thread

    def _connect(self) -> None:
        client = self._client
        client.on_connect, client.on_connect_fail, client.on_disconnect = self._on_connect, self._on_connect_fail, self._on_disconnect
        client.on_publish = self._on_publish
        client.connect_async(self._address.host, self._address.port, _KEEPALIVE_S)
        client.loop_start()
        self._sender.start()

    def _on_connect(self, client: Any, userdata: object, flags: object, reason: Any, properties: object) -> None:
        if reason.is_failure:
            self._tell_trouble(f"refused ('{reason}'). Check user and password, and what the broker lets this user do")
            return
        with self._handing:
            if self._is_over:
                return  # nobody would take the "online" back
            client.publish(self._address.topic("availability"), "online", qos=0, retain=True)  # sent anew with every connection
            self._set_connected(True)
        self._trouble = ""
        self._tell_lost_messages()
        log.info("%s: connected; %d messages waited.", self._address, len(self._spool))

    def _on_connect_fail(self, client: object, userdata: object) -> None:
        self._tell_trouble("cannot be reached. Check address, port and, for mqtts, certificates")

    def _on_disconnect(self, client: object, userdata: object, flags: object, reason: object, properties: object) -> None:
        was_connected = self._is_connected
        with self._handing:
            self._set_connected(False)
        if was_connected and not self._is_over:
            self._tell_trouble(f"lost ('{reason}')")

    def _on_publish(self, client: object, userdata: object, mid: int, reason: object, properties: object) -> None:
        with self._changed:
            if self._acknowledged is not None:
                self._acknowledged.add(mid)
                self._changed.notify_all()

    def _say_offline(self, wait_s: float) -> None:
        """Where the broker is not there to hear it, it has said so itself."""
        with self._handing:
            if not self._is_connected:
                return
            sent = self._client.publish(self._address.topic("availability"), "offline", qos=1, retain=True)
        try:
            sent.wait_for_publish(wait_s)
        except (RuntimeError, ValueError):
            log.debug("%s: lost before it heard the end.", self._address)

    def _disconnect(self) -> None:
        self._client.disconnect()
        # paho's thread may hang in a name look-up or wait for acknowledgements, and paho would wait for it without a limit.
        stopping = threading.Thread(target=self._client.loop_stop, daemon=True)
        stopping.start()
        stopping.join(_CONNECT_TIMEOUT_S + 1.5)
        for name in ("on_connect", "on_connect_fail", "on_disconnect", "on_publish"):
            setattr(self._client, name, None)

    def _set_connected(self, is_connected: bool) -> None:
        with self._changed:
            self._is_connected = is_connected
            self._changed.notify_all()

    def _tell_trouble(self, what: str) -> None:
        if what != self._trouble:
            self._trouble = what
            log.warning("%s: the broker is away: %s. Events wait until it is back.", self._address, what)

    def _tell_lost_messages(self) -> None:
        with self._changed:
            lost, self._lost_told = self._spool.lost - self._lost_told, self._spool.lost
        if lost:
            log.warning("%s: more messages waited than the spool holds; the oldest %d are lost.", self._address, lost)


def _score_message(score: Score) -> dict[str, Any]:
    row = score_row(score)
    return {name: row[name] for name in _SCORE_FACTS}


def _client_for(address: MqttAddress, ca_file: Path | None) -> Any:
    """A client of paho's that has not connected yet.

    Raises:
        BackendUnavailable: paho-mqtt is not installed.
        ConfigError: the certificates cannot be used.
    """
    mqtt = _paho()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=address.client_id)
    client.will_set(address.topic("availability"), "offline", qos=1, retain=True)
    client.reconnect_delay_set(random.uniform(0.5, 1.5), _LONGEST_RECONNECT_S)  # noqa: S311  (so that fifty cameras do not come at once)
    client.connect_timeout = _CONNECT_TIMEOUT_S
    if address.user is not None:
        client.username_pw_set(address.user, address.password)
    if address.is_encrypted:
        try:
            client.tls_set(ca_certs=None if ca_file is None else str(ca_file))
        except OSError as error:
            raise ConfigError(f"{ca_file}: expected certificates in PEM form, got '{error}'. Give the broker's authority.") from error
    return client


def _paho() -> ModuleType:
    try:
        import paho.mqtt.client
    except ImportError as error:
        raise BackendUnavailable("MQTT needs paho-mqtt. Install it: pip install 'edge-runtime[alerts]'") from error
    return paho.mqtt.client
