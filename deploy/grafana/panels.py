"""What the dashboard shows: a panel is its title, its unit, its description and its queries."""

from __future__ import annotations

from dataclasses import dataclass

CHOSEN = 'namespace=~"$namespace",job=~"$job",instance=~"$instance"'
GROUP = 'namespace=~"$namespace",job=~"$job"'  # recorded series are of whole groups


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        title: what is shown, without its unit.
        unit: as Grafana calls it; `none` for plain numbers.
        description: what a person should know to read it.
        queries: legend -> PromQL.
        kind: Grafana's type of panel.
        width: of 24.
        most: where the axis ends, or None.
    """

    title: str
    unit: str
    description: str
    queries: dict[str, str]
    kind: str = "timeseries"
    width: int = 8
    most: float | None = None


def metric(name: str, more: str = "") -> str:
    """A metric of the chosen workers."""
    return f"cellstream_{name}{{{CHOSEN}{',' if more else ''}{more}}}"


def rate(name: str, by: str) -> str:
    """How fast a counter moves, summed over all labels but `by`."""
    return f"sum by ({by}) (rate({metric(name)}[$__rate_interval]))"


def quantiles(name: str) -> dict[str, str]:
    """Median, 95th and 99th percentile of a histogram over the chosen workers."""
    buckets = f"sum by (le) (rate({metric(name + '_bucket')}[$__rate_interval]))"
    return {f"p{share * 100:g}": f"histogram_quantile({share}, {buckets})" for share in (0.5, 0.95, 0.99)}


def average(name: str) -> str:
    """The mean of a histogram's observations."""
    return f"{rate(name + '_sum', 'instance')} / {rate(name + '_count', 'instance')}"


def by_partition(name: str) -> dict[str, str]:
    """A gauge of each partition; only its owner shows it."""
    return {"{{partition}}": f"max by (partition) ({metric(name)})"}


def late(window: str) -> str:
    """The recorded share of events that were not in time."""
    return f"job:cellstream_late_events:ratio_rate{window}{{{GROUP}}}"


