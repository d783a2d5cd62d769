//! `logs`: what is read, what becomes of it on the way, and where it goes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use model::{ByteSize, DurationMs, RelabelConfig};
use regex::Regex;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::discovery::check_url;
use super::http_fields::with_http;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logs {
    pub sources: Vec<LogSource>,
    /// Where lines go; the bus of this process, or the push URL, when there are none.
    pub sinks: Vec<LogSink>,
    /// Lines older than this are dropped and counted; the retention of lines in this process when left out.
    pub max_age: Option<DurationMs>,
    pub kubernetes: Option<KubernetesMetadata>,
}

/// Files to tail, a listener for syslog, or what Kubernetes tells.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSource {
    pub paths: Vec<String>,
    pub syslog: Option<SyslogListener>,
    pub kubernetes: Option<KubernetesSource>,
    pub exclude: Vec<String>,
    pub format: LogLineFormat,
    /// For `format: regex`: named groups become fields.
    pub pattern: Option<LinePattern>,
    /// Fields of a line that become structured metadata.
    pub fields: Vec<String>,
    pub timestamp: Option<Timestamp>,
    pub multiline: Option<Multiline>,
    pub labels: BTreeMap<String, String>,
    /// A name, in which `${label}` stands for a label's value.
    pub tenant: Option<String>,
    /// Steps on a file's labels; a file whose labels are dropped is not read.
    pub relabel_configs: Vec<RelabelConfig>,
    pub transforms: Vec<Transform>,
    pub rate_limit: Option<RateLimit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLineFormat {
    /// Decided per file, by its first lines.
    #[default]
    Auto,
    Cri,
    Docker,
    Syslog,
    Klog,
    Json,
    Logfmt,
    /// nginx' and Apache's access logs: common and combined.
    Access,
    /// nginx' and Apache's error logs.
    Error,
    Regex,
    Plain,
}

/// A regular expression over lines, compiled.
#[derive(Debug, Clone)]
pub struct LinePattern(pub Regex);

impl<'de> Deserialize<'de> for LinePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Regex::new(&String::deserialize(deserializer)?).map(LinePattern).map_err(de::Error::custom)
    }
}

/// Where a line's time is, and how it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timestamp {
    pub field: String,
    /// `rfc3339` (the default), `unix`, `unix_ms`, `unix_us`, `unix_ns`, or strftime's directives.
    pub format: Option<String>,
    /// Of times that name none: `UTC`, `local`, `+01:00`, or a name such as `Europe/Paris`.
    pub zone: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Traces {
    Java,
    Python,
    Go,
    Ruby,
    #[serde(alias = "js")]
    Javascript,
    Rust,
    Klog,
    /// Any of the languages.
    Auto,
}

/// Which lines belong together: a language's traces, or all up to the next line that matches `start`.
#[derive(Debug, Clone)]
pub struct Multiline {
    pub rule: MultilineRule,
    /// An event that nothing was added to for this long is over.
    pub timeout: DurationMs,
}

#[derive(Debug, Clone)]
pub enum MultilineRule {
    Traces(Traces),
    Start(regex::bytes::Regex),
}

impl Multiline {
    /// Traces of any language.
    pub fn traces() -> Multiline {
        Multiline { rule: MultilineRule::Traces(Traces::Auto), timeout: MULTILINE_TIMEOUT }
    }
}

const MULTILINE_TIMEOUT: DurationMs = DurationMs(1000);

impl<'de> Deserialize<'de> for Multiline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MultilineVisitor)
    }
}

struct MultilineVisitor;

impl<'de> Visitor<'de> for MultilineVisitor {
    type Value = Multiline;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a language, or {start: REGEX}, or {language: NAME}, with an optional timeout")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Multiline, E> {
        let traces = Traces::deserialize(de::value::StrDeserializer::new(name))?;
        Ok(Multiline { rule: MultilineRule::Traces(traces), timeout: MULTILINE_TIMEOUT })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Multiline, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            start: Option<String>,
            language: Option<Traces>,
            timeout: Option<DurationMs>,
        }
        let fields = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
        let rule = match (fields.start, fields.language) {
            (Some(start), None) => MultilineRule::Start(regex::bytes::Regex::new(&start).map_err(de::Error::custom)?),
            (None, Some(language)) => MultilineRule::Traces(language),
            _ => return Err(de::Error::custom("multiline needs either start or language")),
        };
        Ok(Multiline { rule, timeout: fields.timeout.unwrap_or(MULTILINE_TIMEOUT) })
    }
}

