// From the cluster down to one pod. Containers are cAdvisor's, in Binnacle's agent or the kubelet; what Kubernetes wants
// of them is kube-state-metrics'.

const RATE = '[$__rate_interval]';
const REAL = 'fstype!~"tmpfs|overlay|squashfs|ramfs"';
const NIC = 'device!~"lo|veth.*|docker.*|cali.*|cni.*"';

const cpuOf = (selector, by) => `sum by (${by}) (rate(container_cpu_usage_seconds_total{${selector}}${RATE}))`;
const memoryOf = (selector, by) => `sum by (${by}) (container_memory_working_set_bytes{${selector}})`;
const requested = (selector, resource, kind, by) => `sum by (${by}) (kube_pod_container_resource_${kind}{${selector}, resource="${resource}"})`;
const network = (selector, way, by) => `sum by (${by}) (rate(container_network_${way}_bytes_total{${selector}}${RATE}))`;

const toNode = [['The node', 'binnacle-node', 'var-instance=${__field.labels.instance}&${__url_time_range}']];
const toNamespace = [['The namespace', 'binnacle-namespace', 'var-namespace=${__field.labels.namespace}&${__url_time_range}']];
const toPod = [['The pod', 'binnacle-pod', 'var-namespace=$namespace&var-pod=${__field.labels.pod}&${__url_time_range}']];

export const cluster = {
  uid: 'binnacle-cluster', title: 'Cluster', tags: ['kubernetes'], description: 'All nodes and namespaces: what is used, what is asked for, what is left.',
  rows: [
    [
      { type: 'stat', title: 'Nodes', targets: [['count(node_uname_info)']] },
      { type: 'stat', title: 'CPU used', unit: 'percentunit', max: 1, thresholds: [[0.8, 'yellow'], [0.9, 'red']], targets: [['1 - avg(rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))']] },
      { type: 'stat', title: 'Memory used', unit: 'percentunit', max: 1, thresholds: [[0.8, 'yellow'], [0.9, 'red']], targets: [['1 - sum(node_memory_MemAvailable_bytes) / sum(node_memory_MemTotal_bytes)']] },
      { type: 'stat', title: 'Fullest disk', unit: 'percentunit', max: 1, thresholds: [[0.8, 'yellow'], [0.9, 'red']], targets: [[`max(1 - node_filesystem_avail_bytes{${REAL}} / node_filesystem_size_bytes{${REAL}})`]] },
      { type: 'stat', title: 'Pods', targets: [['count(count by (namespace, pod) (container_memory_working_set_bytes{pod!=""}))']] },
      { type: 'stat', title: 'Alerts firing', thresholds: [[1, 'red']], targets: [['count(ALERTS{alertstate="firing"}) or vector(0)']] },
    ],
    'Nodes',
    [
      { title: 'CPU of nodes', unit: 'percentunit', max: 1, links: toNode, targets: [['1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))', '{{instance}}']] },
      { title: 'Memory of nodes', unit: 'percentunit', max: 1, links: toNode, targets: [['1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes', '{{instance}}']] },
    ],
    [
      { title: 'Load for each core', links: toNode, targets: [['node_load1 / on (instance) group_left () count by (instance) (node_cpu_seconds_total{mode="idle"})', '{{instance}}']] },
      { title: 'Network of nodes', unit: 'Bps', links: toNode, targets: [[`sum by (instance) (rate(node_network_receive_bytes_total{${NIC}}${RATE}))`, '{{instance}} received'], [`sum by (instance) (rate(node_network_transmit_bytes_total{${NIC}}${RATE}))`, '{{instance}} sent']] },
    ],
    'Namespaces',
    [
      { title: 'CPU of namespaces', stack: true, links: toNamespace, targets: [[cpuOf('pod!=""', 'namespace'), '{{namespace}}']] },
      { title: 'Memory of namespaces', unit: 'bytes', stack: true, links: toNamespace, targets: [[memoryOf('pod!=""', 'namespace'), '{{namespace}}']] },
    ],
    [
      { title: 'CPU asked for, of what nodes have', unit: 'percentunit', targets: [['sum(kube_pod_container_resource_requests{resource="cpu"}) / sum(kube_node_status_allocatable{resource="cpu"})', 'requests'], ['sum(kube_pod_container_resource_limits{resource="cpu"}) / sum(kube_node_status_allocatable{resource="cpu"})', 'limits']] },
      { title: 'Memory asked for, of what nodes have', unit: 'percentunit', targets: [['sum(kube_pod_container_resource_requests{resource="memory"}) / sum(kube_node_status_allocatable{resource="memory"})', 'requests'], ['sum(kube_pod_container_resource_limits{resource="memory"}) / sum(kube_node_status_allocatable{resource="memory"})', 'limits']] },
    ],
  ],
};

