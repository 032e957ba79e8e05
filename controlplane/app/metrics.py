"""Prometheus metrics of the control plane."""

from prometheus_client import Counter, Gauge, Histogram

_QUICK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 30)
_LONG = (0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

VNODES = Gauge("koupleless_vnodes", "VNodes that this replica knows, by state", ["state"])
GATEWAYS = Gauge("koupleless_gateways", "Gateways connected to this replica", ["tunnel"])
REPORTS = Counter("koupleless_reports_total", "Reports taken from gateways", ["kind"])
REFUSED_REPORTS = Counter("koupleless_refused_reports_total", "Reports that changed nothing", ["reason"])
GAPS = Counter("koupleless_report_gaps_total", "Times a gateway said that it lost reports of bases", ["tunnel"])
LATENESS = Gauge("koupleless_report_lateness_seconds", "How late the reports of a gateway come at most", ["gateway"])
ADMISSIONS = Counter("koupleless_admissions_total", "New bases that were examined", ["outcome"])
ORDERS = Counter("koupleless_orders_total", "Orders that ended", ["verb", "outcome"])
ORDER_SECONDS = Histogram("koupleless_order_seconds", "From sending an order to its end", ["verb"], buckets=_LONG)
ORDERS_IN_FLIGHT = Gauge("koupleless_orders_in_flight", "Orders under way")
BOUND_TO_ORDER = Histogram(
    "koupleless_pod_bound_to_order_seconds", "From seeing a Pod bound to sending its order", buckets=_QUICK
)
RESULT_TO_STATUS = Histogram(
    "koupleless_result_to_status_seconds", "From taking a result to the Pod status being written", buckets=_QUICK
)
WRITES = Counter("koupleless_cluster_writes_total", "Writes asked of the cluster", ["what"])
ACTOR_LOOKS = Counter("koupleless_actor_looks_total", "Times that the actor of a base looked at it")
ACTOR_RESTARTS = Counter("koupleless_actor_restarts_total", "Restarts of a base's actor because of a fault in it")
LEASE_RENEWAL_DELAY = Histogram(
    "koupleless_lease_renewal_delay_seconds", "How late lease renewals were", buckets=_QUICK
)
MEMBER_RENEWAL_DELAY = Histogram(
    "koupleless_member_renewal_delay_seconds", "How late renewals of the member lease were", buckets=_QUICK
)
REPLICAS = Gauge("koupleless_replicas", "Control plane replicas that live")
SELF_FENCED = Counter("koupleless_self_fenced_total", "Times that this replica stopped acting because it was cut off")
OWNED = Gauge("koupleless_owned_vnodes", "VNodes that this replica owns")
TAKEOVERS = Counter("koupleless_takeovers_total", "VNodes taken from another replica", ["why"])
HANDOVERS = Counter("koupleless_handovers_total", "VNodes given to another replica", ["why"])
HANDOVERS_FAILED = Counter(
    "koupleless_handovers_failed_total", "VNodes that could not be given, and stay with this replica", ["why"]
)
STALE_FENCES = Counter(
    "koupleless_stale_fences_total", "Fences of ours that a gateway refused, having seen a higher one"
)
LEASES_LOST = Counter("koupleless_leases_lost_total", "VNode leases lost to another holder")
REPLICA_QUESTIONS = Counter(
    "koupleless_replica_questions_total", "Questions to other replicas about what they own, for tools", ["outcome"]
)
REMOVALS_FROZEN = Gauge(
    "koupleless_removals_frozen", "1 while nothing is removed because too many bases are silent at once"
)
COMMANDS_FAIL = Gauge("koupleless_bases_without_commands", "Bases whose last question for their modules failed")
PEER_DEPLOYMENTS = Gauge("koupleless_peer_deployments", "Deployments whose replicas this replica sets")
PEER_CHANGES = Counter(
    "koupleless_peer_replica_changes_total", "Changes of the replicas of Deployments that follow the bases", ["change"]
)
PEER_HELD = Gauge(
    "koupleless_peer_deployments_held", "Deployments not scaled down because what is known of the bases may be stale"
)
RELEASES = Gauge("koupleless_batched_deployments", "Deployments that this replica releases in batches")
RELEASE_STEPS = Counter("koupleless_release_steps_total", "What releases in batches came to, by reason", ["reason"])
DEPLOYMENTS_IGNORED = Gauge(
    "koupleless_deployments_ignored", "Module Deployments for which nothing is done, as an Event on each says"
)
FOREIGN_PODS = Counter(
    "koupleless_foreign_pods_total", "Pods on VNodes that are not modules, by what was done", ["what"]
)
REPAIRS = Counter(
    "koupleless_repairs_total", "Writes that put right what somebody else had changed, by what was written", ["what"]
)
UNINSTALL_TIMEOUTS = Counter(
    "koupleless_uninstall_timeouts_total", "Pods removed although a module of theirs did not leave its base in time"
)
PROBES = Counter("koupleless_probes_total", "Probes sent to modules, by result", ["result"])
EVENTS_DROPPED = Counter(
    "koupleless_events_dropped_total",
    "Kubernetes Events not written: too many waited, or they were refused",
)
HOOK_REPORTS = Counter("koupleless_hook_reports_total", "Reports for hooks that left the queue", ["kind", "outcome"])
HOOK_QUEUE = Gauge("koupleless_hook_queue", "Reports that wait for hooks", ["kind"])
HOOK_REPEATS = Counter("koupleless_hook_repeats_total", "Reports that were only counted, as the same was just sent")
KUBELET_SERVICE = Gauge(
    "koupleless_kubelet_service", "1 while one Service leads to the kubelet API, so that Nodes show its address"
)
TRACKED = Counter("koupleless_tracker_events_total", "Events for the tracker's file", ["outcome"])