/// One step on lines, in the order written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transform {
    /// Lines that match are dropped.
    pub drop: Option<LinePattern>,
    /// Lines that do not match are dropped.
    pub keep: Option<LinePattern>,
    pub redact: Option<Redact>,
    /// This share of lines is kept, chosen by their text, so that the same line always meets the same fate.
    pub sample: Option<f64>,
    /// Structured metadata that is taken off.
    pub drop_fields: Vec<String>,
}

/// What is blotted out: by a regular expression, or by a preset.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redact {
    pub regex: Option<LinePattern>,
    pub presets: Vec<RedactPreset>,
    /// What is written instead; `$1` and `${name}` stand for groups.
    pub replacement: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedactPreset {
    Email,
    Ip,
    CreditCard,
    BearerToken,
    Password,
    AwsKey,
    PrivateKey,
}

/// Lines over the limit are dropped and counted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    pub lines_per_second: Option<u64>,
    pub bytes_per_second: Option<ByteSize>,
    /// How many seconds' worth may come at once: 10 when left out.
    pub burst_seconds: Option<u64>,
    pub by: RateLimitBy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateLimitBy {
    #[default]
    File,
    Pod,
    Namespace,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyslogListener {
    pub listen: String,
    pub protocol: SyslogProtocol,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyslogProtocol {
    #[default]
    Tcp,
    Udp,
    Tls,
}

/// What the API server tells that are lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KubernetesSource {
    /// The events of the whole cluster: for one agent of it.
    Events,
    /// How containers of this node's pods ended.
    Terminations,
}

with_http!(
    /// The API server, named as `kubernetes_sd_configs` does: that of the cluster we run in when nothing is.
    KubernetesApi {
        api_server: String = String::new(),
        kubeconfig_file: Option<PathBuf> = None,
    }
);

/// Where more is known about pods than their log files' names tell.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesMetadata {
    /// The API server's pods of this node are watched, where the kubelet is not asked.
    pub api: Option<KubernetesApi>,
    /// `https://NODE:10250`: the kubelet's list of pods is asked for.
    pub kubelet_url: String,
    pub token_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub insecure_skip_verify: bool,
    pub interval: Option<DurationMs>,
    /// Labels and annotations of pods that become labels of lines; `*` stands for any run of characters.
    pub labels: Vec<String>,
    pub annotations: Vec<String>,
}

/// One place where lines go. Fields that a type does not know are refused.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSink {
    #[serde(rename = "type")]
    pub kind: SinkKind,
    /// Names its checkpoint; its type when left out.
    pub name: Option<String>,
    pub url: Option<String>,
    pub bearer_token: Option<String>,
    pub bearer_token_file: Option<PathBuf>,
    pub username: Option<String>,
    pub password: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub timeout: Option<DurationMs>,
    /// Kafka: brokers, topic and key, in which `${label}` stands for a label's value, and settings of librdkafka.
    pub brokers: Option<String>,
    pub topic: Option<String>,
    pub key: Option<String>,
    pub options: BTreeMap<String, String>,
    /// Elasticsearch: the index, in which `${label}` stands for a label's value.
    pub index: Option<String>,
    /// A file's path.
    pub path: Option<PathBuf>,
    /// How lines are written to files, standard output and Kafka.
    pub encoding: SinkEncoding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkKind {
    #[default]
    Bus,
    Binnacle,
    Loki,
    Kafka,
    Elasticsearch,
    File,
    Stdout,
    Blackhole,
}

