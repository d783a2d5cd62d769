//! Logs in the manner of sixteen systems, in so many instances each, seeded.
//!
//! Lines come from patterns of each system, filled with values of the kinds that it has: addresses, identifiers that come
//! again, counts, paths, times. zstd alone needs 0.18 bytes per byte of them, and there are 155 distinct pairs of line and
//! token in a kilobyte, as in the logs of real systems.

use std::fmt::Write as _;

/// Draws of a seeded generator (xorshift64*).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n.max(1)
    }
    /// Small numbers are frequent.
    fn skewed(&mut self, n: u64) -> u64 {
        let (a, b) = (self.below(n) + 1, self.below(n) + 1);
        (a * b / n.max(1)).min(n - 1)
    }
}

pub struct System {
    pub name: &'static str,
    pub lines: &'static [&'static str],
}

const WORDS: &[&str] = &[
    "orders",
    "users",
    "cart",
    "payments",
    "search",
    "inventory",
    "shipping",
    "catalog",
    "session",
    "profile",
    "invoice",
    "reviews",
    "coupons",
    "metrics",
    "reports",
    "gateway",
    "billing",
    "accounts",
    "events",
    "images",
    "static",
    "login",
    "logout",
    "health",
    "checkout",
    "products",
    "items",
    "addresses",
    "stock",
    "prices",
];
const NAMES: &[&str] = &[
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory", "niaj", "olivia",
    "peggy", "rupert", "sybil", "trent", "victor", "walter", "admin", "root", "oracle", "test", "guest", "postgres",
    "ubuntu",
];

