#!/usr/bin/env bash
# One Apache Kafka node (KRaft) for the tests.
#
#   tests/kafka.sh start DIR   starts a broker with its data under DIR and prints BINNACLE_TEST_KAFKA=127.0.0.1:PORT
#   tests/kafka.sh kill DIR    kills it, as a crash would
#   tests/kafka.sh again DIR   starts it where it was, on what it had
#   tests/kafka.sh stop DIR    stops it and deletes what it wrote
#
# The jars come from Maven Central, once, into ${XDG_CACHE_HOME:-$HOME/.cache}/binnacle/kafka.
# Java and Maven are installed by apt-get where they are missing. Everything but the last line goes to stderr.
set -euo pipefail

KAFKA_VERSION=4.1.1
START_SECONDS=90

say() { echo "kafka.sh: $*" >&2; }
die() { say "$*"; exit 1; }

ensure() { # COMMAND PACKAGE
    command -v "$1" >/dev/null && return
    command -v apt-get >/dev/null || die "$1 is missing and there is no apt-get: install $2"
    say "$1 is missing: installing $2 with apt-get"
    local sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$2" >&2
}

fetch_jars() { # CACHE
    [ -e "$1/complete" ] && return
    ensure mvn maven
    say "fetching Kafka $KAFKA_VERSION into $1"
    # Built beside and renamed, so that two at once do not meet half a cache.
    local building="$1.$$"
    mkdir -p "$building"
    cat >"$building/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>binnacle</groupId><artifactId>test-kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
    (cd "$building" && mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=lib) >&2
    touch "$building/complete"
    mv -T "$building" "$1" 2>/dev/null || rm -rf "$building"
    [ -e "$1/complete" ] || die "the cache $1 is incomplete: delete it"
}

# Java chooses nothing by itself here: the listeners are written down before it starts.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}

kafka() { # CLASS ARGUMENT...
    java -Xmx512m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$cache/lib/*" "$@"
}

start() { # DIR
    ensure java default-jre-headless
    cache="${XDG_CACHE_HOME:-$HOME/.cache}/binnacle/kafka-$KAFKA_VERSION"
    mkdir -p "$(dirname "$cache")" "$1"
    fetch_jars "$cache"
    local dir port controller
    dir=$(cd "$1" && pwd)
    [ ! -e "$dir/pid" ] || die "$dir/pid exists: a broker runs there, stop it first"
    port=$(free_port)
    controller=$(free_port)
    while [ "$controller" = "$port" ]; do controller=$(free_port); done
    cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:$controller
log.dirs=$dir/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
PROPERTIES
    local id
    id=$(kafka kafka.tools.StorageTool random-uuid 2>>"$dir/kafka.log" | tail -n 1)
    kafka kafka.tools.StorageTool format --standalone -t "$id" -c "$dir/server.properties" >>"$dir/kafka.log" 2>&1 ||
        { cat "$dir/kafka.log" >&2; die "formatting the storage failed"; }
    run "$dir" "$port"
    echo "BINNACLE_TEST_KAFKA=127.0.0.1:$port"
}

# Starts what is configured, and waits until it answers.
run() { # DIR PORT
    local dir=$1 port=$2
    java -Xmx512m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$cache/lib/*" \
        kafka.Kafka "$dir/server.properties" >>"$dir/kafka.log" 2>&1 </dev/null &
    local pid=$!
    echo "$pid" >"$dir/pid"
    local deadline=$((SECONDS + START_SECONDS))
    until answers "$port"; do
        kill -0 "$pid" 2>/dev/null || { cat "$dir/kafka.log" >&2; rm -f "$dir/pid"; die "Kafka ended while starting"; }
        [ "$SECONDS" -lt "$deadline" ] || { cat "$dir/kafka.log" >&2; stop "$dir"; die "Kafka did not answer within $START_SECONDS s"; }
        sleep 0.3
    done
}

again() { # DIR
    cache="${XDG_CACHE_HOME:-$HOME/.cache}/binnacle/kafka-$KAFKA_VERSION"
    [ ! -e "$1/pid" ] || die "$1/pid exists: a broker runs there"
    run "$1" "$(sed -n 's/^listeners=PLAINTEXT:\/\/127.0.0.1:\([0-9]*\).*/\1/p' "$1/server.properties")"
}

# A process id may have been given to somebody else since.
is_broker() { tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -q "kafka.Kafka"; }

crash() { # DIR
    local pid
    pid=$(cat "$1/pid")
    ! is_broker "$pid" || kill -9 "$pid"
    while is_broker "$pid"; do sleep 0.1; done
    rm "$1/pid"
}

# The broker opens its port once it is registered with the controller.
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

stop() { # DIR
    [ -e "$1/pid" ] || { say "no broker was started in $1"; return; }
    local pid
    pid=$(cat "$1/pid")
    if is_broker "$pid"; then
        kill "$pid"
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -9 "$pid" 2>/dev/null || true
    fi
    rm -rf "$1/data" "$1/pid" "$1/server.properties" "$1/kafka.log"
}

case "${1:-} ${2:-}" in
    "start "?*) start "$2" ;;
    "kill "?*) crash "$2" ;;
    "again "?*) again "$2" ;;
    "stop "?*) stop "$2" ;;
    *) die "usage: tests/kafka.sh start|kill|again|stop DIR" ;;
esac