impl SinkKind {
    pub fn name(self) -> &'static str {
        match self {
            SinkKind::Bus => "bus",
            SinkKind::Binnacle => "binnacle",
            SinkKind::Loki => "loki",
            SinkKind::Kafka => "kafka",
            SinkKind::Elasticsearch => "elasticsearch",
            SinkKind::File => "file",
            SinkKind::Stdout => "stdout",
            SinkKind::Blackhole => "blackhole",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkEncoding {
    /// One object a line: time, labels, metadata, line.
    #[default]
    Json,
    /// The line as it is.
    Text,
}

impl Logs {
    /// Every fault names its field.
    pub fn validate(&self) -> Result<(), String> {
        for (i, source) in self.sources.iter().enumerate() {
            source.validate().map_err(|fault| format!("logs.sources[{i}]{fault}"))?;
        }
        let mut names = std::collections::HashSet::new();
        for (i, sink) in self.sinks.iter().enumerate() {
            sink.validate().map_err(|fault| format!("logs.sinks[{i}]{fault}"))?;
            if !names.insert(sink.name()) {
                return Err(format!("logs.sinks[{i}].name: another sink is named {:?}", sink.name()));
            }
        }
        self.validate_kubernetes()
    }

    fn validate_kubernetes(&self) -> Result<(), String> {
        let api = self.kubernetes.as_ref().and_then(|kubernetes| kubernetes.api.as_ref());
        if let Some(api) = api {
            let fault = |fault: String| format!("logs.kubernetes.api: {fault}");
            api.http(Path::new("")).map_err(fault)?;
            if !api.api_server.is_empty() {
                check_url(&api.api_server).map_err(fault)?;
                if api.kubeconfig_file.is_some() {
                    return Err(fault("cannot use 'kubeconfig_file' and 'api_server' simultaneously".to_owned()));
                }
            }
        }
        let mut told = std::collections::HashSet::new();
        for (i, source) in self.sources.iter().enumerate() {
            let Some(kind) = source.kubernetes else { continue };
            if api.is_none() {
                return Err(format!("logs.sources[{i}].kubernetes: needs logs.kubernetes.api ({{}} within a cluster)"));
            }
            if !told.insert(kind) {
                return Err(format!("logs.sources[{i}].kubernetes: another source is of this kind"));
            }
        }
        match &self.kubernetes {
            Some(kubernetes) if kubernetes.kubelet_url.is_empty() && api.is_none() => {
                Err("logs.kubernetes: either kubelet_url or api is needed".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl LogSource {
    fn validate(&self) -> Result<(), String> {
        match [!self.paths.is_empty(), self.syslog.is_some(), self.kubernetes.is_some()]
            .iter()
            .filter(|is| **is)
            .count()
        {
            0 => return Err(": paths is empty".to_owned()),
            1 => {}
            _ => return Err(": paths, syslog and kubernetes are sources of their own".to_owned()),
        }
        if let Some(syslog) = &self.syslog {
            if syslog.listen.is_empty() {
                return Err(".syslog.listen: is missing".to_owned());
            }
            let has_pair = syslog.cert_file.is_some() && syslog.key_file.is_some();
            if has_pair != (syslog.protocol == SyslogProtocol::Tls) {
                return Err(".syslog: protocol tls needs cert_file and key_file, and only it".to_owned());
            }
        }
        if (self.format == LogLineFormat::Regex) != self.pattern.is_some() {
            return Err(".pattern: format regex needs one, and only it".to_owned());
        }
        if self.timestamp.as_ref().is_some_and(|timestamp| timestamp.field.is_empty()) {
            return Err(".timestamp.field: is missing".to_owned());
        }
        for (i, transform) in self.transforms.iter().enumerate() {
            transform.validate().map_err(|fault| format!(".transforms[{i}]{fault}"))?;
        }
        let zero = |limit: Option<u64>| limit == Some(0);
        match &self.rate_limit {
            Some(limit) if zero(limit.lines_per_second) || zero(limit.bytes_per_second.map(|bytes| bytes.0)) => {
                Err(".rate_limit: a limit of 0 would drop everything".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl Transform {
    fn validate(&self) -> Result<(), String> {
        let steps = [
            self.drop.is_some(),
            self.keep.is_some(),
            self.redact.is_some(),
            self.sample.is_some(),
            !self.drop_fields.is_empty(),
        ];
        if steps.iter().filter(|is_set| **is_set).count() != 1 {
            return Err(": is one of drop, keep, redact, sample, drop_fields".to_owned());
        }
        if self.sample.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            return Err(".sample: is a share between 0 and 1".to_owned());
        }
        match &self.redact {
            Some(redact) if redact.regex.is_none() && redact.presets.is_empty() => {
                Err(".redact: needs a regex or presets".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl LogSink {
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.kind.name())
    }

    fn validate(&self) -> Result<(), String> {
        let needed = match self.kind {
            SinkKind::Binnacle | SinkKind::Loki | SinkKind::Elasticsearch => ("url", self.url.is_some()),
            SinkKind::Kafka if self.brokers.is_none() => ("brokers", false),
            SinkKind::Kafka => ("topic", self.topic.is_some()),
            SinkKind::File => ("path", self.path.is_some()),
            SinkKind::Bus | SinkKind::Stdout | SinkKind::Blackhole => ("", true),
        };
        if !needed.1 {
            return Err(format!(".{}: a sink of type {} needs it", needed.0, self.kind.name()));
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if self.name().is_empty() || self.name().len() > 64 || !self.name().chars().all(is_name) {
            return Err(".name: is made of letters, digits, - and _".to_owned());
        }
        self.check_fields()
    }

    /// What is set must be known to the type.
    fn check_fields(&self) -> Result<(), String> {
        use SinkKind::{Binnacle, Elasticsearch, File, Kafka, Loki, Stdout};
        let http: &[SinkKind] = &[Binnacle, Loki, Elasticsearch];
        let fields: [(&str, bool, &[SinkKind]); 14] = [
            ("url", self.url.is_some(), http),
            ("bearer_token", self.bearer_token.is_some(), http),
            ("bearer_token_file", self.bearer_token_file.is_some(), http),
            ("username", self.username.is_some(), &[Loki, Elasticsearch]),
            ("password", self.password.is_some(), &[Loki, Elasticsearch]),
            ("headers", !self.headers.is_empty(), &[Loki, Elasticsearch]),
            ("timeout", self.timeout.is_some(), http),
            ("brokers", self.brokers.is_some(), &[Kafka]),
            ("topic", self.topic.is_some(), &[Kafka]),
            ("key", self.key.is_some(), &[Kafka]),
            ("options", !self.options.is_empty(), &[Kafka]),
            ("index", self.index.is_some(), &[Elasticsearch]),
            ("path", self.path.is_some(), &[File]),
            ("encoding", self.encoding != SinkEncoding::Json, &[Kafka, File, Stdout]),
        ];
        for (field, is_set, kinds) in fields {
            if is_set && !kinds.contains(&self.kind) {
                return Err(format!(".{field}: means nothing to a sink of type {}", self.kind.name()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), &str>) {
        let parsed = serde_saphyr::from_str::<Logs>(text).map_err(|error| error.to_string());
        match (parsed.and_then(|logs| logs.validate()), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.contains(part), "{error} does not say {part:?}"),
            (got, expected) => panic!("{text}: {got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn sources_are_checked() {
        check("sources: [{paths: [a], multiline: java, tenant: '${namespace}'}]", Ok(()));
        check("sources: [{paths: [a], multiline: {start: '^x', timeout: 5s}}]", Ok(()));
        check("sources: [{paths: [a], multiline: cobol}]", Err("cobol"));
        check("sources: [{paths: [a], multiline: {start: '('}}]", Err("unclosed group"));
        check("sources: [{paths: [a], multiline: {strat: x}}]", Err("strat"));
        check("sources: [{format: cri}]", Err("logs.sources[0]: paths is empty"));
        check("sources: [{paths: [a], format: regex}]", Err("pattern"));
        check("sources: [{paths: [a], format: regex, pattern: '(?<a>x)', timestamp: {field: a}}]", Ok(()));
        check("sources: [{paths: [a], timestamp: {zone: UTC}}]", Err("timestamp.field"));
        check("sources: [{paths: [a], transforms: [{drop: x}, {redact: {presets: [email]}}, {sample: 0.5}]}]", Ok(()));
        check("sources: [{paths: [a], transforms: [{}]}]", Err("transforms[0]: is one of"));
        check("sources: [{paths: [a], transforms: [{sample: 2}]}]", Err("share"));
        check("sources: [{paths: [a], rate_limit: {lines_per_second: 0}}]", Err("rate_limit"));
        check("sources: [{syslog: {listen: ':514', protocol: udp}}]", Ok(()));
        check("sources: [{syslog: {listen: ':514', protocol: tls}}]", Err("cert_file"));
        check("sources: [{syslog: {listen: ':514'}, paths: [a]}]", Err("sources of their own"));
    }

    #[test]
    fn sinks_are_checked() {
        check("sinks: [{type: loki, url: 'http://x'}, {type: blackhole}]", Ok(()));
        check("sinks: [{type: loki}]", Err("logs.sinks[0].url: a sink of type loki needs it"));
        check("sinks: [{type: stdout, topic: x}]", Err("topic: means nothing to a sink of type stdout"));
        check("sinks: [{type: bus}, {type: bus}]", Err("another sink"));
        check("sinks: [{type: blackhole, name: '../x'}]", Err("letters"));
        check("sinks: [{type: pigeon}]", Err("pigeon"));
        check("kubernetes: {labels: [app]}", Err("kubelet_url"));
        check("kubernetes: {api: {}}\nsources: [{kubernetes: events}, {kubernetes: terminations}]", Ok(()));
        check("sources: [{kubernetes: events}]", Err("sources[0].kubernetes: needs logs.kubernetes.api"));
        check("kubernetes: {api: {}}\nsources: [{kubernetes: events}, {kubernetes: events}]", Err("of this kind"));
        check("kubernetes: {api: {api_server: x}}", Err("logs.kubernetes.api: URL scheme"));
        check("kubernetes: {api: {}}\nsources: [{kubernetes: events, paths: [a]}]", Err("sources of their own"));
    }
}