/// Sixteen systems. Placeholders: `{t:…}` a time in some notation, `{u:N}` below N, `{s:N}` below N and mostly small,
/// `{x:N}` hexadecimal digits, `{ip}`, `{uuid}`, `{w}` a word, `{n}` a name, `{c:N}` a counter of the stream.
pub const SYSTEMS: &[System] = &[
    System {
        name: "nginx",
        lines: &[
            "{ip} - - [{t:clf}] \"GET /{w}/{w}/{u:90000} HTTP/1.1\" 200 {u:300000} \"http://shop.example.com/{w}/\" \"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/32.0.1700.77 Safari/537.36\"",
            "{ip} - - [{t:clf}] \"GET /{w}/{w}.js HTTP/1.1\" 304 0 \"http://shop.example.com/\" \"Mozilla/5.0 (X11; Linux x86_64; rv:24.0) Gecko/20140205 Firefox/24.0 Iceweasel/24.3.0\"",
            "{ip} - {n} [{t:clf}] \"POST /api/v{u:3}/{w} HTTP/2.0\" {p:200,200,200,201,204,400,401,404,500,502} {u:9000} \"-\" \"okhttp/4.{u:12}.{u:9}\"",
            "{ip} - - [{t:clf}] \"GET /{w}?id={u:9000000}&ref={x:12} HTTP/1.1\" 200 {u:70000} \"-\" \"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)\"",
        ],
    },
    System {
        name: "api",
        lines: &[
            "{\"time\":\"{t:rfc}\",\"level\":\"info\",\"msg\":\"request completed\",\"method\":\"GET\",\"path\":\"/{w}/{u:90000}\",\"status\":200,\"duration_ms\":{s:900}.{u:1000},\"trace_id\":\"{x:32}\",\"user\":\"{n}\"}",
            "{\"time\":\"{t:rfc}\",\"level\":\"info\",\"msg\":\"cache hit\",\"key\":\"{w}:{u:90000}\",\"ttl\":{u:3600},\"trace_id\":\"{x:32}\"}",
            "{\"time\":\"{t:rfc}\",\"level\":\"warn\",\"msg\":\"slow query\",\"table\":\"{w}\",\"rows\":{s:90000},\"duration_ms\":{u:9000},\"trace_id\":\"{x:32}\"}",
            "{\"time\":\"{t:rfc}\",\"level\":\"error\",\"msg\":\"upstream timeout\",\"upstream\":\"{w}-{u:12}\",\"attempt\":{u:5},\"error\":\"context deadline exceeded\",\"trace_id\":\"{x:32}\"}",
        ],
    },
    System {
        name: "kubelet",
        lines: &[
            "I{t:klog} {u:9000} kubelet.go:{u:2500}] \"SyncLoop (PLEG): event for pod\" pod=\"{w}/{w}-{x:10}-{x:5}\" event={\"ID\":\"{uuid}\",\"Type\":\"ContainerStarted\",\"Data\":\"{x:64}\"}",
            "I{t:klog} {u:9000} reconciler_common.go:{u:300}] \"operationExecutor.VerifyControllerAttachedVolume started for volume \\\"{w}\\\" (UniqueName: \\\"kubernetes.io/configmap/{uuid}-{w}\\\") pod \\\"{w}-{x:10}-{x:5}\\\" (UID: \\\"{uuid}\\\") \" pod=\"{w}/{w}-{x:10}-{x:5}\"",
            "E{t:klog} {u:9000} pod_workers.go:{u:1400}] \"Error syncing pod, skipping\" err=\"failed to \\\"StartContainer\\\" for \\\"{w}\\\" with CrashLoopBackOff: \\\"back-off {u:5}m0s restarting failed container={w} pod={w}-{x:10}-{x:5}_{w}({uuid})\\\"\" pod=\"{w}/{w}-{x:10}-{x:5}\" podUID=\"{uuid}\"",
            "W{t:klog} {u:9000} prober.go:{u:200}] \"Probe failed\" probeType=\"Readiness\" pod=\"{w}/{w}-{x:10}-{x:5}\" podUID=\"{uuid}\" containerName=\"{w}\" probeResult=\"failure\" output=\"HTTP probe failed with statuscode: 503\"",
        ],
    },
    System {
        name: "java",
        lines: &[
            "{t:log4} INFO  [http-nio-8080-exec-{u:40}] c.e.shop.{w}.OrderController - Handling request {uuid} for customer {u:900000}",
            "{t:log4} DEBUG [http-nio-8080-exec-{u:40}] o.h.SQL - select o.id, o.total, o.state from {w} o where o.customer_id={u:900000} order by o.created desc",
            "{t:log4} ERROR [pool-{u:6}-thread-{u:16}] c.e.shop.{w}.PaymentService - Payment {uuid} failed: java.net.SocketTimeoutException: Read timed out",
            "\tat com.example.shop.{w}.PaymentClient.charge(PaymentClient.java:{u:400})",
            "\tat org.springframework.web.client.RestTemplate.doExecute(RestTemplate.java:{u:900})",
            "\tat java.base/java.util.concurrent.ThreadPoolExecutor.runWorker(ThreadPoolExecutor.java:1136)",
            "{t:log4} WARN  [scheduler-{u:4}] c.z.h.p.HikariPool - HikariPool-1 - Thread starvation or clock leap detected (housekeeper delta={u:90}s{u:1000}ms)",
        ],
    },
    System {
        name: "hdfs",
        lines: &[
            "{t:hdfs} {u:4000} INFO dfs.DataNode$PacketResponder: PacketResponder {u:3} for block blk_{i:19} terminating",
            "{t:hdfs} {u:4000} INFO dfs.FSNamesystem: BLOCK* NameSystem.addStoredBlock: blockMap updated: {ip}:50010 is added to blk_{i:19} size {u:67108864}",
            "{t:hdfs} {u:4000} INFO dfs.DataNode$DataXceiver: Receiving block blk_{i:19} src: /{ip}:{u:65000} dest: /{ip}:50010",
            "{t:hdfs} {u:4000} INFO dfs.DataNode$PacketResponder: Received block blk_{i:19} of size {u:67108864} from /{ip}",
            "{t:hdfs} {u:4000} WARN dfs.DataNode$DataXceiver: {ip}:50010:Got exception while serving blk_{i:19} to /{ip}:",
        ],
    },
    System {
        name: "sshd",
        lines: &[
            "{t:syslog} host{u:30} sshd[{u:40000}]: Failed password for invalid user {n} from {ip} port {u:65000} ssh2",
            "{t:syslog} host{u:30} sshd[{u:40000}]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={ip}  user={n}",
            "{t:syslog} host{u:30} sshd[{u:40000}]: Accepted publickey for {n} from {ip} port {u:65000} ssh2: RSA SHA256:{b:43}",
            "{t:syslog} host{u:30} sshd[{u:40000}]: Connection closed by {ip} port {u:65000} [preauth]",
        ],
    },
    System {
        name: "postgres",
        lines: &[
            "{t:pg} UTC [{u:32000}] {n}@{w} LOG:  duration: {s:4000}.{u:1000} ms  statement: SELECT * FROM {w} WHERE id = {u:9000000} LIMIT {u:100}",
            "{t:pg} UTC [{u:32000}] {n}@{w} LOG:  connection authorized: user={n} database={w} SSL enabled (protocol=TLSv1.3, cipher=TLS_AES_256_GCM_SHA384, bits=256)",
            "{t:pg} UTC [{u:32000}] LOG:  checkpoint complete: wrote {u:9000} buffers ({u:30}.{u:10}%); 0 WAL file(s) added, 0 removed, {u:9} recycled; write={u:200}.{u:1000} s, sync=0.{u:1000} s",
            "{t:pg} UTC [{u:32000}] {n}@{w} ERROR:  duplicate key value violates unique constraint \"{w}_pkey\"",
            "{t:pg} UTC [{u:32000}] {n}@{w} DETAIL:  Key (id)=({u:9000000}) already exists.",
        ],
    },
    System {
        name: "etcd",
        lines: &[
            "{\"level\":\"warn\",\"ts\":\"{t:rfc}\",\"caller\":\"etcdserver/util.go:{u:300}\",\"msg\":\"apply request took too long\",\"took\":\"{u:900}.{u:1000000}ms\",\"expected-duration\":\"100ms\",\"prefix\":\"read-only range \",\"request\":\"key:\\\"/registry/{w}/{w}-{x:10}\\\" \",\"response\":\"range_response_count:1 size:{u:9000}\"}",
            "{\"level\":\"info\",\"ts\":\"{t:rfc}\",\"caller\":\"mvcc/kvstore_compaction.go:{u:90}\",\"msg\":\"finished scheduled compaction\",\"compact-revision\":{c:9},\"took\":\"{u:90}.{u:1000000}ms\",\"hash\":{u:4000000000}}",
        ],
    },
    System {
        name: "containerd",
        lines: &[
            "time=\"{t:rfc}\" level=info msg=\"CreateContainer within sandbox \\\"{x:64}\\\" for container &ContainerMetadata{Name:{w},Attempt:{u:9},}\"",
            "time=\"{t:rfc}\" level=info msg=\"StartContainer for \\\"{x:64}\\\" returns successfully\"",
            "time=\"{t:rfc}\" level=error msg=\"ContainerStatus for \\\"{x:64}\\\" failed\" error=\"rpc error: code = NotFound desc = an error occurred when try to find container \\\"{x:64}\\\": not found\"",
        ],
    },
    System {
        name: "zookeeper",
        lines: &[
            "{t:log4} - INFO  [NIOServerCxn.Factory:0.0.0.0/0.0.0.0:2181:NIOServerCnxnFactory@{u:300}] - Accepted socket connection from /{ip}:{u:65000}",
            "{t:log4} - WARN  [RecvWorker:{c:9}:QuorumCnxManager$RecvWorker@{u:900}] - Connection broken for id {c:9}, my id = {u:5}, error = ",
            "{t:log4} - INFO  [CommitProcessor:{u:5}:ZooKeeperServer@{u:700}] - Established session 0x{x:16} with negotiated timeout {u:40000} for client /{ip}:{u:65000}",
            "{t:log4} - INFO  [ProcessThread(sid:0 cport:-1)::PrepRequestProcessor@{u:700}] - Processed session termination for sessionid: 0x{x:16}",
        ],
    },
    System {
        name: "kernel",
        lines: &[
            "{t:syslog} host{u:30} kernel: [{c:7}.{u:1000000}] [UFW BLOCK] IN=eth0 OUT= MAC={m} SRC={ip} DST={ip} LEN={u:1500} TOS=0x00 PREC=0x00 TTL={u:64} ID={u:65000} PROTO=TCP SPT={u:65000} DPT={u:65000} WINDOW={u:65000} RES=0x00 SYN URGP=0",
            "{t:syslog} host{u:30} kernel: [{c:7}.{u:1000000}] eth0: renamed from veth{x:7}",
            "{t:syslog} host{u:30} kernel: [{c:7}.{u:1000000}] docker0: port {u:9}(veth{x:7}) entered blocking state",
            "{t:syslog} host{u:30} systemd[1]: Started Session {c:6} of user {n}.",
            "{t:syslog} host{u:30} CRON[{u:32000}]: ({n}) CMD (   cd / && run-parts --report /etc/cron.hourly)",
        ],
    },
    System {
        name: "spark",
        lines: &[
            "{t:spark} INFO executor.Executor: Running task {u:900}.0 in stage {c:4}.0 (TID {c:8})",
            "{t:spark} INFO executor.Executor: Finished task {u:900}.0 in stage {c:4}.0 (TID {c:8}). {u:9000} bytes result sent to driver",
            "{t:spark} INFO storage.ShuffleBlockFetcherIterator: Getting {u:90} non-empty blocks out of {u:90} blocks",
            "{t:spark} INFO storage.BlockManager: Found block rdd_{u:90}_{u:900} locally",
            "{t:spark} INFO storage.MemoryStore: Block broadcast_{c:5}_piece0 stored as bytes in memory (estimated size {u:90}.{u:10} KB, free {u:900}.{u:10} KB)",
        ],
    },
    System {
        name: "redis",
        lines: &[
            "{u:30000}:M {t:redis} * {u:9000} changes in 60 seconds. Saving...",
            "{u:30000}:M {t:redis} * Background saving started by pid {u:30000}",
            "{u:30000}:C {t:redis} * RDB: {u:90} MB of memory used by copy-on-write",
            "{u:30000}:M {t:redis} # Client id={c:8} addr={ip}:{u:65000} fd={u:900} name={w} age={u:90000} idle={u:900} flags=N db=0 scheduled to be closed ASAP for overcoming of output buffer limits.",
        ],
    },
    System {
        name: "gateway",
        lines: &[
            "level={p:info,info,info,info,warn,error} ts={t:rfc} caller=proxy.go:{u:400} route={w} upstream=http://{ip}:8080 status={p:200,200,200,204,404,500,503} bytes={s:90000} duration={s:900}.{u:1000}ms request_id={uuid}",
            "level=debug ts={t:rfc} caller=balancer.go:{u:200} msg=\"picked endpoint\" service={w} endpoint={ip}:8080 inflight={s:90} weight=0.{u:100}",
            "level=warn ts={t:rfc} caller=retry.go:{u:200} msg=\"retrying request\" service={w} attempt={u:4} err=\"connection refused\" request_id={uuid}",
        ],
    },
    System {
        name: "openstack",
        lines: &[
            "nova-api.log.1.2017-05-16_13:53:08 {t:pg} {u:32000} INFO nova.osapi_compute.wsgi.server [req-{uuid} {x:32} {x:32} - - -] {ip} \"GET /v2/{x:32}/servers/detail HTTP/1.1\" status: 200 len: {u:2000} time: 0.{u:10000000}",
            "nova-compute.log.1.2017-05-16_13:55:31 {t:pg} {u:32000} INFO nova.virt.libvirt.imagecache [req-{uuid} - - - - -] image {uuid} at (/var/lib/nova/instances/_base/{x:40}): checking",
            "nova-compute.log.1.2017-05-16_13:55:31 {t:pg} {u:32000} INFO nova.compute.manager [req-{uuid} - - - - -] [instance: {uuid}] VM Started (Lifecycle Event)",
        ],
    },
    System {
        name: "worker",
        lines: &[
            "[{t:rfc}: INFO/ForkPoolWorker-{u:16}] Task {w}.tasks.send_{w}[{uuid}] succeeded in {s:90}.{u:1000000000}s: None",
            "[{t:rfc}: INFO/MainProcess] Received task: {w}.tasks.send_{w}[{uuid}]",
            "[{t:rfc}: WARNING/ForkPoolWorker-{u:16}] Retry in {u:60}s: ConnectionError('Error {u:120} connecting to {ip}:6379. Connection refused.')",
            "  File \"/usr/lib/python3/dist-packages/{w}/tasks.py\", line {u:900}, in send_{w}",
        ],
    },
];

