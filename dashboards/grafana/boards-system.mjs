// Kubernetes' own parts, all logs, all alerts, and Binnacle itself.

const RATE = '[$__rate_interval]';
const quantile = (metric, by, more = '') => `histogram_quantile(0.99, sum by (le${by ? `, ${by}` : ''}) (rate(${metric}_bucket${more}${RATE})))`;

export const components = {
  uid: 'binnacle-components', title: 'Kubernetes components', tags: ['kubernetes'], description: 'API server, kubelet, etcd, DNS, scheduler and controllers, scraped with the job names that kubernetes-mixin uses.',
  rows: [
    [
      { title: 'API server: requests', unit: 'reqps', stack: true, targets: [[`sum by (code) (rate(apiserver_request_total{job="apiserver"}${RATE}))`, '{{code}}']] },
      { title: 'API server: 99th percentile', unit: 's', targets: [[quantile('apiserver_request_duration_seconds', 'verb', '{job="apiserver", verb!~"WATCH|CONNECT"}'), '{{verb}}']] },
    ],
    [
      { title: 'etcd: commit, 99th percentile', unit: 's', targets: [[quantile('etcd_disk_backend_commit_duration_seconds', 'instance'), '{{instance}}']] },
      { title: 'etcd: size', unit: 'bytes', targets: [['etcd_mvcc_db_total_size_in_bytes', '{{instance}}']] },
    ],
    [
      { title: 'Kubelet: pods', targets: [['kubelet_running_pods{job="kubelet"}', '{{instance}}']] },
      { title: 'Kubelet: errors of the runtime', unit: 'ops', targets: [[`sum by (instance, operation_type) (rate(kubelet_runtime_operations_errors_total{job="kubelet"}${RATE}))`, '{{instance}} {{operation_type}}']] },
    ],
    [
      { title: 'Scheduler: pods that wait', targets: [['sum by (queue) (scheduler_pending_pods{job="kube-scheduler"})', '{{queue}}']] },
      { title: 'Controllers: depth of queues', targets: [['sum by (name) (workqueue_depth{job="kube-controller-manager"})', '{{name}}']] },
    ],
    [
      { title: 'DNS: requests', unit: 'reqps', targets: [[`sum by (type) (rate(coredns_dns_requests_total${RATE}))`, '{{type}}']] },
      { title: 'DNS: 99th percentile', unit: 's', targets: [[quantile('coredns_dns_request_duration_seconds', ''), 'all']] },
    ],
  ],
};

const ALL = '{filename=~".+"}';
export const logs = {
  uid: 'binnacle-logs', title: 'Logs', tags: ['logs'], description: 'How much is logged, where, and what went wrong.', usesLogs: true,
  rows: [
    [{ title: 'Lines by level', lines: true, bars: true, stack: true, targets: [[`sum by (level) (count_over_time(${ALL} [$__auto]))`, '{{level}}']] }],
    [
      { title: 'Where most is logged', lines: true, targets: [[`topk(10, sum by (filename) (rate(${ALL} [$__auto])))`, '{{filename}}']], unit: 'cps' },
      { title: 'Where most errors are', lines: true, targets: [['topk(10, sum by (filename) (rate({level=~"error|critical|fatal"} [$__auto])))', '{{filename}}']], unit: 'cps' },
    ],
    [{ title: 'Bytes by node', lines: true, unit: 'Bps', targets: [[`sum by (node) (bytes_rate(${ALL} [$__auto]))`, '{{node}}']] }],
    [{ type: 'logs', title: 'Errors', targets: [['{level=~"error|critical|fatal"}']] }],
  ],
};

export const alerts = {
  uid: 'binnacle-alerts', title: 'Alerts', tags: ['alerts'], description: 'What fires, since when, and how often it did.',
  rows: [
    [
      { type: 'stat', title: 'Firing', thresholds: [[1, 'red']], targets: [['count(ALERTS{alertstate="firing"}) or vector(0)']] },
      { type: 'stat', title: 'Critical', thresholds: [[1, 'red']], targets: [['count(ALERTS{alertstate="firing", severity="critical"}) or vector(0)']] },
      { type: 'stat', title: 'Pending', thresholds: [[1, 'yellow']], targets: [['count(ALERTS{alertstate="pending"}) or vector(0)']] },
    ],
    [{ title: 'Firing, by name', stack: true, bars: true, targets: [['count by (alertname) (ALERTS{alertstate="firing"})', '{{alertname}}']] }],
    [
      { type: 'table', title: 'Firing since', unit: 'dateTimeFromNow', targets: [['1000 * ALERTS_FOR_STATE and ignoring (alertstate) ALERTS{alertstate="firing"}']] },
      { title: 'Most often in a day', targets: [['topk(10, count by (alertname) (count_over_time(ALERTS{alertstate="firing"}[1d])))', '{{alertname}}']] },
    ],
  ],
};

