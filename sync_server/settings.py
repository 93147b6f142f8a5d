"""Every limit of a server, with its unit and default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of one server. Times in microseconds, sizes in bytes, counts in items."""

    data_dir: Path
    """Holds `server.db`, `keys.db` (never in the same backup), `server.key`, `collector.key`, `api.token`,
    `server.json`."""
    host: str = "127.0.0.1"
    """Address to listen at."""
    port: int = 8080
    """0: any free port; `server.json` then says which."""
    catalog: Path | None = None
    """A catalog file to register and make active at start; None: the newest one registered."""

    registry_key: bytes | None = None
    """Ed25519 public key that must have signed every catalog's privacy part; None: nothing is asked."""

    registry_versions_shown: int = 100
    """Most versions of the registry in one reply, the newest."""

    # Storage
    keys: Path | None = None
    """Where `keys.db` lies: best on another volume, so that no copy of the data directory holds it. None: in
    the data directory."""
    key_assurance: str = "file"
    """What a completion receipt says of this server's own erasure. `file`: the key is overwritten in a file,
    and remnants of the file itself are not excluded. Another word only where the volume of `keys` makes it
    true, `volume` where it is encrypted under a key that is not on it."""
    partitions: int = 16
    """Channels hash into this many partitions, each with a dense sequence; fixed when the store is made."""
    write_chunk_rows: int = 500
    """Rows of one publish written per transaction; the event loop takes a breath between two."""

    # Consent
    lease_us: int = DAY_US
    """Duration of a lease that a device is granted."""
    lease_drift_ppm: int = 1_000
    """A device's clock may run this much slow: the server waits lease x 1.001 + margin."""
    lease_margin_us: int = 5 * SECOND_US
    """The server waits that much longer for the end of a lease."""
    erasure_due_us: int = 30 * DAY_US
    """A target without a receipt this long after a revocation is overdue, and named."""
    evidence_kept_us: int = 3 * 365 * DAY_US
    """How long evidence names its subject after a consent has ended; then it is made anonymous."""
    device_gives_per_hour: int = 600
    """Most consents that one device may record in an hour."""
    journals: tuple[Path, ...] = ()
    """Folders on other disks, each with a copy of every ledger step from its commit on: docs/restore.md."""
    journal_segment_bytes: int = 4 * 1024 * 1024
    """A piece of a journal that has become so large is followed by another."""
    journal_backups: int = 2
    """So many backups must hold what a piece of the journal tells before it goes."""
    lost_steps: int = 100_000
    """Most ledger steps by which devices may be ahead of a server that was restored."""
    recalled_denials: int = 100_000
    """Most denials that a restored server records on one device's word."""
    delete_kept_us: int = 60 * DAY_US
    """How long a delete stays as a row: longer than the longest lease plus grace."""

    # The HTTP doors
    head_limit_bytes: int = 8 * 1024
    """Longest request line, and longest header."""
    body_limit_bytes: int = 8 * 1024 * 1024
    """Largest body of any other request."""
    consent_body_bytes: int = 1024 * 1024
    """Largest body of a decision or a revocation."""
    json_depth: int = 64
    """Deepest nesting of a JSON body."""
    id_limit_bytes: int = 512
    """Longest typed id (`item:85123A`), in UTF-8."""
    batch_rows: int = 20_000
    """Most rows of one publish."""
    row_limit_bytes: int = 48 * 1024
    """Largest row; it must fit a frame with room to spare."""
    segments: int = 1_000
    """Most segments with members."""
    segment_members: int = 100_000
    """Most entities in one segment."""
    entity_segments: int = 16
    """Most segments of one entity."""
    hot_channel_bytes: int = 64 * 1024 * 1024
    """Most bytes of ids and payloads that stand in one shared channel; what scores least leaves it."""
    hot_set_every_us: int = MINUTE_US
    """How often channels over their budget, or with rows kept out, are looked at."""
    publish_half_life_us: int = DAY_US
    """How fast a publish is forgotten in a row's score."""
    importances: int = 10_000
    """Most rows and views of which somebody set the importance."""
    idempotency_kept_us: int = DAY_US
    """How long a reply is kept for repeats with its `Idempotency-Key`."""
    export_page_bytes: int = 1024 * 1024
    """Bytes of rows after which a page of a subject's export ends, give or take 16 rows."""
    page_rows: int = 1_000
    """Most items in one listing."""
    overdue_named: int = 100
    """Most overdue devices that a revocation's status names; all of them stand among its targets."""

    # Access
    oidc: Path | None = None
    """A file that names an OpenID Connect issuer whose tokens are good here; see `docs/access.md`."""
    api_tokens: int = 10_000
    """Most API tokens, ended ones too until they are forgotten."""
    token_grace_us: int = DAY_US
    """How long an API token's secret is good after a newer one took its place."""
    token_grace_longest_us: int = 30 * DAY_US
    """Longest such grace that may be asked for."""
    token_use_us: int = HOUR_US
    """How fine an API token's last use is written down."""
    token_kept_us: int = 90 * DAY_US
    """How long an API token that ended is still listed."""
    token_requests_per_s: int = 200
    """Requests a second of one API token or person, unless the token says otherwise; `api.token` has none."""
    token_burst: int = 400
    """Requests at once of one API token or person, before the rate counts."""
    refusals_per_s: int = 10
    """Requests a second from one address that are told why their token is not good; more are put off."""
    refusal_burst: int = 200
    """Of these at once, before the rate counts."""
    callers: int = 10_000
    """Most callers, and most addresses, whose rate is remembered."""
    collect_reports: int = 64
    """Aggregate reports that are opened and counted in one transaction."""
    collect_breath_reports: int = 16
    """Of these, so many are opened before the event loop takes a breath: a millisecond or less."""
    audit_gather_us: int = MINUTE_US
    """Refused calls alike are counted in one row of the audit log for so long before it is written."""
    audit_waiting: int = 1_000
    """Most rows of the audit log that wait to be written; further calls are counted in one row together."""
    audit_kept_us: int = 400 * DAY_US
    """How long the audit log is kept."""
    oidc_timeout_us: int = 5 * SECOND_US
    """Longest wait for the issuer's keys."""
    oidc_keys_us: int = HOUR_US
    """The issuer's keys are fetched anew when they are so old; while it does not answer, they stay good."""
    oidc_refresh_us: int = MINUTE_US
    """The issuer is asked for its keys at most once in so long, whatever keys tokens name."""
    oidc_keys: int = 64
    """Most keys of the issuer."""
    oidc_keys_bytes: int = 256 * 1024
    """Largest reply of the issuer."""
    oidc_token_bytes: int = 8_000
    """Longest token of a person."""
    oidc_seen: int = 1_024
    """People's tokens whose verified signature is remembered, as hashes."""
    oidc_leeway_us: int = 30 * SECOND_US
    """How far the issuer's clock may be from ours."""

    # Events: streams, webhooks, callbacks, onward recipients (docs/events.md)
    public_url: str = ""
    """How others reach this server (`https://sync.example`); it is the issuer of every event. Empty: host and
    port above, by plain http."""
    deliver_to: tuple[str, ...] = ()
    """What events may be sent to besides public https addresses: `loopback` (plain http too), `private`."""
    callback_origins: tuple[str, ...] = ()
    """Origins (`https://crm.example`) to which a revocation's `callback_urls` may point, besides those of
    registered webhooks."""
    callback_urls: int = 4
    """Most callbacks of one revocation."""
    destinations: int = 64
    """Most streams and webhooks."""
    recipients: int = 256
    """Most onward recipients."""
    undelivered_events: int = 100_000
    """With more events that somebody has not acknowledged, `readyz`, `doctor` and the metrics warn. None is
    dropped for that, and no revocation fails."""
    events_look_us: int = SECOND_US
    """How often it is looked for events to send and for what time has made true, when nothing is heard."""
    events_warn_us: int = 10 * SECOND_US
    """How often it is looked whether something is not delivered, for `readyz`."""
    notice_chunk: int = 50
    """Revocations looked at in one transaction for what time has made true."""
    deliveries_at_once: int = 256
    """Most requests under way to receivers."""
    deliveries_per_host: int = 4
    """Of those, most to one host and port."""
    delivery_timeout_us: int = 10 * SECOND_US
    """A receiver that takes longer to answer has not received."""
    delivery_retry_us: int = SECOND_US
    """First wait after a failed delivery; doubled each time, give or take a half."""
    delivery_retry_longest_us: int = HOUR_US
    """Longest wait between two attempts, also when `Retry-After` asks for more."""
    webhook_attempts: int = 24
    """After so many a webhook's delivery is a dead letter. A stream's never is."""
    webhook_give_up_us: int = 3 * DAY_US
    """And after so long, whatever comes first."""
    webhook_signature_us: int = 5 * MINUTE_US
    """How long a webhook's signature may be used."""
    stream_failing_us: int = HOUR_US
    """A stream or webhook to which nothing gets through for so long is named by `readyz` and `doctor`."""
    event_page: int = 100
    """Most events in the answer to one poll."""
    event_poll_wait_us: int = 20 * SECOND_US
    """Longest wait of a poll for events."""
    event_polls: int = 64
    """Polls that may wait at once; further ones are answered at once, with what there is."""
    verifications_waiting: int = 16
    """Verifications of one stream that may wait for their delivery."""
    event_subjects: int = 1_000
    """Most subjects of which the names are asked in one request."""

    # Devices
    token_life_us: int = 15 * MINUTE_US
    """Life of an enrolment token."""
    ticket_life_us: int = HOUR_US
    """Longest life of a ticket for personal channels."""
    shared_channels: tuple[str, ...] = ("all",)
    """Channel patterns of a newly enrolled device; none personal."""

    # Admission: asked in memory, before anything is read for a session
    sessions: int = 20_000
    """Most sessions at once to which rows flow."""
    revocation_sessions: int = 1_000
    """Most sessions besides, without rows: for devices behind in the decision lane when all else is spent."""
    openings: int = 1_024
    """Most sockets that have not said who they are."""
    snapshot_admissions_per_s: int = 150
    """Sessions a second that claim a snapshot."""
    resume_admissions_per_s: int = 300
    """Sessions a second that resume at their cursors."""
    revocation_admissions_per_s: int = 100
    """Sessions a second besides, for devices behind in the lane."""
    admissions_burst: int = 100
    """Sessions that may come at once, of each budget, before its rate counts."""
    retry_longest_us: int = 2 * MINUTE_US
    """Longest wait that a refused device is asked for."""
    guest_us: int = 10 * SECOND_US
    """How long a device without rows may stay for its decisions, lease and receipts."""
    snapshots: int = 64
    """Snapshots of shared channels that flow at once; the others wait their turn, their sessions open."""
    snapshots_waiting: int = 4_096
    """Sessions that may wait for a snapshot; then no more of them are let in."""
    snapshot_stall_us: int = 2 * SECOND_US
    """A snapshot that took no frame for so long gives way to the next in line."""
    snapshot_turn_us: int = 10 * SECOND_US
    """A snapshot that has flowed for so long goes on after those who wait."""
    drain_us: int = 10 * SECOND_US
    """Longest time over which the sessions of a node that stops are told to go, one after another."""
    drain_notice_us: int = 0
    """How long `readyz` says no before the first is told: what a load balancer needs to notice."""

    # The device session
    key_change_us: int = 10 * MINUTE_US
    """A device names another signing key at most once in so long."""
    device_keys_kept: int = 64
    """Keys of before that are kept of one device; receipts signed by older ones are refused."""
    leaving_us: int = 60 * SECOND_US
    """How long a revoked device may stay to hand in its receipts."""
    hello_timeout_us: int = 10 * SECOND_US
    """A connection whose first message takes longer is closed."""
    ping_us: int = 20 * SECOND_US
    """How often a quiet connection is asked whether anybody is there."""
    send_timeout_us: int = 20 * SECOND_US
    """A device that takes longer than this to take one frame is dropped; it resumes at its cursors."""
    session_age_us: int = 6 * HOUR_US
    """Maximum age of a session, give or take a fifth, so that nodes can be drained and keys rotated."""
    send_buffer_bytes: int = 16 * 1024
    """Kernel send buffer of a session: little can queue ahead of a denial."""
    poll_wait_us: int = 20 * SECOND_US
    """Longest wait of a long poll for something to say: less than proxies leave a request unanswered."""
    poll_idle_us: int = 60 * SECOND_US
    """A polled session to which no poll comes for so long ends."""
    poll_sessions: int = 5_000
    """Most polled sessions at once."""
    poll_body_bytes: int = 256 * 1024
    """Largest body of a poll."""
    poll_frames: int = 256
    """Most frames in the body of a poll."""
    poll_reply_bytes: int = 256 * 1024
    """Largest reply to a poll, and what is kept of each session to be given again. A denial may wait behind
    one such reply."""
    poll_kept_bytes: int = 64 * 1024 * 1024
    """What is kept of all polled sessions; beyond it those whose last reply is the oldest end."""
    frame_rows: int = 512
    """Most rows of one delta frame."""
    fanout_cache_bytes: int = 16 * 1024 * 1024
    """Encoded frames kept in memory for other followers of the channel; what falls out goes to the file."""
    fanout_file_bytes: int = 256 * 1024 * 1024
    """Encoded frames kept in a file without a name, so that a snapshot larger than memory is made once."""
    heads_poll_us: int = 2 * SECOND_US
    """How often heads are read from the log, for hints that were lost."""
    personal_channels: int = 64
    """Most personal channels open on one device."""
    repair_subranges: int = 8
    """When more sub-ranges of a channel than this differ, a replacing snapshot repairs them together."""
    device_repairs_per_hour: int = 64
    """Most repairs that one device may ask for in an hour."""
    repair_look_us: int = 2 * SECOND_US
    """A channel's sub-ranges are summed up at most once in so long; who asks in between comes again."""
    repair_looks: int = 1_024
    """Channels whose sums are kept; the least recently asked for goes."""
    fetches_waiting: int = 8
    """Most requests for rows on demand of one session that wait for their answer; more are refused as
    overloaded."""
    fetched_per_minute: int = 6_000
    """Most rows on demand that one device may ask for in a minute, all its sessions together."""
    use_half_life_us: int = 6 * HOUR_US
    """How fast it is forgotten that a row was asked for; see `use_rows`."""
    use_rows: int = 100_000
    """Rows about nobody of which it is counted how much they are asked for."""
    follows: int = 256
    """Most channels followed on one device."""

    @property
    def issuer(self) -> str:
        """The name under which this server speaks."""
        return self.public_url.rstrip("/") or f"http://{self.host}:{self.port}"

    @property
    def database(self) -> Path:
        """The main store."""
        return self.data_dir / "server.db"

    @property
    def key_database(self) -> Path:
        """Payload keys of personal rows. Never in the same backup as the main store."""
        return self.data_dir / "keys.db" if self.keys is None else self.keys

    @property
    def key_file(self) -> Path:
        """Signing key and tenant keys."""
        return self.data_dir / "server.key"

    @property
    def collector_file(self) -> Path:
        """The key that aggregate reports are sealed to."""
        return self.data_dir / "collector.key"

    @property
    def token_file(self) -> Path:
        """The API's bearer token."""
        return self.data_dir / "api.token"

    @property
    def address_file(self) -> Path:
        """Where a running server says its url and pid."""
        return self.data_dir / "server.json"

    def lease_bound_us(self, granted_at_us: int, duration_us: int) -> int:
        """When the server may take for granted that a lease has run out on the device."""
        drift_us = -(-duration_us * self.lease_drift_ppm // 1_000_000)
        return granted_at_us + duration_us + drift_us + self.lease_margin_us