const I = 'instance="$instance"';
export const node = {
  uid: 'binnacle-node', title: 'Node', tags: ['node'], description: "One node: CPU, memory, disks, network and its containers, from Binnacle's agent or from node_exporter and cAdvisor.",
  queries: [['instance', 'Node', 'label_values(node_uname_info, instance)']],
  rows: [
    [
      { title: 'CPU', unit: 'percentunit', max: 1, stack: true, description: 'Share of all cores, by mode; idle is the rest.', targets: [[`sum by (mode) (rate(node_cpu_seconds_total{${I},mode!="idle"}${RATE})) / on () group_left () count(node_cpu_seconds_total{${I},mode="idle"})`, '{{mode}}']] },
      { title: 'Load', targets: [[`node_load1{${I}}`, '1 min'], [`node_load5{${I}}`, '5 min'], [`node_load15{${I}}`, '15 min'], [`count(node_cpu_seconds_total{${I},mode="idle"})`, 'cores']] },
    ],
    [
      { title: 'Memory', unit: 'bytes', targets: [[`node_memory_MemTotal_bytes{${I}} - node_memory_MemAvailable_bytes{${I}}`, 'used'], [`node_memory_Buffers_bytes{${I}} + node_memory_Cached_bytes{${I}} + node_memory_SReclaimable_bytes{${I}}`, 'cache'], [`node_memory_MemTotal_bytes{${I}}`, 'all']] },
      { title: 'Disk space used', unit: 'percentunit', max: 1, targets: [[`1 - node_filesystem_avail_bytes{${I},${REAL}} / node_filesystem_size_bytes{${I},${REAL}}`, '{{mountpoint}}']] },
    ],
    [
      { title: 'Disk throughput', unit: 'Bps', targets: [[`sum by (device) (rate(node_disk_read_bytes_total{${I}}${RATE}))`, '{{device}} read'], [`sum by (device) (rate(node_disk_written_bytes_total{${I}}${RATE}))`, '{{device}} written']] },
      { title: 'Disk busy', unit: 'percentunit', max: 1, targets: [[`rate(node_disk_io_time_seconds_total{${I}}${RATE})`, '{{device}}']] },
    ],
    [
      { title: 'Network', unit: 'Bps', targets: [[`sum by (device) (rate(node_network_receive_bytes_total{${I},${NIC}}${RATE}))`, '{{device}} received'], [`sum by (device) (rate(node_network_transmit_bytes_total{${I},${NIC}}${RATE}))`, '{{device}} sent']] },
      { title: 'Network errors and drops', unit: 'pps', targets: [[`sum by (device) (rate(node_network_receive_errs_total{${I}}${RATE}) + rate(node_network_transmit_errs_total{${I}}${RATE}))`, '{{device}} errors'], [`sum by (device) (rate(node_network_receive_drop_total{${I}}${RATE}) + rate(node_network_transmit_drop_total{${I}}${RATE}))`, '{{device}} drops']] },
    ],
    [
      { title: 'Container CPU', description: 'In cores.', targets: [[`topk(10, sum by (namespace, pod, id) (rate(container_cpu_usage_seconds_total{${I},id!="/"}${RATE})))`, '{{namespace}} {{pod}} {{id}}']] },
      { title: 'Container memory', unit: 'bytes', targets: [[`topk(10, container_memory_working_set_bytes{${I},id!="/"})`, '{{namespace}} {{pod}} {{id}}']] },
    ],
  ],
};

const N = 'namespace="$namespace"';
const NAMESPACE = ['namespace', 'Namespace', 'label_values(container_memory_working_set_bytes{pod!=""}, namespace)'];
export const namespace = {
  uid: 'binnacle-namespace', title: 'Namespace', tags: ['kubernetes'], description: 'The pods of a namespace, beside what they asked for.', usesLogs: true, queries: [NAMESPACE],
  rows: [
    [
      { title: 'CPU of pods', stack: true, links: toPod, targets: [[cpuOf(`${N}, pod!=""`, 'pod'), '{{pod}}']] },
      { title: 'Memory of pods', unit: 'bytes', stack: true, links: toPod, targets: [[memoryOf(`${N}, pod!=""`, 'pod'), '{{pod}}']] },
    ],
    [
      { title: 'CPU used of what was asked for', unit: 'percentunit', targets: [[`${cpuOf(`${N}, container!=""`, 'pod')} / ${requested(N, 'cpu', 'requests', 'pod')}`, '{{pod}}']] },
      { title: 'Memory used of the limit', unit: 'percentunit', targets: [[`${memoryOf(`${N}, container!=""`, 'pod')} / ${requested(N, 'memory', 'limits', 'pod')}`, '{{pod}}']] },
    ],
    [
      { title: 'Received', unit: 'Bps', stack: true, targets: [[network(N, 'receive', 'pod'), '{{pod}}']] },
      { title: 'Sent', unit: 'Bps', stack: true, targets: [[network(N, 'transmit', 'pod'), '{{pod}}']] },
    ],
    [
      { title: 'Restarts in an hour', targets: [[`sum by (pod, container) (increase(kube_pod_container_status_restarts_total{${N}}[1h])) > 0 or sum by (pod, container) (kube_pod_container_status_restarts_total{${N}}) * 0`, '{{pod}} {{container}}']] },
      { title: 'Lines by level', lines: true, bars: true, stack: true, targets: [['sum by (level) (count_over_time({namespace="$namespace"} [$__auto]))', '{{level}}']] },
    ],
  ],
};

