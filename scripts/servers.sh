# What the tests talk to: PostgreSQL, Redis and RabbitMQ. Sourced by scripts/test, whose `need`, `run`, `count_failure` and
# `scratch` it uses. A server that answers on its usual port is used; otherwise a private one is started in a folder of its
# own and stopped by `stop_servers`. Sets TEST_DATABASE_URL, TEST_REDIS_URL and TEST_AMQP_URL, unless they are set.

cluster=     # folder of the private PostgreSQL
as_server=() # how its programs are called
redis=       # process of the private Redis
rabbit=      # folder of the private RabbitMQ

stop_servers() {
  if [[ -n $cluster ]]; then
    "${as_server[@]}" "$bin/pg_ctl" -D "$cluster/data" -m immediate stop >/dev/null 2>&1
    rm -rf "$cluster"
  fi
  [[ -n $redis ]] && kill "$redis" 2>/dev/null
  if [[ -n $rabbit ]]; then
    as_rabbit rabbitmqctl stop --idempotent >/dev/null 2>&1
    kill "$rabbit_server" 2>/dev/null
    # The daemon by which nodes find each other outlives its last one.
    as_rabbit epmd -kill >/dev/null 2>&1
    rm -rf "$rabbit"
  fi
  cluster= redis= rabbit=
}

# A port that nobody uses, below the range that the system hands out by itself.
free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)); (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null; do :; done
  echo "$port"
}

# until_true SECONDS COMMAND…
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

# Sets bin to the newest installation of PostgreSQL. Debian keeps it off the PATH.
has_postgres() {
  local found
  found=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb | grep -v '\*' | sort -V | tail -n 1)
  [[ -n $found ]] || found=$(command -v initdb) || return 1
  bin=$(dirname "$found")
}

postgres_answers() {
  command -v psql >/dev/null || return 1
  local version
  version=$(PGCONNECT_TIMEOUT=3 psql -w -h 127.0.0.1 -p 5432 -U postgres -Atc 'show server_version_num' 2>/dev/null)
  ((${version:-0} >= 150000))
}

# How the tests' server is set: what a crash of the machine would lose does not matter there.
for_tests=(-c max_connections=300 -c fsync=off -c synchronous_commit=off -c full_page_writes=off)

# start_postgres SETTING…: sets TEST_DATABASE_URL. A socket of the system leads to it too, in its own folder.
start_postgres() {
  local port attempt
  cluster=$(mktemp -d) || return 1
  if ((EUID == 0)); then
    # the server refuses to run as root
    local user=nobody
    id postgres >/dev/null 2>&1 && user=postgres
    chown "$user" "$cluster"
    as_server=(runuser -u "$user" --)
  fi
  (cd "$cluster" && "${as_server[@]}" "$bin/initdb" -D "$cluster/data" -U postgres -A trust -E UTF8 --no-sync) \
    >"$scratch/initdb" 2>&1 || { cat "$scratch/initdb" && return 1; }
  for attempt in 1 2 3 4 5; do
    port=$(free_port)
    if (cd "$cluster" && "${as_server[@]}" "$bin/pg_ctl" -D "$cluster/data" -l "$cluster/log" -w -t 60 -o "-p $port \
      -c listen_addresses=127.0.0.1 -c unix_socket_directories=$cluster $*" start) >/dev/null 2>&1 </dev/null; then
      export TEST_DATABASE_URL=postgres://postgres@127.0.0.1:$port/postgres
      printf 'PostgreSQL: a private server on port %d\n' "$port"
      return
    fi
    printf 'PostgreSQL: attempt %d to start failed\n' "$attempt"
  done
  tail -n 5 "$cluster/log"
  return 1
}

bring_up_postgres() {
  if [[ -n ${TEST_DATABASE_URL:-} ]]; then
    echo 'PostgreSQL: the server of TEST_DATABASE_URL'
  elif postgres_answers; then
    export TEST_DATABASE_URL=postgres://postgres@127.0.0.1:5432/postgres
    echo 'PostgreSQL: the server on port 5432'
  elif need PostgreSQL has_postgres postgresql; then
    start_postgres "${for_tests[@]}" || count_failure 'PostgreSQL does not start'
  fi
}