ROWS = {
    "At a glance": [
        Panel("Workers", "none", "Workers that Prometheus can scrape.", {"": f"sum(up{{{CHOSEN}}})"}, "stat", 3),
        Panel(
            "Ready",
            "none",
            "Workers whose partitions are all restored; as many as there are workers, else ask /ready.",
            {"": f"sum({metric('ready')})"},
            "stat",
            3,
        ),
        Panel(
            "Samples",
            "cps",
            "Samples answered and committed per second.",
            {"": f"sum(rate({metric('samples_total')}[$__rate_interval]))"},
            "stat",
            4,
        ),
        Panel(
            "Waiting",
            "short",
            "Records in the input topic that are not answered yet, over all partitions.",
            {"": f"sum({metric('consumer_lag_records')})"},
            "stat",
            4,
        ),
        Panel(
            "In time",
            "percentunit",
            "Share of the last hour's events that were committed within 1 s of their record; the objective is 99 %.",
            {"": f"1 - max({late('1h')})"},
            "stat",
            4,
        ),
        Panel(
            "Firing alerts",
            "none",
            "What docs/runbook.md has a section for.",
            {
                "{{alertname}} {{severity}}": "sum by (alertname, severity) "
                f'(ALERTS{{alertname=~"Cellstream.*",alertstate="firing",{GROUP}}})'
            },
            "stat",
            6,
        ),
    ],
    "Work": [
        Panel(
            "Records",
            "cps",
            "Input records handled and committed.",
            {"{{instance}}": rate("records_total", "instance")},
        ),
        Panel(
            "Waiting by partition",
            "short",
            "End of the log minus the next record.",
            by_partition("consumer_lag_records"),
        ),
        Panel(
            "Refused records",
            "cps",
            "Records in the dead-letter topic, by reason. 0 unless producers err.",
            {"{{reason}}": rate("dead_letters_total", "reason") + " > 0"},
        ),
        Panel(
            "Events", "cps", "Probability events committed.", {"{{instance}}": rate("probabilities_total", "instance")}
        ),
        Panel(
            "Sequences ended",
            "cps",
            "By reason. `evicted` must stay at 0: these were forgotten for want of room.",
            {"{{reason}}": rate("resets_total", "reason") + " > 0"},
        ),
        Panel("Live streams", "short", "Streams whose state is in memory.", by_partition("live_streams")),
    ],
    "Latency": [
        Panel(
            "Record to event",
            "s",
            "Commit time minus the record's timestamp. High while little waits: look at the producers.",
            quantiles("end_to_end_latency_seconds"),
        ),
        Panel(
            "Distribution",
            "s",
            "The same, as events per second in each bucket.",
            {"{{le}}": rate("end_to_end_latency_seconds_bucket", "le")},
            "heatmap",
        ),
        Panel(
            "Events that came late",
            "percentunit",
            "Later than 1 s. 1 % is allowed; alerts compare a short and a long window.",
            {window: late(window) for window in ("5m", "30m", "1h", "6h")},
        ),
    ],
    "Model": [
        Panel("Step", "s", "One model call over one block.", quantiles("step_seconds")),
        Panel(
            "Fill",
            "percentunit",
            "Share of the block cells that hold a sample, on average. Low is normal under light load.",
            {"{{instance}}": average("batch_fill_ratio")},
            most=1,
        ),
        Panel(
            "Room for streams",
            "percentunit",
            "Live streams of the fullest partition, as a share of max_streams_per_partition.",
            {
                "{{instance}}": f"max by (instance) ({metric('live_streams')}) "
                f"/ max by (instance) ({metric('live_streams_limit')})"
            },
            most=1,
        ),
        Panel("State", "bytes", "Recurrent state of all live streams.", {"{{instance}}": metric("state_bytes")}),
        Panel(
            "Artifacts",
            "none",
            "Workers by the model that they run. Two models: a roll-out is under way, or was forgotten.",
            {"{{digest}}": f"count by (digest) ({metric('model_info')})"},
        ),
    ],
    "Delivery": [
        Panel("Commit", "s", "Flush and commit of one transaction.", quantiles("commit_seconds")),
        Panel(
            "Given up",
            "cps",
            "Transactions aborted and commits that failed. A few at a rebalance or a broker's restart are normal.",
            {
                "aborted": f"sum(rate({metric('transaction_aborts_total')}[$__rate_interval]))",
                "failed": f"sum(rate({metric('commit_failures_total')}[$__rate_interval]))",
            },
        ),
        Panel(
            "Rebalances",
            "cps",
            "By kind. `lost`: a worker was away longer than the session time-out.",
            {"{{kind}}": rate("rebalances_total", "kind")},
        ),
        Panel(
            "Replayed",
            "cps",
            "Records stepped again after a restore and not published.",
            {"{{instance}}": rate("replayed_records_total", "instance")},
        ),
        Panel(
            "Restore",
            "s",
            "Loading one partition's checkpoint, on average.",
            {"{{instance}}": average("restore_seconds")},
        ),
    ],
    "Checkpoints": [
        Panel(
            "Age",
            "s",
            "Since the last checkpoint. It grows without harm where nothing arrives: see what is not saved.",
            by_partition("checkpoint_age_seconds"),
        ),
        Panel(
            "Not saved",
            "short",
            "Records since the last checkpoint: what a crash would replay.",
            by_partition("unsaved_records"),
        ),
        Panel(
            "Left of the retention",
            "s",
            "Until the input topic deletes records that a restore needs, as long as some are not saved.",
            by_partition("input_retention_margin_seconds"),
        ),
        Panel("Writing", "s", "Building and publishing one checkpoint.", quantiles("checkpoint_seconds")),
        Panel("Size", "bytes", "Of the last checkpoint.", by_partition("checkpoint_bytes")),
        Panel(
            "Failures",
            "cps",
            "Checkpoints that could not be written; the log names the cause.",
            {"{{instance}}": rate("checkpoint_failures_total", "instance")},
        ),
        Panel(
            "Store",
            "none",
            "1 where the checkpoint store was last read or written, 0 where that failed; records do not wait for it.",
            {"{{instance}}": metric("checkpoint_store_up")},
            most=1,
        ),
    ],
    "Process": [
        Panel(
            "CPU",
            "none",
            "Cores in use.",
            {"{{instance}}": f"rate(process_cpu_seconds_total{{{CHOSEN}}}[$__rate_interval])"},
        ),
        Panel(
            "Memory",
            "bytes",
            "Resident; compare with the limit of the container.",
            {"{{instance}}": f"process_resident_memory_bytes{{{CHOSEN}}}"},
        ),
        Panel(
            "Versions",
            "none",
            "Workers by the version of cellstream.",
            {"{{version}}": f"count by (version) ({metric('build_info')})"},
        ),
    ],
}