const KINDS: [&str; 13] = ["t", "u", "s", "x", "i", "b", "ip", "uuid", "w", "n", "c", "p", "m"];
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const IPS: usize = 200;
const RECENT: usize = 64;

pub struct Stream {
    pub system: usize,
    pub instance: usize,
    draw: Draw,
    counter: u64,
    ips: Vec<String>,
    /// Identifiers that were named before; what happens happens to something, more than once.
    recent: Vec<String>,
}

fn streams(per_system: usize) -> Vec<Stream> {
    let mut all = Vec::new();
    for instance in 0..per_system {
        for system in 0..SYSTEMS.len() {
            let mut draw = Draw(0x9E37_79B9_7F4A_7C15 ^ ((system * 1000 + instance) as u64 + 1));
            let mut ip = || {
                let [a, b, c, d] = (draw.next() as u32).to_be_bytes();
                format!("{}.{b}.{c}.{d}", 10 + a % 190)
            };
            let ips = (0..IPS).map(|_| ip()).collect();
            all.push(Stream { system, instance, draw, counter: 100_000, ips, recent: Vec::new() });
        }
    }
    all
}

fn time(out: &mut String, kind: &str, t_ns: i64) {
    let format = match kind {
        "clf" => "%d/%b/%Y:%H:%M:%S +0000",
        "rfc" => "%Y-%m-%dT%H:%M:%S.%3fZ",
        "klog" => "%m%d %H:%M:%S.%6f",
        "log4" => "%Y-%m-%d %H:%M:%S,%3f",
        "hdfs" => "%y%m%d %H%M%S",
        "syslog" => "%b %e %H:%M:%S",
        "pg" => "%Y-%m-%d %H:%M:%S.%3f",
        "spark" => "%y/%m/%d %H:%M:%S",
        _ => "%d %b %Y %H:%M:%S.%3f",
    };
    let _ = write!(out, "{}", chrono::DateTime::from_timestamp_nanos(t_ns).format(format));
}