const JOB = 'job=~"$job"';
export const binnacle = {
  uid: 'binnacle-itself', title: 'Binnacle itself', tags: ['self'], description: 'What goes in, what is stored, what is behind: the metrics that Binnacle serves at /metrics.',
  queries: [['job', 'Job', 'label_values(binnacle_tsdb_head_series, job)', { multi: true }]],
  rows: [
    [
      { type: 'stat', title: 'Series', targets: [[`sum(binnacle_tsdb_head_series{${JOB}})`]] },
      { type: 'stat', title: 'Samples a second', unit: 'cps', targets: [[`sum(rate(binnacle_tsdb_samples_applied_total{${JOB}}${RATE}))`]] },
      { type: 'stat', title: 'Lines a second', unit: 'cps', targets: [[`sum(rate(binnacle_indexer_lines_taken_total{${JOB}}${RATE}))`]] },
      { type: 'stat', title: 'Bytes not yet read', unit: 'bytes', thresholds: [[1e6, 'yellow'], [1e9, 'red']], targets: [[`sum(binnacle_agent_unread_bytes{${JOB}})`]] },
    ],
    [
      { title: 'Agent: lines', unit: 'cps', targets: [[`sum by (instance, stage) (rate(binnacle_agent_lines_total{${JOB}}${RATE}))`, '{{instance}} {{stage}}']] },
      { title: 'Agent: bytes not yet read', unit: 'bytes', targets: [[`binnacle_agent_unread_bytes{${JOB}}`, '{{instance}}']] },
    ],
    [
      { title: 'Metrics: parts', unit: 'bytes', targets: [[`binnacle_tsdb_part_bytes{${JOB}}`, '{{instance}} on disk'], [`binnacle_tsdb_head_bytes{${JOB}}`, '{{instance}} in memory']] },
      { title: 'Metrics: queries', unit: 'reqps', targets: [[`sum by (instance) (rate(binnacle_tsdb_queries_total{${JOB}}${RATE}))`, '{{instance}}']] },
    ],
    [
      { title: 'Logs: segments', unit: 'bytes', targets: [[`binnacle_indexer_segment_bytes{${JOB}}`, '{{instance}} on disk'], [`binnacle_indexer_head_bytes{${JOB}}`, '{{instance}} in memory']] },
      { title: 'Rules', unit: 'cps', targets: [[`sum by (instance) (rate(binnacle_rules_evaluations_total{${JOB}}${RATE}))`, '{{instance}} evaluated'], [`sum by (instance) (rate(binnacle_rules_evaluation_failures_total{${JOB}}${RATE}))`, '{{instance}} failed'], [`sum by (instance) (rate(binnacle_rules_slots_missed_total{${JOB}}${RATE}))`, '{{instance}} missed']] },
    ],
    [
      {
        title: 'What should stay at nothing', description: 'Any of these above zero is worth a look.',
        targets: [
          [`sum by (instance) (increase(binnacle_tsdb_publish_failures_total{${JOB}}[1h]))`, '{{instance}} metrics not published'], [`sum by (instance) (increase(binnacle_indexer_publish_failures_total{${JOB}}[1h]))`, '{{instance}} logs not published'],
          [`sum by (instance) (increase(binnacle_tsdb_merge_failures_total{${JOB}}[1h]))`, '{{instance}} merges'], [`sum by (instance) (increase(binnacle_rules_alerts_dropped_total{${JOB}}[1h]))`, '{{instance}} alerts dropped'],
          [`sum by (instance) (binnacle_tsdb_unreadable_parts{${JOB}})`, '{{instance}} unreadable parts'],
        ],
      },
    ],
  ],
};
