#!/usr/bin/env bash
# Runs the fuzz targets named, or all, one after the other, for FUZZ_SECONDS (60) each. Corpora, findings and everything
# that is built stay under target/fuzz. Stops at the first finding, and says how to run it again.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$PWD/target/fuzz
export PATH=$work/tools/bin:$PATH
# The coverage passes are unstable options of rustc.
export RUSTC_BOOTSTRAP=1
cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked --root "$work/tools"

# One file per line of the input, named for its place.
each_line() { # target
    mkdir -p "$work/seeds/$1"
    split -l 1 -a 4 - "$work/seeds/$1/line"
}

rm -rf "$work/seeds"
evaluated='s/^eval[a-z_]* (log|instant at [^ ]+|range from [^ ]+ to [^ ]+ step [^ ]+) ((backward|limit [0-9]+) )*//p'
sed -nE "$evaluated" lib/query/testdata/*.test | each_line promql_parse
cp -r "$work/seeds/promql_parse" "$work/seeds/promql_print"
evaluated='s/^ *eval (select from [^ ]+ to [^ ]+( forward| backward)?( limit [0-9]+)?|instant at [^ ]+|range from [^ ]+ to [^ ]+ step [^ ]+) //p'
sed -nE "$evaluated" lib/query/testdata/logql/*.logqltest | each_line logql_parse
grep -hE '^  [^ ]*\{?.* ' lib/query/testdata/*.test | sed 's/^  //' | each_line script
mkdir -p "$work/seeds"/{record,part,exposition,remote_write,otlp,import}
cp lib/bus/testdata/record-*.bin "$work/seeds/record"
cp tsdb/testdata/*.part "$work/seeds/part"
printf '# TYPE a counter\na_total{b="c\\n",d="e"} 1.5 1700000000000\n"f g" NaN\n{"h.i"} +Inf\n' >"$work/seeds/exposition/prometheus"
printf '# HELP a b\na_total{b="c"} 1 1.5 # {t="x"} 2 1.25\n# EOF\n' >"$work/seeds/exposition/openmetrics"
# One series x{a="b"} with one sample, as 1.0 and as 2.0.
printf '\n)\n\r\n\b__name__\22\1x\n\6\n\1a\22\1b\22\20\t\0\0\0\0\0\0\370?\20\200\300\266\370\364)' >"$work/seeds/remote_write/1.0"
printf '"\0"\b__name__"\1x"\1a"\1b*\30\n\4\1\2\3\4\22\20\t\0\0\0\0\0\0\370?\20\200\300\266\370\364)' >"$work/seeds/remote_write/2.0"

histogram='"timeUnixNano":"1728000000000000000","count":"3","sum":1.5'
for metric in '"sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{"timeUnixNano":"1728000000000000000","asInt":"3"}]}' \
    '"histogram":{"aggregationTemporality":2,"dataPoints":[{'"$histogram"',"bucketCounts":[1,2],"explicitBounds":[0.5]}]}' \
    '"exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{'"$histogram"',"scale":9,"positive":{"offset":2,"bucketCounts":[1,0,2]}}]}'; do
    echo '{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},"scopeMetrics":[{"metrics":[{"name":"a.b","unit":"By/s",'"$metric"'}]}]}]}'
done | each_line otlp
printf '%s\n' 'cpu,host=a\ b,db=c usage=1.5,n=2i,s="x y",up=t 1728000000000000000' 'a.b;c=d 1.5 1728000000' \
    '{"metric":{"__name__":"a"},"values":[1,null,"NaN"],"timestamps":[1,2,1728000000000]}' '/metrics/job@base64/YQ==/b/c' | each_line import

now=1700000000000000000
echo '{"streams":[{"stream":{"a":"b"},"values":[["'$now'","x",{"c":"d"}],["'$now'","y"]]}]}' | each_line push
# {a="b"} with the line x.
printf '\030\134\012\026\012\007{a="b"}\022\013\012\006\010\200\342\317\252\006\022\001x' >"$work/seeds/push/protobuf"
echo '{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},"scopeLogs":[{"scope":{"name":"n"},"logRecords":[{"timeUnixNano":"'$now'","severityNumber":9,"traceId":"0102030405060708090a0b0c0d0e0f10","body":{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"doubleValue":1.5}]}}}]}},"attributes":[{"key":"b","value":{"boolValue":true}}]}]}]}]}' | each_line otlp_logs
mkdir -p "$work/seeds/bulk"
printf '{"create":{"_index":"i"}}\n{"@timestamp":"2023-11-14T22:13:20Z","message":"x","host":{"name":"h"},"n":[1]}\n{"delete":{}}\n{"index":{}}\n{"a":1,"ts":1700000000.5}\n' >"$work/seeds/bulk/three"
printf '%s\n' '2026-11-20T06:25:00Z stdout P a' '{"log":"a\n","stream":"stderr","time":"2026-11-20T06:25:00Z"}' \
    '<11>1 2026-11-20T06:25:00Z h a 7 - [x a="b"] it failed' 'Nov 20 06:25:00 h a[7]: x' 'E1120 06:25:00.000000 1 a.go:1] x' \
    'ts=2026-11-20T06:25:00Z level=warn msg="a b"' '::1 - - [20/Nov/2026:07:25:00 +0100] "GET / HTTP/1.1" 404 12 "-" "curl/8"' \
    'Traceback (most recent call last):' | each_line log_lines
printf '%s\n' '5 <1>a6 <2>bc<3>d' '<11>1 2026-11-20T06:25:00Z h a 7 - - x' | each_line syslog_frames
mkdir -p "$work/seeds"/{log_checkpoint,exposition_protobuf}
# A counter `a` of 1, behind its length.
printf '\022\012\001a\030\0\042\013\032\011\011\0\0\0\0\0\0\360?' >"$work/seeds/exposition_protobuf/counter"
echo '[{"targets":["a:1","b"],"labels":{"c":"d"}}]' | each_line discovery
cp agent/testdata/checkpoint-v1.json "$work/seeds/log_checkpoint"

cp Cargo.lock fuzz/Cargo.lock
[ $# -gt 0 ] || set -- $(cargo fuzz list --fuzz-dir fuzz)
for target in "$@"; do
    corpus=$work/corpus/$target artifacts=$work/artifacts/$target
    mkdir -p "$corpus" "$artifacts" "$work/seeds/$target"
    words=()
    [ -f "fuzz/words/$target" ] && words=("-dict=fuzz/words/$target")
    # No address sanitizer: there is no unsafe code here to be caught, and memory is bounded by what the process takes.
    nice cargo fuzz run --fuzz-dir fuzz --sanitizer none --target-dir "$work/build" "$target" "$corpus" "$work/seeds/$target" -- \
        -max_total_time="${FUZZ_SECONDS:-60}" -max_len=4096 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$artifacts/" "${words[@]}"
done