impl Stream {
    /// Appends the stream's next line, of this time.
    pub fn line(&mut self, t_ns: i64, out: &mut String) {
        let lines = SYSTEMS[self.system].lines;
        let mut rest = lines[self.draw.skewed(lines.len() as u64) as usize];
        self.counter += self.draw.below(3);
        while let Some(at) = rest.find('{') {
            let Some(end) = rest[at..].find('}').map(|end| at + end) else { break };
            let (kind, argument) = rest[at + 1..end].split_once(':').unwrap_or((&rest[at + 1..end], ""));
            out.push_str(&rest[..at]);
            // A brace of the line itself.
            if !KINDS.contains(&kind) || argument.starts_with('"') {
                out.push('{');
                rest = &rest[at + 1..];
                continue;
            }
            rest = &rest[end + 1..];
            self.value(kind, argument, t_ns, out);
        }
        out.push_str(rest);
    }

    fn value(&mut self, kind: &str, argument: &str, t_ns: i64, out: &mut String) {
        let n: u64 = argument.parse().unwrap_or(10);
        let is_identifier = matches!(kind, "uuid" | "i") || (kind == "x" && n >= 8);
        if is_identifier {
            return self.identifier(kind, n, out);
        }
        let draw = &mut self.draw;
        let _ = match kind {
            "t" => return time(out, argument, t_ns),
            "u" => write!(out, "{}", draw.below(n)),
            "s" => write!(out, "{}", draw.skewed(n)),
            "x" => return hex(out, draw, n),
            "b" => return (0..n).for_each(|_| out.push(char::from(BASE64[draw.below(64) as usize]))),
            "ip" => out.write_str(&self.ips[draw.skewed(IPS as u64) as usize]),
            "w" => out.write_str(WORDS[draw.skewed(WORDS.len() as u64) as usize]),
            "n" => out.write_str(NAMES[draw.skewed(NAMES.len() as u64) as usize]),
            "c" => write!(out, "{}", self.counter),
            "p" => out.write_str(
                argument.split(',').nth(draw.below(argument.split(',').count() as u64) as usize).unwrap_or(""),
            ),
            _ => (0..6).try_for_each(|i| write!(out, "{}{:02x}", if i > 0 { ":" } else { "" }, draw.below(256))),
        };
    }