has_redis() { command -v redis-server >/dev/null; }

# redis_answers PORT
redis_answers() {
  local answer
  (
    exec 3<>/dev/tcp/127.0.0.1/"$1" || exit 1
    printf 'PING\r\n' >&3
    read -r -t 3 answer <&3
    [[ $answer == +PONG* ]]
  ) 2>/dev/null
}

start_redis() {
  local port
  port=$(free_port)
  redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$scratch" >"$scratch/redis" 2>&1 &
  redis=$!
  until_true 20 redis_answers "$port" || { tail -n 5 "$scratch/redis" && return 1; }
  export TEST_REDIS_URL=redis://127.0.0.1:$port
  printf 'Redis: a private server on port %d\n' "$port"
}

bring_up_redis() {
  if [[ -n ${TEST_REDIS_URL:-} ]]; then
    echo 'Redis: the server of TEST_REDIS_URL'
  elif redis_answers 6379; then
    export TEST_REDIS_URL=redis://127.0.0.1:6379
    echo 'Redis: the server on port 6379'
  elif need Redis has_redis redis-server; then
    start_redis || count_failure 'Redis does not start'
  fi
}

has_rabbit() { command -v rabbitmq-server >/dev/null; }

# rabbit_answers PORT: a broker answers whatever is no AMQP with the version that it speaks
rabbit_answers() {
  local answer
  (
    exec 3<>/dev/tcp/127.0.0.1/"$1" || exit 1
    printf 'hello123' >&3
    read -r -t 3 -N 4 answer <&3
    [[ $answer == AMQP ]]
  ) 2>/dev/null
}

# The node and its tools agree on a name, a cookie (in HOME) and a port; nothing of it touches another node.
as_rabbit() {
  env HOME="$rabbit" ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$rabbit_epmd_port" RABBITMQ_NODENAME="gateway-test-$$@localhost" RABBITMQ_NODE_PORT="$rabbit_port" \
    RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_DIST_PORT="$rabbit_dist_port" RABBITMQ_MNESIA_BASE="$rabbit/data" \
    RABBITMQ_LOG_BASE="$rabbit/log" RABBITMQ_ENABLED_PLUGINS_FILE="$rabbit/plugins" RABBITMQ_CONFIG_FILE="$rabbit/config" \
    RABBITMQ_SERVER_START_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' "$@"
}

start_rabbit() {
  rabbit=$(mktemp -d) && rabbit_port=$(free_port) && rabbit_dist_port=$(free_port) && rabbit_epmd_port=$(free_port) || return 1
  mkdir "$rabbit/data" "$rabbit/log" && echo '[].' >"$rabbit/plugins" && : >"$rabbit/config.conf"
  local server=/usr/lib/rabbitmq/bin
  # Debian's wrappers change to a user of their own, who may not read this folder.
  [[ -x $server/rabbitmq-server ]] && PATH=$server:$PATH
  as_rabbit rabbitmq-server >"$scratch/rabbit" 2>&1 &
  rabbit_server=$!
  until_true 60 rabbit_answers "$rabbit_port" || { tail -n 5 "$scratch/rabbit" && return 1; }
  export TEST_AMQP_URL=amqp://guest:guest@127.0.0.1:$rabbit_port/%2f
  printf 'RabbitMQ: a private broker on port %d\n' "$rabbit_port"
}

bring_up_rabbit() {
  if [[ -n ${TEST_AMQP_URL:-} ]]; then
    echo 'RabbitMQ: the broker of TEST_AMQP_URL'
  elif rabbit_answers 5672; then
    export TEST_AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f
    echo 'RabbitMQ: the broker on port 5672'
  elif need RabbitMQ has_rabbit rabbitmq-server; then
    start_rabbit || count_failure 'RabbitMQ does not start'
  fi
}
