# Sourced by dist_train.sh and dist_test.sh: starts a script once, or as several processes with torch.distributed.run.
# `again` says how to go on after a death.
tools=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

launch() {
    local processes=$1 python=${PYTHON:-python} nodes=${NNODES:-1} port=${PORT:-} cuda cores free
    shift
    if ! [[ $processes =~ ^[0-9]+$ ]]; then
        echo "error: GPU_NUM is $processes; expected a number of GPUs, such as 8" >&2
        exit 2
    fi
    if [ "$processes" -eq 0 ]; then
        exec "$python" "$@" --device cpu
    fi
    if [ "$processes" -eq 1 ] && [ "$nodes" -eq 1 ]; then
        exec "$python" "$@" # on the GPU, if there is one: no launcher is needed
    fi
    read -r cuda cores free < <("$python" -c 'import os, socket, torch
found = socket.create_server(("127.0.0.1", 0))
print(torch.cuda.device_count(), max(2, os.cpu_count() or 1), found.getsockname()[1])')
    if [ "$cuda" -eq 0 ] && [ "$processes" -gt "$cores" ]; then
        echo "error: GPU_NUM is $processes, and this machine has no GPU: give 1 for one process on the CPU, at most $cores" >&2
        exit 2
    fi
    if [ "$cuda" -gt 0 ] && [ "$processes" -gt "$cuda" ]; then
        echo "error: GPU_NUM is $processes, and this machine has $cuda: give $cuda or less. The learning rate belongs to the" \
            "published batch; train.py says which, and how to keep it" >&2
        exit 2
    fi
    # several machines must agree on the port; on one, two runs take two
    [ -n "$port" ] || if [ "$nodes" -eq 1 ]; then port=$free; else port=29500; fi
    # one thread a process unless told otherwise, as torch.distributed.run itself would choose, with a warning
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    # torch.distributed.run ends with 1 whatever its processes say; the first of them leaves its exit status here
    NOISY_INSTSEG_STATUS=$(mktemp)
    export NOISY_INSTSEG_STATUS
    trap 'rm -f "$NOISY_INSTSEG_STATUS"' EXIT
    local status=0
    "$python" -m torch.distributed.run --nnodes="$nodes" --node_rank="${NODE_RANK:-0}" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="$port" --nproc_per_node="$processes" \
        "$@" --launcher pytorch || status=$?
    if [ -s "$NOISY_INSTSEG_STATUS" ]; then
        read -r status <"$NOISY_INSTSEG_STATUS"
    elif [ "$status" -ne 0 ]; then
        echo "error: a process of the run died, as is said above, and ended the others with it: $again" >&2
    fi
    exit "$status"
}