    /// What happens happens to something, and mostly more than once: two of five identifiers were named before.
    fn identifier(&mut self, kind: &str, n: u64, out: &mut String) {
        let length = if kind == "uuid" { 36 } else { n as usize };
        let is_alike =
            |one: &&String| one.len() == length && one.bytes().all(|byte| byte.is_ascii_digit()) == (kind == "i");
        if self.draw.below(5) < 2 && !self.recent.is_empty() {
            let at = self.draw.below(self.recent.len() as u64) as usize;
            if let Some(found) = self.recent[at..].iter().find(is_alike) {
                return out.push_str(found);
            }
        }
        let from = out.len();
        match kind {
            "i" => (0..n).for_each(|_| out.push(char::from(b'1' + self.draw.below(9) as u8))),
            "x" => hex(out, &mut self.draw, n),
            _ => [8, 4, 4, 4, 12].into_iter().enumerate().for_each(|(i, n)| {
                out.push_str(if i > 0 { "-" } else { "" });
                hex(out, &mut self.draw, n);
            }),
        }
        let one = out[from..].to_owned();
        match self.recent.len() < RECENT {
            true => self.recent.push(one),
            false => self.recent[self.draw.below(RECENT as u64) as usize] = one,
        }
    }
}

fn hex(out: &mut String, draw: &mut Draw, digits: u64) {
    (0..digits).for_each(|_| out.push(char::from(b"0123456789abcdef"[draw.below(16) as usize])));
}

/// Lines of all streams in rising time, so many bytes of text, over a time.
pub struct Lines {
    pub streams: Vec<Stream>,
    draw: Draw,
    t_ns: i64,
    step_ns: u64,
}

impl Lines {
    pub fn new(per_system: usize, start_ns: i64, step_ns: u64) -> Lines {
        Lines { streams: streams(per_system), draw: Draw(7), t_ns: start_ns, step_ns }
    }

    /// The stream of the next line, its time in whole milliseconds, and its text.
    pub fn next_line(&mut self, text: &mut String) -> (usize, i64) {
        let stream = self.draw.below(self.streams.len() as u64) as usize;
        self.t_ns += self.draw.below(2 * self.step_ns) as i64;
        let t_ns = self.t_ns / 1_000_000 * 1_000_000;
        text.clear();
        self.streams[stream].line(t_ns, text);
        (stream, t_ns)
    }
}