export const workload = {
  uid: 'binnacle-workload', title: 'Workload', tags: ['kubernetes'], description: 'What belongs together by its pods’ names: a deployment, stateful set, daemon set or job.', usesLogs: true,
  queries: [NAMESPACE, ['workload', 'Workload', 'label_values(container_memory_working_set_bytes{namespace="$namespace", pod!=""}, pod)', { regex: '/(.+?)(?:-[0-9a-f]{6,10})?-(?:[a-z0-9]{5}|[0-9]+)$/' }]],
  rows: [
    [
      { type: 'stat', title: 'Pods', targets: [[`count(count by (pod) (container_memory_working_set_bytes{${N}, pod=~"$workload-.+"}))`]] },
      { type: 'stat', title: 'CPU', targets: [[`sum(rate(container_cpu_usage_seconds_total{${N}, pod=~"$workload-.+"}${RATE}))`]] },
      { type: 'stat', title: 'Memory', unit: 'bytes', targets: [[`sum(container_memory_working_set_bytes{${N}, pod=~"$workload-.+"})`]] },
      { type: 'stat', title: 'Ready', unit: 'percentunit', max: 1, targets: [[`avg(kube_pod_status_ready{${N}, pod=~"$workload-.+", condition="true"})`]] },
    ],
    [
      { title: 'CPU of pods', links: toPod, targets: [[cpuOf(`${N}, pod=~"$workload-.+"`, 'pod'), '{{pod}}'], [`sum(kube_pod_container_resource_requests{${N}, pod=~"$workload-.+", resource="cpu"})`, 'asked for by all']] },
      { title: 'Memory of pods', unit: 'bytes', links: toPod, targets: [[memoryOf(`${N}, pod=~"$workload-.+"`, 'pod'), '{{pod}}'], [`sum(kube_pod_container_resource_limits{${N}, pod=~"$workload-.+", resource="memory"})`, 'limit of all']] },
    ],
    [
      { title: 'Network', unit: 'Bps', targets: [[network(`${N}, pod=~"$workload-.+"`, 'receive', 'pod'), '{{pod}} received'], [network(`${N}, pod=~"$workload-.+"`, 'transmit', 'pod'), '{{pod}} sent']] },
      { title: 'Lines by level', lines: true, bars: true, stack: true, targets: [['sum by (level) (count_over_time({namespace="$namespace", pod=~"$workload-.+"} [$__auto]))', '{{level}}']] },
    ],
    [{ type: 'logs', title: 'Lines', targets: [['{namespace="$namespace", pod=~"$workload-.+"}']] }],
  ],
};

const P = `${N}, pod="$pod"`;
export const pod = {
  uid: 'binnacle-pod', title: 'Pod', tags: ['kubernetes'], description: 'The containers of a pod, with their lines.', usesLogs: true,
  queries: [NAMESPACE, ['pod', 'Pod', 'label_values(container_memory_working_set_bytes{namespace="$namespace", pod!=""}, pod)']],
  rows: [
    [
      { title: 'CPU', targets: [[cpuOf(`${P}, container!=""`, 'container'), '{{container}}'], [requested(P, 'cpu', 'requests', 'container'), '{{container}} asked for'], [requested(P, 'cpu', 'limits', 'container'), '{{container}} limit']] },
      { title: 'Memory', unit: 'bytes', targets: [[memoryOf(`${P}, container!=""`, 'container'), '{{container}}'], [requested(P, 'memory', 'requests', 'container'), '{{container}} asked for'], [requested(P, 'memory', 'limits', 'container'), '{{container}} limit']] },
    ],
    [
      { title: 'CPU held back', unit: 'percentunit', description: 'Periods in which the limit stopped it.', targets: [[`sum by (container) (rate(container_cpu_cfs_throttled_periods_total{${P}, container!=""}${RATE})) / sum by (container) (rate(container_cpu_cfs_periods_total{${P}, container!=""}${RATE}))`, '{{container}}']] },
      { title: 'Restarts', targets: [[`kube_pod_container_status_restarts_total{${P}}`, '{{container}}']] },
    ],
    [
      { title: 'Network', unit: 'Bps', targets: [[network(P, 'receive', 'pod'), 'received'], [network(P, 'transmit', 'pod'), 'sent']] },
      { title: 'Lines by level', lines: true, bars: true, stack: true, targets: [['sum by (level) (count_over_time({namespace="$namespace", pod="$pod"} [$__auto]))', '{{level}}']] },
    ],
    [{ type: 'logs', title: 'Lines', targets: [['{namespace="$namespace", pod="$pod"}']] }],
  ],
};
